//! A client's SPDY session: a pair of streams, one for bytes and one for an error, is a connection;
//! many of them at once. Clients keep no windows, so one that is not read for long holds up the
//! others of its session, and the memory that all of them take is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use edge_client::spdy::{
    self, FIN, Frame, GOAWAY, PING, REFUSED, RST_STREAM, SYN_REPLY, SYN_STREAM, take_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::dial::Dial;
use super::way::{self, FRAMES, Framing, Out, PIECES, Piece, WAITING};
use crate::serve::spdy::Inflater;

/// Connections of one session at once.
const CONNECTIONS: usize = 1024;
/// Pings that wait to be answered; more are left unanswered.
const PONGS: usize = 4;
/// A client has this long to open the second stream of a pair.
const PAIRING: Duration = Duration::from_secs(30);

/// A connection of which one stream is open.
struct Half {
    port: u16,
    data: Option<u32>,
    error: Option<u32>,
    since: Instant,
}

/// The reading side of a session.
struct Session {
    dial: Dial,
    inflater: Inflater,
    replied: bool,
    /// By the number that the client gave the pair.
    halves: BTreeMap<String, Half>,
    /// Where the bytes of a stream go.
    inboxes: BTreeMap<u32, mpsc::Sender<Piece>>,
    /// Receivers of streams whose pair is not complete.
    early: BTreeMap<u32, mpsc::Receiver<Piece>>,
    frames: mpsc::Sender<Vec<u8>>,
    pongs: mpsc::Sender<Bytes>,
    room: Arc<Semaphore>,
    connections: JoinSet<()>,
}

/// Why reading ends.
type End = &'static str;
const OVER: End = "the client has ended the session";

/// Carries a session until the client ends it.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    dial: Dial,
) {
    let (read, write) = tokio::io::split(connection);
    let (frames, to_write) = mpsc::channel(FRAMES);
    let (pongs, to_answer) = mpsc::channel(PONGS);
    let mut session = Session {
        dial,
        inflater: Inflater::new(),
        replied: false,
        halves: BTreeMap::new(),
        inboxes: BTreeMap::new(),
        early: BTreeMap::new(),
        frames,
        pongs,
        room: Arc::new(Semaphore::new(WAITING)),
        connections: JoinSet::new(),
    };
    tokio::select! {
        end = session.run(read) => tracing::debug!("port-forward: {end}"),
        () = write_all(write, to_write, to_answer) => {}
    }
}

/// Writes frames until the connection fails.
async fn write_all(
    mut write: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Vec<u8>>,
    mut pongs: mpsc::Receiver<Bytes>,
) {
    loop {
        let frame = tokio::select! {
            biased;
            Some(payload) = pongs.recv() => spdy::control(PING, &payload),
            Some(frame) = frames.recv() => frame,
            else => return,
        };
        if write.write_all(&frame).await.is_err() {
            return;
        }
        if frames.is_empty() && write.flush().await.is_err() {
            return;
        }
    }
}

