//! One connection of a client, from its first byte: it waits on the porch until it has sent a
//! whole request, and holds a place inside from then on.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_core::porch::Place;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::answer::{Refusal, answer};
use super::aside::Aside;
use super::body::{Busy, Progress, ReplyBody};
use super::headers::Client;
use super::inside::Seat;
use super::limits::{
    CONNECTION_WINDOW, CONNECTIONS, DRAIN, HANDSHAKE, HEAD_BYTES, KEEPALIVE, PING, SEND_BUFFER,
    STREAM_WINDOW, STREAMS,
};
use super::patient::Patient;

/// How HTTP/2 begins; no method of HTTP/1 begins so.
const PRIOR_KNOWLEDGE: &[u8] = b"PRI ";

/// A connection while it is served.
struct Visit {
    shared: Arc<Shared>,
    client: Client,
    /// Its address as bits; none for somebody of this board.
    of: Option<u128>,
    inside: AtomicBool,
    progress: Arc<Progress>,
    held: Mutex<Held>,
}

/// How a connection is to end.
enum End {
    /// At once.
    Now,
    /// When what is under way has ended.
    Soon,
}

/// What a connection holds.
enum Held {
    Porch { _place: Place<oneshot::Sender<()>> },
    Inside { _seat: Seat },
}

/// Serves a connection until it ends, is pushed out, or `stop` turns true.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let ip = peer.ip().to_canonical();
    let bits = match ip {
        std::net::IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        std::net::IpAddr::V6(six) => six.to_bits(),
    };
    let of = (!ip.is_loopback()).then_some(bits);
    let (kick, mut kicked) = oneshot::channel();
    let (place, pushed) = shared.porch.enter(of, kick);
    // At once: as long as this is held, whoever had to make room stays.
    drop(pushed);
    let client = Client::new(ip, tls.is_some());
    let held = Mutex::new(Held::Porch { _place: place });
    let visit = Arc::new(Visit {
        shared,
        client,
        of,
        inside: AtomicBool::new(false),
        progress: Progress::new(),
        held,
    });
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    // Nothing is set up for somebody who says nothing.
    let mut first = [0; PRIOR_KNOWLEDGE.len()];
    let known = tokio::select! {
        known = timeout(visit.shared.waits.first_byte, stream.peek(&mut first)) => known,
        _ = &mut kicked => return,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(known @ 1..)) = known else { return };
    let Some(acceptor) = tls else {
        let http2 = &first[..known] == PRIOR_KNOWLEDGE;
        return Box::pin(speak(visit, stream, http2, kicked, stop)).await;
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
        _ = &mut kicked => return,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Box::pin(speak(visit, stream, http2, kicked, stop)).await;
        }
        Ok(Err(error)) => tracing::trace!("TLS handshake with {peer}: {error}"),
        Err(_) => tracing::trace!("TLS handshake with {peer} took too long"),
    }
}

impl Visit {
    /// Comes inside with its first request; false when there is no room.
    fn come_in(&self) -> bool {
        if self.inside.load(Ordering::Acquire) {
            return true;
        }
        let Some(seat) = self.shared.connections.enter(self.of) else { return false };
        self.inside.store(true, Ordering::Release);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let porch = std::mem::replace(&mut *held, Held::Inside { _seat: seat });
        drop(held);
        drop(porch);
        true
    }

    /// How long a head may take.
    fn patience(&self) -> Duration {
        let crowded = self.shared.connections.count() > CONNECTIONS / 2;
        let waits = &self.shared.waits;
        if crowded { waits.head_crowded } else { waits.head }
    }

    /// Ends when the connection is to end before it does by itself.
    async fn end(
        &self,
        http2: bool,
        mut kicked: oneshot::Receiver<()>,
        mut stop: watch::Receiver<bool>,
    ) -> End {
        loop {
            let inside = self.inside.load(Ordering::Acquire);
            tokio::select! {
                _ = &mut kicked, if !inside => {
                    if !self.inside.load(Ordering::Acquire) {
                        return End::Now;
                    }
                }
                () = self.progress.silent(self.patience()) => {
                    if self.progress.busy() {
                        self.progress.touch();
                    } else if http2 && self.inside.load(Ordering::Acquire) {
                        return End::Soon;
                    } else {
                        return End::Now;
                    }
                }
                _ = stop.wait_for(|stop| *stop) => return End::Soon,
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<ReplyBody>, Infallible> {
        if !self.come_in() {
            let words = "too many connections are open";
            let mut response = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, words).response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(response);
        }
        let busy = Busy::new(&self.progress);
        Ok(answer(&self.shared, &self.client, request, busy).await)
    }
}

async fn speak<S>(
    visit: Arc<Visit>,
    stream: S,
    http2: bool,
    kicked: oneshot::Receiver<()>,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(Patient::new(stream, visit.progress.clone()));
    visit.progress.touch();
    let (also, asked) = (visit.clone(), visit.clone());
    let end = Aside::new(async move { also.end(http2, kicked, stop).await });
    let service = service_fn(move |request| {
        let visit = asked.clone();
        async move { visit.answer(request).await }
    });
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING);
        let mut connection = pin!(builder.serve_connection(io, service));
        if let End::Soon = until(&visit, connection.as_mut(), end).await {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(DRAIN, connection).await;
        }
    } else {
        let mut builder = http1::Builder::new();
        // How long a head may take is seen to by `end`, with one timer for the connection. That it
        // has 100 lines at most is hyper's own limit: to name one costs a tenth of a request.
        builder.header_read_timeout(None).max_buf_size(HEAD_BYTES).max_header_size(HEAD_BYTES);
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        if let End::Soon = until(&visit, connection.as_mut(), end).await {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(DRAIN, connection).await;
        }
    }
}

/// Runs a connection until it ends, or is to end.
async fn until<F, E>(visit: &Visit, connection: Pin<&mut F>, end: Aside<E>) -> End
where
    F: Future<Output = hyper::Result<()>>,
    E: Future<Output = End>,
{
    tokio::select! {
        biased;
        ended = connection => {
            if let Err(error) = ended {
                tracing::trace!("connection of {}: {error}", visit.client.ip);
            }
            End::Now
        }
        end = end => end,
    }
}
