//! The listening socket and its connections: how many there may be, how long each may take over
//! its handshake and its headers, and how they end when the server does.

use super::io::{Patience, Patient};
use super::reply;
use super::serve::{Front, Peer};
use crate::auth::Identity;
use edge_api::status::{Reason, Status};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections served at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// Time for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit,
            () = stopped(&mut stop) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, address)) => {
                let (acceptor, front, stop) = (acceptor.clone(), front.clone(), stop.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    serve(stream, address, acceptor, front, stop).await;
                });
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
) {
    let _ = stream.set_nodelay(true);
    // A board that lost power closes nothing; without this its watches would stay.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("TLS handshake with {address}: {error}"),
        Err(_) => return tracing::debug!("TLS handshake with {address}: took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = match shown {
        None => Identity::anonymous(),
        Some(der) => match Identity::from_certificate(der, front.desk.now()) {
            Some(identity) => identity,
            None => return tracing::debug!("certificate of {address} has no common name"),
        },
    };
    if let Some(why) = front.desk.refusal(&identity) {
        tracing::debug!("{address} is refused: {why}");
        return turn_away(stream, why).await;
    }
    let distrust = front.desk.distrust(identity.clone());
    let patience = Patience::default();
    let peer = Arc::new(Peer {
        identity,
        forwarded: false,
        patience: patience.clone(),
        stop: stop.clone(),
    });
    let service = service_fn(move |request| {
        let (front, peer) = (front.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(front.answer(peer, request).await) }
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