impl Session {
    async fn run(&mut self, mut read: impl AsyncRead + Unpin) -> End {
        let mut buffer = BytesMut::new();
        loop {
            match take_frame(&mut buffer) {
                Err(error) => return error,
                Ok(Some(frame)) => {
                    if let Err(end) = self.take(frame).await {
                        return end;
                    }
                }
                Ok(None) => tokio::select! {
                    read = read.read_buf(&mut buffer) => if !matches!(read, Ok(1..)) {
                        return OVER;
                    },
                    Some(_) = self.connections.join_next() => {}
                },
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Control { kind: SYN_STREAM, flags, payload } => {
                let id = payload.first_chunk::<4>().ok_or("a stream has no number")?;
                let id = u32::from_be_bytes(*id) & 0x7fff_ffff;
                let block = payload.get(10..).ok_or("a stream has no headers")?;
                let headers = self.inflater.read(block)?;
                self.open(id, &headers).await?;
                if flags & FIN != 0 {
                    self.inboxes.remove(&id);
                }
                Ok(())
            }
            Frame::Control { kind: PING, payload, .. } => {
                let _ = self.pongs.try_send(payload);
                Ok(())
            }
            Frame::Control { kind: RST_STREAM, payload, .. } => {
                let id = payload.first_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id));
                if let Some(inbox) = self.inboxes.remove(&id) {
                    // One that has no room is told by the channel's end.
                    let _ = inbox.try_send(Piece::Reset);
                }
                Ok(())
            }
            Frame::Control { kind: GOAWAY, .. } => Err(OVER),
            Frame::Control { .. } => Ok(()),
            Frame::Data { stream, fin, payload } => {
                self.pass(stream, payload).await;
                if fin {
                    self.inboxes.remove(&stream);
                }
                Ok(())
            }
        }
    }

    /// Passes bytes on to their connection, once there is room for them.
    async fn pass(&mut self, stream: u32, payload: Bytes) {
        let Some(inbox) = self.inboxes.get(&stream) else { return };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if length == 0 {
            return;
        }
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(length) => room,
            () = inbox.closed() => return,
        };
        if let Ok(room) = room {
            let _ = inbox.send(Piece::Bytes(payload, room)).await;
        }
    }

    async fn send(&self, frame: Vec<u8>) -> Result<(), End> {
        self.frames.send(frame).await.map_err(|_| OVER)
    }

    /// Takes a new stream, and begins the connection when it makes a pair whole.
    async fn open(&mut self, id: u32, headers: &BTreeMap<String, String>) -> Result<(), End> {
        self.forget_late().await?;
        let header = |name| headers.get(name).map(String::as_str).unwrap_or_default();
        let port = header("port").parse::<u16>().ok().filter(|port| *port > 0);
        let is_data = header("streamtype") == "data";
        let known = is_data || header("streamtype") == "error";
        let busy = self.halves.len() + self.connections.len() >= CONNECTIONS;
        let (Some(port), true, false) = (port, known, busy) else {
            tracing::debug!("port-forward: a stream is refused: {headers:?}");
            return self.send(spdy::reset(id, REFUSED)).await;
        };
        let block = spdy::block(!self.replied, &[]);
        self.replied = true;
        self.send(spdy::control(SYN_REPLY, &[&id.to_be_bytes()[..], &block].concat())).await?;
        if is_data {
            let (inbox, pieces) = mpsc::channel(PIECES);
            self.inboxes.insert(id, inbox);
            self.early.insert(id, pieces);
        }
        let request = match header("requestid") {
            // Old clients number no pairs: first comes the error's stream, next the other.
            "" if is_data => id.saturating_sub(2).to_string(),
            "" => id.to_string(),
            request => request.to_owned(),
        };
        let fresh = Half { port, data: None, error: None, since: Instant::now() };
        let half = self.halves.entry(request.clone()).or_insert(fresh);
        let (side, name) = match is_data {
            true => (&mut half.data, "data"),
            false => (&mut half.error, "error"),
        };
        if side.replace(id).is_some() {
            self.halves.remove(&request);
            let why = format!(
                "error processing stream for request {request}: {name} stream already assigned"
            );
            return self.send(spdy::data(id, true, why.as_bytes())).await;
        }
        if let (Some(data), Some(error)) = (half.data, half.error) {
            let port = half.port;
            self.halves.remove(&request);
            if let Some(pieces) = self.early.remove(&data) {
                let framing = Framing::Streams { data, error };
                let out = Out { frames: self.frames.clone(), framing };
                self.connections.spawn(way::carry(self.dial.clone(), port, pieces, out));
            }
        }
        Ok(())
    }

    /// Gives up pairs whose second stream never came.
    async fn forget_late(&mut self) -> Result<(), End> {
        let late = |half: &Half| half.since.elapsed() > PAIRING;
        let gone: Vec<String> =
            self.halves.iter().filter(|(_, half)| late(half)).map(|(id, _)| id.clone()).collect();
        for request in gone {
            let Some(half) = self.halves.remove(&request) else { continue };
            if let Some(data) = half.data {
                self.inboxes.remove(&data);
                self.early.remove(&data);
                self.send(spdy::reset(data, REFUSED)).await?;
            }
            if let Some(error) = half.error {
                let why = format!("(request={request}) timed out waiting for streams");
                self.send(spdy::data(error, true, why.as_bytes())).await?;
            }
        }
        Ok(())
    }
}
