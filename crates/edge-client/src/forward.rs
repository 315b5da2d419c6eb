//! Connections to ports of a pod: Kubernetes' port-forward over SPDY/3.1, one connection at a time
//! in each session, so that one that stands still never holds up another. A session whose
//! connection has ended well may have the next.

use crate::call::Call;
use crate::error::Error;
use crate::http_client::Client;
use crate::query::object_path;
use crate::spdy::{self, CANCEL, Frame, GOAWAY, PING, RST_STREAM};
use crate::switch::{Switch, Switched};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::HeaderName;
use http::{HeaderValue, Method};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf as LocalRead, WriteHalf as LocalWrite};
use tokio::sync::{Notify, mpsc};

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const PROTOCOL: &str = "portforward.k8s.io";
/// Bytes read from the local connection at once.
const BLOCK: usize = 32 << 10;
/// The longest error that is kept.
const ERROR_BYTES: usize = 4 << 10;
/// Between numbers of a client's streams.
const STEP: u32 = 2;
/// Pings that wait to be answered; more are left unanswered.
const PONGS: usize = 4;

/// A way to a pod.
pub struct PodSession {
    stream: Switched,
    /// What has come and is not read yet.
    buffer: BytesMut,
    /// The number of the next stream.
    next: u32,
}

/// The streams of a connection: for an error, and for its bytes.
#[derive(Clone, Copy)]
struct Pair {
    errors: u32,
    bytes: u32,
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
    /// Opens a way to a pod. Whether somebody listens on a port is told by [`PodSession::carry`].
    ///
    /// # Errors
    /// The server's refusal, or why it can't be reached.
    pub async fn port_forward(&self, namespace: &str, pod: &str) -> Result<PodSession, Error> {
        let path = object_path("", "v1", "pods", namespace, pod, Some("portforward"));
        let call = Call::new(Method::POST, path);
        let operation = format!("open a connection by {}", call.path);
        let switch = Switch { call: &call, operation };
        let mut request = switch.request("SPDY/3.1")?;
        request.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(PROTOCOL));
        let (stream, ()) = switch.send(self, request, |_| Ok(())).await?;
        Ok(PodSession { stream, buffer: BytesMut::new(), next: 1 })
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

impl PodSession {
    /// Whether the other side still has it, as far as it has told.
    pub fn is_open(&mut self) -> bool {
        !matches!(self.stream.read_buf(&mut self.buffer).now_or_never(), Some(Ok(0) | Err(_)))
    }

    /// Carries a local connection's bytes to a port of the pod and back, each direction until its
    /// own end. Gives the session back if it can have another one.
    pub async fn carry(mut self, port: u16, mut local: TcpStream) -> (Ending, Option<PodSession>) {
        let pair = Pair { errors: self.next, bytes: self.next + STEP };
        if self.open(pair, port).await.is_err() {
            return (Ending::Lost, None);
        }
        self.next = pair.bytes + STEP;
        let ending = {
            let (remote_read, remote_write) = tokio::io::split(&mut self.stream);
            let (local_read, local_write) = local.split();
            let shared = Shared::default();
            let (pong, pongs) = mpsc::channel(PONGS);
            let mut down = Down {
                read: remote_read,
                buffer: &mut self.buffer,
                local: local_write,
                pong,
                shared: &shared,
            };
            tokio::select! {
                ending = down.run(pair) => ending,
                () = up(pair, local_read, remote_write, pongs, &shared) => Ending::Lost,
            }
        };
        if ending == Ending::Reset {
            let _ = local.set_zero_linger();
        }
        let again = ending == Ending::Done && self.next < u32::MAX / 4;
        (ending, again.then_some(self))
    }

    async fn open(&mut self, pair: Pair, port: u16) -> io::Result<()> {
        let (port, request) = (port.to_string(), pair.errors.to_string());
        let headers =
            |kind| [("port", port.as_str()), ("requestid", request.as_str()), ("streamtype", kind)];
        let mut opening = spdy::open(pair.errors, pair.errors == 1, &headers("error"));
        opening.extend(spdy::data(pair.errors, true, &[]));
        opening.extend(spdy::open(pair.bytes, false, &headers("data")));
        self.stream.write_all(&opening).await?;
        self.stream.flush().await
    }
}

type Remote<'a> = &'a mut Switched;

/// From the local side to the pod. Returns only when the way to the board has ended.
async fn up(
    pair: Pair,
    mut local: LocalRead<'_>,
    mut write: WriteHalf<Remote<'_>>,
    mut pongs: mpsc::Receiver<Bytes>,
    shared: &Shared,
) {
    let mut buffer = vec![0; BLOCK];
    loop {
        let frame = tokio::select! {
            Some(payload) = pongs.recv() => spdy::control(PING, &payload),
            read = local.read(&mut buffer), if !shared.ended.load(Ordering::Relaxed) => match read {
                Ok(count @ 1..) => spdy::data(pair.bytes, false, &buffer[..count]),
                read => {
                    shared.ended.store(true, Ordering::Relaxed);
                    shared.abandoned.store(read.is_err(), Ordering::Relaxed);
                    match read {
                        Ok(_) => spdy::data(pair.bytes, true, &[]),
                        Err(_) => spdy::reset(pair.bytes, CANCEL),
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
    read: ReadHalf<Remote<'a>>,
    buffer: &'a mut BytesMut,
    local: LocalWrite<'a>,
    pong: mpsc::Sender<Bytes>,
    shared: &'a Shared,
}

impl Down<'_> {
    async fn run(&mut self, pair: Pair) -> Ending {
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
            let frame = match spdy::take_frame(self.buffer) {
                Ok(Some(frame)) => frame,
                Err(_) => return Ending::Lost,
                Ok(None) => {
                    tokio::select! {
                        read = self.read.read_buf(self.buffer) => if !matches!(read, Ok(1..)) {
                            // Whoever has said all needs no good-bye.
                            return if bytes_ended { Ending::Done } else { Ending::Lost };
                        },
                        () = self.shared.news.notified() => {}
                    }
                    continue;
                }
            };
            match frame {
                Frame::Data { stream, fin, payload } if stream == pair.bytes => {
                    if self.local.write_all(&payload).await.is_err() {
                        return Ending::Abandoned;
                    }
                    if fin {
                        bytes_ended = true;
                        let _ = self.local.shutdown().await;
                    }
                }
                Frame::Data { stream, fin, payload } if stream == pair.errors => {
                    let room = ERROR_BYTES.saturating_sub(error.len()).min(payload.len());
                    error.extend_from_slice(&payload[..room]);
                    errors_ended |= fin;
                }
                Frame::Data { .. } => {}
                Frame::Control { kind: PING, payload, .. } => drop(self.pong.try_send(payload)),
                Frame::Control { kind: RST_STREAM, payload, .. } => match stream_of(&payload) {
                    id if id != pair.bytes => errors_ended |= id == pair.errors,
                    // It has said all, and has gone.
                    _ if bytes_ended => return Ending::Abandoned,
                    _ => return Ending::Reset,
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
