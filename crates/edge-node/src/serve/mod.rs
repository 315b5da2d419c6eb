//! The agent's own HTTPS port, for the API server: logs, exec, attach, images,
//! figures; and for other boards, which may read images here.

mod blobs;
mod check;
mod error;
mod exec;
mod find;
mod forward;
mod images;
mod leash;
mod logs;
mod peer;
mod query;
mod read_log;
mod reply;
mod route;
mod session;
mod spdy;
mod stats;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_api::status::{Reason, Status};
use edge_core::porch::{Place, Porch, Room};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use error::ServeError;
#[cfg(test)]
pub(crate) use reply::pieces;

use crate::agent::Board;
use leash::Leash;

/// Connections served at once; more wait.
const CONNECTIONS: usize = 256;
/// Connections that have not shown a certificate yet.
const HALF_OPEN: Room = Room { each: 32, all: 64 };
/// How long a caller may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a caller may take for the head of a request.
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
        let porch = Porch::new(HALF_OPEN);
        let began = Instant::now();
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, from) = match accepted {
                Ok((stream, from)) => (stream, from.ip()),
                Err(error) => {
                    tracing::warn!("accept a connection on the agent's port: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let tls = TlsAcceptor::from(self.tls.borrow().clone());
            let (board, slots) = (board.clone(), slots.clone());
            // Whoever had to make room is told so by the end of its channel.
            let (kick, kicked) = oneshot::channel();
            let bits = match from {
                IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
                IpAddr::V6(six) => six.to_bits(),
            };
            let (place, _) = porch.enter((!from.is_loopback()).then_some(bits), kick);
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if let Some(more) = porch.news(now) {
                tracing::warn!(
                    "the agent's port: ended {more} connections that had not shown who they are, \
                     for others to come in; the newest comes from {from}"
                );
            }
            connections.spawn(serve(tls, stream, board, (place, kicked), slots));
        }
    }
}

/// Ends with the reason when a caller's key does not count any more.
type Distrust = Pin<Box<dyn Future<Output = String> + Send>>;

/// A connection that has not shown who it is, and what tells it that it has to make room.
type Waiting = (Place<oneshot::Sender<()>>, oneshot::Receiver<()>);

async fn serve(
    tls: TlsAcceptor,
    stream: TcpStream,
    board: Arc<Board>,
    (place, kicked): Waiting,
    slots: Arc<Semaphore>,
) {
    let _ = stream.set_nodelay(true);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE, tls.accept(stream)) => shaken,
        _ = kicked => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("handshake on the agent's port: {error}"),
        Err(_) => return,
    };
    let Ok(Ok(_slot)) = tokio::time::timeout(HANDSHAKE, slots.acquire_owned()).await else {
        return tracing::warn!("the agent's port serves {CONNECTIONS} callers: one is let go");
    };
    drop(place);
    let (caller, claim) = peer::caller(stream.get_ref().1.peer_certificates());
    if let Some(why) = claim.as_ref().and_then(|claim| board.keys.refusal(claim)) {
        return turn_away(stream, why).await;
    }
    let distrust = || claim.clone().map(|claim| Box::pin(board.keys.distrust(claim)) as Distrust);
    let stream = Leash::new(stream, distrust());
    let distrust = distrust().unwrap_or_else(|| Box::pin(std::future::pending()));
    let service = service_fn(move |request| {
        let board = board.clone();
        async move { Ok::<_, Infallible>(route::answer(&board, caller, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!("connection on the agent's port: {error}");
        },
        why = distrust => tracing::info!("ended a connection on the agent's port: {why}"),
    }
}

/// Tells whoever has a key that does not count why it is refused, whatever it asks.
async fn turn_away(stream: TlsStream<TcpStream>, why: String) {
    let service = service_fn(move |_| {
        let refusal = reply::refuse(&Status::new(Reason::Unauthorized, why.clone()));
        async move { Ok::<_, Infallible>(refusal) }
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false);
    let told = builder.serve_connection(TokioIo::new(stream), service);
    if !matches!(tokio::time::timeout(HANDSHAKE, told).await, Ok(Ok(()))) {
        tracing::debug!("agent's port: a caller whose key does not count would not listen");
    }
}
