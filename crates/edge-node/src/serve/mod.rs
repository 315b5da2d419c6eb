//! The agent's own HTTPS port, for the API server: logs, exec, attach, images,
//! figures; and for other boards, which may read images here.

mod blobs;
mod error;
mod exec;
mod find;
mod images;
mod logs;
mod peer;
mod query;
mod read_log;
mod reply;
mod route;
mod session;
mod spdy;
mod stats;
mod websocket;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

pub use error::ServeError;
#[cfg(test)]
pub(crate) use reply::pieces;

use crate::agent::Board;

/// Connections served at once; more wait.
const CONNECTIONS: usize = 256;
/// How long a caller may take for its handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that is ready to be served.
pub struct Server {
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
}

impl Server {
    /// Takes the port. Each connection is secured as `tls` says at that moment; it must ask for
    /// clients' certificates.
    pub async fn bind(
        listen: SocketAddr,
        tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    ) -> Result<Server, ServeError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ServeError::Listen { address: listen, source })?;
        Ok(Server { listener, tls })
    }

    /// Serves until dropped.
    pub(crate) async fn run(self, board: Arc<Board>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("accept a connection on the agent's port: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let tls = TlsAcceptor::from(self.tls.borrow().clone());
            let board = board.clone();
            connections.spawn(async move {
                serve(tls, stream, board).await;
                drop(slot);
            });
        }
    }
}

async fn serve(tls: TlsAcceptor, stream: TcpStream, board: Arc<Board>) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("handshake on the agent's port: {error}"),
        Err(_) => return,
    };
    let caller = peer::caller(stream.get_ref().1.peer_certificates());
    let service = service_fn(move |request| {
        let board = board.clone();
        async move { Ok::<_, Infallible>(route::answer(&board, caller, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!("connection on the agent's port: {error}");
    }
}
