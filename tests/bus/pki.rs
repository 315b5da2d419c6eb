//! Certificates for the bus in tests, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use edge_bus::TlsPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_rustls::rustls;

/// A certificate authority in a directory of its own.
pub(crate) struct Pki {
    dir: PathBuf,
    own: bool,
}

impl Drop for Pki {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
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
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("edge-pki-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = dir.display();
        openssl(&format!("ecparam -genkey -name prime256v1 -noout -out {at}/ca.key"));
        openssl(&format!("req -x509 -new -key {at}/ca.key -subj /CN=ca -days 9 -out {at}/ca.crt"));
        std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        Pki { dir, own: true }
    }

    /// That of another process, which made it.
    #[allow(dead_code)]
    pub(crate) fn at(dir: &Path) -> Pki {
        Pki { dir: dir.to_path_buf(), own: false }
    }

    /// Where its files are.
    #[allow(dead_code)]
    pub(crate) fn directory(&self) -> &Path {
        &self.dir
    }

    /// A certificate for a common name and an organization; made once.
    pub(crate) fn files(&self, name: &str, organization: &str) -> Files {
        let (at, file) = (self.dir.display(), name.replace(':', "-"));
        let path = |ending: &str| self.dir.join(format!("{file}{ending}"));
        if !path(".crt").exists() {
            openssl(&format!("ecparam -genkey -name prime256v1 -noout -out {at}/{file}.key"));
            let subject = format!("/O={organization}/CN={name}");
            openssl(&format!("req -new -key {at}/{file}.key -subj {subject} -out {at}/{file}.csr"));
            let ca = format!("-CA {at}/ca.crt -CAkey {at}/ca.key -CAcreateserial -days 9");
            let of = format!("-in {at}/{file}.csr -out {at}/{file}.crt -extfile {at}/ext");
            openssl(&format!("x509 -req {of} {ca}"));
        }
        Files { ca: self.dir.join("ca.crt"), cert: path(".crt"), key: path(".key") }
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
