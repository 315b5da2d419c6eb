//! A connection to a port of a pod: Kubernetes' port-forward over SPDY/3.1, one connection in each
//! session, so that one that stands still never holds up another.

use crate::body;
use crate::call::{Call, read_failure};
use crate::error::{Error, flatten};
use crate::http_client::Client;
use crate::query::object_path;
use crate::spdy::{self, CANCEL, Frame, GOAWAY, PING, RST_STREAM};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf as LocalRead, WriteHalf as LocalWrite};
use tokio::sync::{Notify, mpsc};

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const PROTOCOL: &str = "portforward.k8s.io";
/// How long the server may take to switch protocols.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Bytes read from the local connection at once.
const BLOCK: usize = 32 << 10;
/// The longest error that is kept.
const ERROR_BYTES: usize = 4 << 10;
/// The stream of errors, and that of the bytes.
const ERRORS: u32 = 1;
const BYTES: u32 = 3;
/// Pings that wait to be answered; more are left unanswered.
const PONGS: usize = 4;

/// A way to a port of a pod.
pub struct PodConnection {
    stream: TokioIo<Upgraded>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have said all.
    Done,
    /// This side broke it off.
    Abandoned,
    /// The pod's side broke it off.
    Reset,
    /// The board says why it can't be.
    Refused(String),
    /// The way to the board ended first.
    Lost,
}

impl Client {
    /// Opens a way to a port of a pod. Whether somebody listens there is told by
    /// [`PodConnection::carry`].
    ///
    /// # Errors
    /// The server's refusal, or why it can't be reached.
    pub async fn port_forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<PodConnection, Error> {
        let path = object_path("", "v1", "pods", namespace, pod, Some("portforward"));
        let call = Call::new(Method::POST, path);
        let fault = |message: String| Error::Protocol {
            operation: format!("open a connection by {}", call.path),
            message,
        };
        let mut request = call.request()?.map(|_| body::empty());
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(VERSION_HEADER, HeaderValue::from_static(PROTOCOL));
        let response = tokio::time::timeout(HANDSHAKE, self.request(request)).await;
        let response = response.map_err(|_| Error::Timeout {
            operation: format!("open a connection by {}", call.path),
            seconds: HANDSHAKE.as_secs(),
        })??;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if response.status().is_success() {
                return Err(fault(format!("the server answered {}", response.status())));
            }
            return Err(read_failure(&call, response, HANDSHAKE).await);
        }
        let upgraded = hyper::upgrade::on(response).await;
        let mut stream = TokioIo::new(upgraded.map_err(|error| fault(flatten(&error)))?);
        let port = port.to_string();
        let headers = |kind| [("port", port.as_str()), ("requestid", "0"), ("streamtype", kind)];
        let mut opening = spdy::open(ERRORS, true, &headers("error"));
        opening.extend(spdy::data(ERRORS, true, &[]));
        opening.extend(spdy::open(BYTES, false, &headers("data")));
        let sent = async {
            stream.write_all(&opening).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| fault(error.to_string()))?;
        Ok(PodConnection { stream })
    }
}

/// What the two directions know of each other.
#[derive(Default)]
struct Shared {
    /// The local side says no more.
    ended: AtomicBool,
    /// The local side has broken the connection off.
    abandoned: AtomicBool,
    news: Notify,
}

impl PodConnection {
    /// Carries a local connection's bytes both ways, each until its own end.
    pub async fn carry(self, mut local: TcpStream) -> Ending {
        let ending = {
            let (remote_read, remote_write) = tokio::io::split(self.stream);
            let (local_read, local_write) = local.split();
            let shared = Shared::default();
            let (pong, pongs) = mpsc::channel(PONGS);
            let mut down = Down { read: remote_read, local: local_write, pong, shared: &shared };
            tokio::select! {
                ending = down.run() => ending,
                () = up(local_read, remote_write, pongs, &shared) => Ending::Lost,
            }
        };
        if ending == Ending::Reset {
            let _ = local.set_zero_linger();
        }
        ending
    }
}

