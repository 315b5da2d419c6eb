//! The board's HTTP proxy for Ingresses: it routes by the table that `edge-core` makes, answers on
//! ports 80 and 443, and is there only while an Ingress of our class is. Bodies stream through;
//! nothing is kept but connections to endpoints for their next request.

mod answer;
mod aside;
mod body;
mod connection;
mod endpoint;
mod headers;
mod inside;
mod limits;
mod line;
mod listen;
mod patient;
mod routing;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use edge_core::ingress::Table;
use edge_core::porch::Porch;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

pub use tls::{Certificate, CertificateError};

use inside::Inside;
use routing::Routing;

/// Where a proxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For plain HTTP: 80.
    pub http: u16,
    /// For HTTPS: 443.
    pub https: u16,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports { http: 80, https: 443 }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    routing: Routing,
    certificates: Arc<tls::Certificates>,
    porch: Arc<Porch<oneshot::Sender<()>>>,
    connections: Arc<Inside>,
    requests: Arc<Semaphore>,
    https_port: u16,
    stop: watch::Receiver<bool>,
    waits: limits::Waits,
}

/// A running proxy; it ends when this is dropped, or better by [`Proxy::stop`].
pub struct Proxy {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    http: SocketAddr,
    https: SocketAddr,
}

impl Proxy {
    /// Listens on all addresses of the board. An error names the port that can't be had.
    pub async fn start(ports: Ports) -> io::Result<Proxy> {
        Proxy::open(ports, limits::WAITS).await
    }

    async fn open(ports: Ports, waits: limits::Waits) -> io::Result<Proxy> {
        let (plain, secure) = (listen::bind(ports.http).await?, listen::bind(ports.https).await?);
        let (http, https) = (plain.local_addr()?, secure.local_addr()?);
        let certificates = tls::Certificates::new()?;
        let acceptor = certificates.acceptor()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            routing: Routing::default(),
            certificates,
            porch: Porch::new(limits::HALF_OPEN),
            connections: Inside::new(limits::CONNECTIONS),
            requests: Arc::new(Semaphore::new(limits::REQUESTS)),
            https_port: https.port(),
            stop: stopped.clone(),
            waits,
        });
        let task = tokio::spawn(listen::run(shared.clone(), plain, secure, acceptor, stopped));
        Ok(Proxy { shared, stop, task, http, https })
    }

    /// Where plain HTTP is answered.
    pub fn http(&self) -> SocketAddr {
        local(self.http)
    }

    /// Where HTTPS is answered.
    pub fn https(&self) -> SocketAddr {
        local(self.https)
    }

    /// Routes by this table from now on. Requests under way end as they began.
    pub fn route(&self, table: Table) {
        self.shared.routing.set(table);
    }

    /// Shows these certificates from now on: by host, by `*.parent`, or by nothing for all others.
    pub fn certify(&self, certificates: impl IntoIterator<Item = (String, Certificate)>) {
        self.shared.certificates.set(certificates);
    }

    /// How many connections are open, as (those without a request so far, the others).
    pub fn connections(&self) -> (usize, usize) {
        let shared = &self.shared;
        let inside = shared.connections.count();
        (shared.porch.waiting(), inside)
    }

    /// Takes no new connection, gives requests under way a moment, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// An address that is reached from this board: all listen on IPv4, too.
fn local(bound: SocketAddr) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port())
}
