//! A session with a broker as tests use it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edge_bus::session::{Event, Session, SessionConfig};
use edge_bus::{BrokerAddress, Target, TlsPair};
use tokio::sync::mpsc;

use super::pki::{Pki, fixed};

/// The cluster of all tests.
pub(crate) const CLUSTER: &str = "c1";

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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
            prefer_first: false,
            tls: fixed(tls),
            patience: std::time::Duration::from_secs(30),
            keepalive: Duration::from_secs(5),
            eager: false,
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
