//! One endpoint: its connections, how busy it is, and whether it could be reached of late.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edge_core::ingress::Protocol;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::{Progress, RequestBody};
use super::limits::{
    CONNECT, CONNECTION_WINDOW, DOWN, HEAD_BYTES, IDLE, IDLE_FOR, PING, SEND_BUFFER, STREAM_WINDOW,
};

type Sender1 = http1::SendRequest<RequestBody>;
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
    down: Mutex<Option<Instant>>,
    idle: Mutex<VecDeque<(Instant, Sender1)>>,
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
    sender: Option<Sender1>,
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
            down: Mutex::default(),
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
        let down = *self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let down = down.is_some_and(|until| until > now);
        (down, self.busy.load(Ordering::Relaxed), self.turn.load(Ordering::Relaxed))
    }

    /// It could not be connected to.
    pub(super) fn failed(&self) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DOWN);
    }

    /// Takes it for one request.
    pub(super) fn lease(self: &Arc<Self>, turn: usize) -> Lease {
        self.turn.store(turn, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Lease { endpoint: self.clone(), sender: None }
    }

    /// It has left: what is under way ends, nothing is kept for more.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.idle().clear();
        if let Ok(mut shared) = self.shared.try_lock() {
            *shared = None;
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Sender1)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that have waited for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle().retain(|(since, sender)| now - *since < IDLE_FOR && !sender.is_closed());
    }

    /// The freshest connection that is free.
    fn waiting(&self) -> Option<Sender1> {
        let (mut idle, now) = (self.idle(), Instant::now());
        while idle.front().is_some_and(|(since, _)| now - *since >= IDLE_FOR) {
            idle.pop_front();
        }
        // The last one may not have noticed yet that its answer is through.
        let at = idle.iter().rposition(|(_, sender)| sender.is_ready())?;
        idle.remove(at).map(|(_, sender)| sender)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(CONNECT, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect_http1(&self) -> Result<Sender1, String> {
        let stream = self.connect().await.map_err(|error| error.to_string())?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let hands = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = hands.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::trace!("connection to an endpoint: {error}");
            }
        });
        Ok(sender)
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

    /// The answer has passed: the connection is free for the next request.
    pub(super) fn finish(mut self) {
        let Some(sender) = self.sender.take() else { return };
        if self.endpoint.gone.load(Ordering::Relaxed) || sender.is_closed() {
            return;
        }
        let mut idle = self.endpoint.idle();
        if idle.len() < IDLE {
            idle.push_back((Instant::now(), sender));
        }
    }

    /// Sends a request. The endpoint may be silent for `limit`, counted from the last that moved
    /// of the request's body.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        limit: Duration,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failed> {
        progress.touch();
        let answer = async {
            match self.endpoint.protocol {
                Protocol::Http1 => self.send_http1(request).await,
                Protocol::Http2 => self.send_http2(request).await,
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = progress.silent(limit) => Err(Failed::Silent),
        }
    }

    async fn send_http1(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failed> {
        loop {
            let (mut sender, fresh) = match self.endpoint.waiting() {
                Some(sender) => (sender, false),
                None => match self.endpoint.connect_http1().await {
                    Ok(sender) => (sender, true),
                    Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // The endpoint had closed a connection that waited: the next one.
                    Some(unsent) if !fresh => request = unsent,
                    Some(unsent) => {
                        return Err(Failed::Unsent(Box::new(unsent), error.error().to_string()));
                    }
                    None => return Err(Failed::Lost(error.error().to_string())),
                },
            }
        }
    }

    async fn send_http2(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failed> {
        let mut sender = match self.endpoint.connect_http2().await {
            Ok(sender) => sender,
            Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
        };
        sender.try_send_request(request).await.map_err(|mut error| {
            let why = error.error().to_string();
            match error.take_message() {
                Some(unsent) => Failed::Unsent(Box::new(unsent), why),
                None => Failed::Lost(why),
            }
        })
    }
}
