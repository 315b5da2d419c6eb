//! One endpoint: its connections, how busy it is, and whether it could be reached of late.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edge_core::ingress::Protocol;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::{Progress, RequestBody};
use super::limits::{
    CONNECT, CONNECTION_WINDOW, DOWN, HEAD_BYTES, IDLE, IDLE_FOR, PING, SEND_BUFFER, STREAM_WINDOW,
};
use super::line::{Broken, Line};

type Sender2 = http2::SendRequest<RequestBody>;

/// One endpoint of a backend.
pub(super) struct Endpoint {
    address: SocketAddr,
    protocol: Protocol,
    busy: AtomicUsize,
    /// When it was taken last, counted in requests of its backend.
    turn: AtomicUsize,
    /// It has left: nothing is kept for it.
    gone: AtomicBool,
    /// Milliseconds after `known` until which it counts as unreachable.
    down: AtomicU64,
    known: Instant,
    idle: Mutex<VecDeque<(Instant, Line)>>,
    shared: tokio::sync::Mutex<Option<Sender2>>,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing was sent: it may go elsewhere.
    Unsent(Box<Request<RequestBody>>, String),
    /// It may have been sent, and the connection broke.
    Lost(String),
    /// It was sent, and nothing came for too long.
    Silent,
}

/// A request's claim on an endpoint, and the connection that it has to itself.
pub(super) struct Lease {
    endpoint: Arc<Endpoint>,
    since: Instant,
    line: Option<Line>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lease of {}", self.endpoint.address)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    /// An endpoint that nobody has talked to.
    pub(super) fn new(address: SocketAddr, protocol: Protocol) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            address,
            protocol,
            busy: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            down: AtomicU64::new(0),
            known: Instant::now(),
            idle: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
        })
    }

    /// What tells endpoints apart.
    pub(super) fn key(&self) -> (SocketAddr, bool) {
        (self.address, self.protocol == Protocol::Http2)
    }

    /// How gladly it is taken: less is better.
    pub(super) fn cost(&self, now: Instant) -> (bool, usize, usize) {
        let down = self.known + Duration::from_millis(self.down.load(Ordering::Relaxed)) > now;
        (down, self.busy.load(Ordering::Relaxed), self.turn.load(Ordering::Relaxed))
    }

    /// It could not be connected to.
    pub(super) fn failed(&self) {
        let until = u64::try_from((self.known.elapsed() + DOWN).as_millis()).unwrap_or(u64::MAX);
        self.down.store(until, Ordering::Relaxed);
    }

    /// Takes it for one request, now.
    pub(super) fn lease(self: &Arc<Self>, turn: usize, now: Instant) -> Lease {
        self.turn.store(turn, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Lease { endpoint: self.clone(), since: now, line: None }
    }

    /// It has left: what is under way ends, nothing is kept for more.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.idle().clear();
        if let Ok(mut shared) = self.shared.try_lock() {
            *shared = None;
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Line)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that have waited for too long, or that the endpoint has closed.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle()
            .retain_mut(|(since, line)| now.duration_since(*since) < IDLE_FOR && line.rest());
    }

    /// The freshest connection that is free.
    fn waiting(&self, now: Instant) -> Option<Line> {
        let mut idle = self.idle();
        while idle.front().is_some_and(|(since, _)| now.duration_since(*since) >= IDLE_FOR) {
            idle.pop_front();
        }
        idle.pop_back().map(|(_, line)| line)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(CONNECT, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect_http1(&self) -> Result<Line, String> {
        let stream = self.connect().await.map_err(|error| error.to_string())?;
        Line::open(stream).await.map_err(|error| error.to_string())
    }

    /// The connection that all HTTP/2 requests share, made anew when it has ended.
    async fn connect_http2(&self) -> Result<Sender2, String> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self.connect().await.map_err(|error| error.to_string())?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
            .keep_alive_interval(PING);
        let hands = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = hands.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!("connection to an endpoint: {error}");
            }
        });
        *shared = Some(sender.clone());
        Ok(sender)
    }
}

impl Lease {
    /// Its endpoint.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The connection that it has to itself, if it must be driven.
    pub(super) fn driven(&mut self) -> Option<&mut Line> {
        self.line.as_mut().filter(|line| line.driven())
    }

    /// The answer has passed: the connection is free for the next request.
    pub(super) fn finish(mut self) {
        let Some(mut line) = self.line.take() else { return };
        if self.endpoint.gone.load(Ordering::Relaxed) || !line.rest() {
            return;
        }
        let mut idle = self.endpoint.idle();
        if idle.len() < IDLE {
            idle.push_back((Instant::now(), line));
        }
    }

    /// Sends a request. The endpoint may be silent for `limit`, counted from the last that moved
    /// of the request's body. `upgrade`: the answer may change the protocol.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<RequestBody>>,
        upgrade: bool,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failed> {
        match self.endpoint.protocol {
            Protocol::Http1 => self.send_http1(request, upgrade, limit, progress).await,
            Protocol::Http2 => {
                progress.touch();
                tokio::select! {
                    answer = self.send_http2(request) => answer,
                    () = progress.silent(limit) => Err(Failed::Silent),
                }
            }
        }
    }

    async fn send_http1(
        &mut self,
        mut request: Box<Request<RequestBody>>,
        upgrade: bool,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failed> {
        loop {
            let (mut line, fresh) = match self.endpoint.waiting(self.since) {
                Some(line) => (line, false),
                None => match self.endpoint.connect_http1().await {
                    Ok(line) => {
                        progress.touch();
                        (line, true)
                    }
                    Err(why) => return Err(Failed::Unsent(request, why)),
                },
            };
            match line.ask(request, upgrade, limit, progress).await {
                Ok(response) => {
                    self.line = Some(line);
                    return Ok(response);
                }
                // The endpoint had closed a connection that waited: the next one.
                Err(Broken::Unsent(unsent, _)) if !fresh => request = unsent,
                Err(Broken::Unsent(unsent, why)) => return Err(Failed::Unsent(unsent, why)),
                Err(Broken::Lost(why)) => return Err(Failed::Lost(why)),
                Err(Broken::Silent) => return Err(Failed::Silent),
            }
        }
    }

    async fn send_http2(
        &mut self,
        request: Box<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut sender = match self.endpoint.connect_http2().await {
            Ok(sender) => sender,
            Err(why) => return Err(Failed::Unsent(request, why)),
        };
        sender.try_send_request(*request).await.map_err(|mut error| {
            let why = error.error().to_string();
            match error.take_message() {
                Some(unsent) => Failed::Unsent(Box::new(unsent), why),
                None => Failed::Lost(why),
            }
        })
    }
}
