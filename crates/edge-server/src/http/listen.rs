//! The listening socket and its connections: how many there may be, how long each may take over
//! its handshake and its headers, and how they end when the server does.

use super::guest::{Guest, Way};
use super::io::{Patience, Patient};
use super::reply;
use super::serve::{Front, Peer};
use crate::auth::Identity;
use edge_api::status::{Reason, Status};
use edge_core::porch::{Porch, Room};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections of known clients that are served at once; further ones wait a moment.
const CONNECTIONS: usize = 2048;
/// Connections that have shown neither a certificate nor a token.
const HALF_OPEN: Room = Room { each: 64, all: 256 };
/// Time for the TLS handshake; and between two requests of a client that showed nothing.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time between two requests, and for a request's headers to arrive.
const HEADERS: Duration = Duration::from_secs(120);
/// Bytes and number of headers of one request.
const HEADER_BYTES: usize = 64 * 1024;
const HEADER_COUNT: usize = 128;
/// How long open connections are given at shutdown.
const DRAIN: Duration = Duration::from_secs(3);
/// Silence after which a peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause after the system refused a connection, for want of descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the API's address; IPv6 sockets and restarts are as the system has them.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves connections until `stop` turns true, then drains them.
pub(crate) async fn run(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let door = Door {
        porch: Porch::new(HALF_OPEN),
        room: Arc::new(Semaphore::new(CONNECTIONS)),
        began: Instant::now(),
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address)) => {
                let (acceptor, front, stop) = (acceptor.clone(), front.clone(), stop.clone());
                let way = door.enter(address.ip(), &front);
                connections.spawn(serve(stream, address, acceptor, front, stop, way));
            }
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::debug!("closing {} connections that are still busy", connections.len());
        connections.shutdown().await;
    }
}

/// Where connections come in.
struct Door {
    porch: Arc<Porch<oneshot::Sender<()>>>,
    room: Arc<Semaphore>,
    began: Instant,
}

impl Door {
    /// Lets a connection in, if need be in the place of another that only sits there.
    fn enter(&self, from: IpAddr, front: &Front) -> Way {
        let (kick, kicked) = oneshot::channel();
        let bits = match from {
            IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
            IpAddr::V6(six) => six.to_bits(),
        };
        let (place, pushed) = self.porch.enter((!from.is_loopback()).then_some(bits), kick);
        if pushed.is_some() {
            front.api.inner.metrics.half_open();
        }
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(more) = self.porch.news(now) {
            tracing::warn!(
                "API: ended {more} connections that had not shown who they are, for others to \
                 come in; the newest comes from {from}"
            );
        }
        Way { place, kicked, room: self.room.clone() }
    }
}

/// Waits until the server ends.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells whoever's key does not count why that is, once: it could not find out otherwise.
async fn turn_away<S>(stream: S, why: String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let service = service_fn(move |_| {
        let refusal = Status::new(Reason::Unauthorized, why.clone());
        async move { Ok::<_, std::convert::Infallible>(reply::status(&refusal)) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.keep_alive(false).max_buf_size(HEADER_BYTES).max_headers(HEADER_COUNT);
    let told = builder.serve_connection(TokioIo::new(stream), service);
    if !matches!(tokio::time::timeout(HANDSHAKE, told).await, Ok(Ok(()))) {
        tracing::debug!("a client whose key does not count would not listen");
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    front: Arc<Front>,
    mut stop: watch::Receiver<bool>,
    mut way: Way,
) {
    let stream = match shake(stream, acceptor, &mut way.kicked).await {
        Ok(stream) => stream,
        Err(why) => return tracing::debug!("TLS handshake with {address}: {why}"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let read = |der: &CertificateDer<'_>| Identity::from_certificate(der, front.desk.now());
    let Some(identity) = shown.map_or_else(|| Some(Identity::anonymous()), read) else {
        return tracing::debug!("certificate of {address} has no common name");
    };
    if let Some(why) = front.desk.refusal(&identity) {
        tracing::debug!("{address} is refused: {why}");
        return turn_away(stream, why).await;
    }
    let known = identity.key.is_some();
    let Some(mut guest) = Guest::enter(way, known, HANDSHAKE).await else {
        return tracing::warn!("{CONNECTIONS} connections are open: {address} is let go");
    };
    let distrust = front.desk.distrust(identity.clone());
    let patience = Patience::default();
    let peer = Arc::new(Peer {
        identity,
        forwarded: false,
        patience: patience.clone(),
        proven: guest.proven.clone(),
        stop: stop.clone(),
    });
    let pace = guest.pace.clone();
    let service = service_fn(move |request| {
        let (front, peer, pace) = (front.clone(), peer.clone(), pace.clone());
        async move {
            let _asking = pace.ask();
            Ok::<_, std::convert::Infallible>(front.answer(peer, request).await)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADER_COUNT);
    let io = TokioIo::new(Patient::new(stream, patience));
    let connection = builder.serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stopped(&mut stop) => None,
        why = guest.unwelcome() => return tracing::debug!("{address} {why}"),
        why = distrust => return tracing::info!("ended the connection of {address}: {why}"),
    };
    let result = match result {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection of {address}: {error}");
    }
}

/// The TLS handshake of a client that may have to make room for others meanwhile.
async fn shake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    kicked: &mut oneshot::Receiver<()>,
) -> Result<TlsStream<TcpStream>, String> {
    let _ = stream.set_nodelay(true);
    // A board that lost power closes nothing; without this its watches would stay.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => match shaken {
            Ok(shaken) => shaken.map_err(|error| error.to_string()),
            Err(_) => Err("took too long".to_owned()),
        },
        _ = kicked => Err("made room for another".to_owned()),
    }
}