/// From the local side to the pod. Returns only when the way to the board has ended.
async fn up(
    mut local: LocalRead<'_>,
    mut write: WriteHalf<TokioIo<Upgraded>>,
    mut pongs: mpsc::Receiver<Bytes>,
    shared: &Shared,
) {
    let mut buffer = vec![0; BLOCK];
    loop {
        let frame = tokio::select! {
            Some(payload) = pongs.recv() => spdy::control(PING, &payload),
            read = local.read(&mut buffer), if !shared.ended.load(Ordering::Relaxed) => match read {
                Ok(count @ 1..) => spdy::data(BYTES, false, &buffer[..count]),
                read => {
                    shared.ended.store(true, Ordering::Relaxed);
                    shared.abandoned.store(read.is_err(), Ordering::Relaxed);
                    match read {
                        Ok(_) => spdy::data(BYTES, true, &[]),
                        Err(_) => spdy::reset(BYTES, CANCEL),
                    }
                }
            },
        };
        let sent = async {
            write.write_all(&frame).await?;
            write.flush().await
        };
        let sent: io::Result<()> = sent.await;
        if shared.ended.load(Ordering::Relaxed) {
            shared.news.notify_one();
        }
        if sent.is_err() {
            return;
        }
    }
}

/// From the pod to the local side.
struct Down<'a> {
    read: ReadHalf<TokioIo<Upgraded>>,
    local: LocalWrite<'a>,
    pong: mpsc::Sender<Bytes>,
    shared: &'a Shared,
}

impl Down<'_> {
    async fn run(&mut self) -> Ending {
        let mut buffer = BytesMut::new();
        let mut error = Vec::new();
        let (mut bytes_ended, mut errors_ended) = (false, false);
        loop {
            if errors_ended && !error.is_empty() {
                return Ending::Refused(String::from_utf8_lossy(&error).into_owned());
            }
            if self.shared.abandoned.load(Ordering::Relaxed) {
                return Ending::Abandoned;
            }
            if bytes_ended && errors_ended && self.shared.ended.load(Ordering::Relaxed) {
                return Ending::Done;
            }
            let frame = match spdy::take_frame(&mut buffer) {
                Ok(Some(frame)) => frame,
                Err(_) => return Ending::Lost,
                Ok(None) => {
                    tokio::select! {
                        read = self.read.read_buf(&mut buffer) => if !matches!(read, Ok(1..)) {
                            // Whoever has said all needs no good-bye.
                            return if bytes_ended { Ending::Done } else { Ending::Lost };
                        },
                        () = self.shared.news.notified() => {}
                    }
                    continue;
                }
            };
            match frame {
                Frame::Data { stream: BYTES, fin, payload } => {
                    if self.local.write_all(&payload).await.is_err() {
                        return Ending::Abandoned;
                    }
                    if fin {
                        bytes_ended = true;
                        let _ = self.local.shutdown().await;
                    }
                }
                Frame::Data { stream: ERRORS, fin, payload } => {
                    let room = ERROR_BYTES.saturating_sub(error.len()).min(payload.len());
                    error.extend_from_slice(&payload[..room]);
                    errors_ended |= fin;
                }
                Frame::Data { .. } => {}
                Frame::Control { kind: PING, payload, .. } => drop(self.pong.try_send(payload)),
                Frame::Control { kind: RST_STREAM, payload, .. } => match stream_of(&payload) {
                    BYTES if bytes_ended => return Ending::Done,
                    BYTES => return Ending::Reset,
                    _ => errors_ended = true,
                },
                Frame::Control { kind: GOAWAY, .. } => return Ending::Lost,
                Frame::Control { .. } => {}
            }
        }
    }
}

fn stream_of(payload: &[u8]) -> u32 {
    payload.first_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id))
}
