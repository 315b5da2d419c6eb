//! The bus over real TLS: the broker and its clients, our clients with Mosquitto's broker, its
//! clients with ours, and boards that speak over several brokers while those come and go.

mod attacks;
mod boards;
mod bounds;
mod broker;
mod external;
mod mosquitto;
mod rules;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_bus::broker::Broker;
use edge_bus::session::{Event, Session, SessionConfig};
use edge_bus::{BrokerAddress, Target, TlsPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls;

use crate::store::Directory;

/// The cluster of all tests.
pub(crate) const CLUSTER: &str = "c1";

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority in a directory of its own.
pub(crate) struct Pki {
    dir: Directory,
}

/// Files of one certificate.
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

fn openssl(args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).output();
    let output = output.expect("openssl: tests/setup.sh test installs it");
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let dir = Directory::new();
        let at = dir.0.display();
        openssl(&format!("ecparam -genkey -name prime256v1 -noout -out {at}/ca.key"));
        openssl(&format!("req -x509 -new -key {at}/ca.key -subj /CN=ca -days 9 -out {at}/ca.crt"));
        std::fs::write(dir.0.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        Pki { dir }
    }

    /// A certificate for a common name and an organization; made once.
    pub(crate) fn files(&self, name: &str, organization: &str) -> Files {
        let (at, file) = (self.dir.0.display(), name.replace(':', "-"));
        let path = |ending: &str| self.dir.0.join(format!("{file}{ending}"));
        if !path(".crt").exists() {
            openssl(&format!("ecparam -genkey -name prime256v1 -noout -out {at}/{file}.key"));
            let subject = format!("/O={organization}/CN={name}");
            openssl(&format!("req -new -key {at}/{file}.key -subj {subject} -out {at}/{file}.csr"));
            let ca = format!("-CA {at}/ca.crt -CAkey {at}/ca.key -CAcreateserial -days 9");
            let of = format!("-in {at}/{file}.csr -out {at}/{file}.crt -extfile {at}/ext");
            openssl(&format!("x509 -req {of} {ca}"));
        }
        Files { ca: self.dir.0.join("ca.crt"), cert: path(".crt"), key: path(".key") }
    }

    /// TLS for whoever has that certificate.
    pub(crate) fn pair(&self, name: &str, organization: &str) -> Arc<TlsPair> {
        let files = self.files(name, organization);
        let ca = CertificateDer::from_pem_file(&files.ca).unwrap();
        let cert = vec![CertificateDer::from_pem_file(&files.cert).unwrap()];
        let key = || PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(ring.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(cert.clone(), key())
            .unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), ring.clone());
        let server = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(cert, key())
            .unwrap();
        Arc::new(TlsPair { client: Arc::new(client), server: Some(Arc::new(server)) })
    }

    pub(crate) fn server(&self, name: &str) -> Arc<TlsPair> {
        self.pair(&format!("system:server:{name}"), "edged:servers")
    }

    pub(crate) fn agent(&self, name: &str) -> Arc<TlsPair> {
        self.pair(&format!("system:node:{name}"), "system:nodes")
    }
}

/// A watched value that stays as it is.
pub(crate) fn fixed<T: Send + Sync + 'static>(value: T) -> watch::Receiver<T> {
    let (sender, receiver) = watch::channel(value);
    // Whoever follows it must not see its sender go.
    Box::leak(Box::new(sender));
    receiver
}

/// A broker of server `b` on a port of its own.
pub(crate) async fn broker(pki: &Pki) -> Broker {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Broker::start(CLUSTER, listen, fixed(pki.server("b"))).await.unwrap()
}

/// A session and what it brings.
pub(crate) struct Client {
    pub(crate) session: Session,
    events: mpsc::Receiver<(u64, Event)>,
}

/// How a client differs from the plain one.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) filters: Vec<(String, u8)>,
    pub(crate) will: Option<edge_bus::session::MakeWill>,
    pub(crate) id: Option<String>,
}

pub(crate) fn wish(filters: &[(&str, u8)]) -> Wishes {
    let filters = filters.iter().map(|(f, q)| (topic(f), *q)).collect();
    Wishes { filters, ..Wishes::default() }
}

/// A topic of the cluster.
pub(crate) fn topic(rest: &str) -> String {
    format!("edge/{CLUSTER}/{rest}")
}

impl Client {
    /// A session of server `name` with the broker at `address`.
    pub(crate) fn server(pki: &Pki, name: &str, address: SocketAddr, wishes: Wishes) -> Client {
        let tls = pki.server(name);
        Client::start(tls, &format!("system:server:{name}"), embedded(address), wishes)
    }

    pub(crate) fn start(tls: Arc<TlsPair>, id: &str, target: Target, wishes: Wishes) -> Client {
        let (sender, events) = mpsc::channel(256);
        let config = SessionConfig {
            client_id: wishes.id.unwrap_or_else(|| id.to_owned()),
            targets: fixed(vec![target]),
            tls: fixed(tls),
            keepalive: Duration::from_secs(5),
            filters: wishes.filters,
            will: wishes.will,
            connections: Arc::default(),
            counts: Arc::default(),
        };
        Client { session: Session::start(config, 0, sender), events }
    }

    pub(crate) async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a session").1
    }

    /// Waits until it is established.
    pub(crate) async fn up(mut self) -> Client {
        while !matches!(self.event().await, Event::Up { .. }) {}
        self
    }

    /// The next message: topic, payload, retained.
    pub(crate) async fn message(&mut self) -> (String, Bytes, bool) {
        loop {
            if let Event::Message { topic, payload, retained, .. } = self.event().await {
                return (String::from_utf8(topic.to_vec()).unwrap(), payload, retained);
            }
        }
    }

    /// The reason of the next loss.
    pub(crate) async fn down(&mut self) -> String {
        loop {
            if let Event::Down { why, .. } = self.event().await {
                return why;
            }
        }
    }
}

pub(crate) fn embedded(address: SocketAddr) -> Target {
    let (name, host) = ("b".to_owned(), address.ip().to_string());
    Target::Embedded(BrokerAddress { name, host, port: address.port() })
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
