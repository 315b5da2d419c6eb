//! The agent's own HTTPS port, for the API server alone: logs, exec, attach, images, figures.

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

use edge_client::tls::{ClientAuth, server_config};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub use error::ServeError;

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
    tls: TlsAcceptor,
}

impl Server {
    /// Takes the port. Callers must show a certificate that `client_ca_pem` signed.
    pub async fn bind(
        listen: SocketAddr,
        cert_pem: &[u8],
        key_pem: &[u8],
        client_ca_pem: &[u8],
    ) -> Result<Server, ServeError> {
        let config = server_config(cert_pem, key_pem, ClientAuth::Required(client_ca_pem))
            .map_err(ServeError::Tls)?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ServeError::Listen { address: listen, source })?;
        Ok(Server { listener, tls: TlsAcceptor::from(Arc::new(config)) })
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
            let (tls, board) = (self.tls.clone(), board.clone());
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
    let allowed = peer::may_call(stream.get_ref().1.peer_certificates());
    let service = service_fn(move |request| {
        let board = board.clone();
        async move { Ok::<_, Infallible>(route::answer(&board, allowed, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!("connection on the agent's port: {error}");
    }
}
