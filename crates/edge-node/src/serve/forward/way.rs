//! One connection on its way: bytes from the client to the pod and back, each direction to its own
//! end, whatever frames they travel in.

use bytes::Bytes;
use edge_client::spdy::{self, INTERNAL};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::dial::Dial;
use crate::serve::websocket;

/// Frames that wait to be written to the client, of all connections of a session.
pub(super) const FRAMES: usize = 16;
/// Pieces from the client that wait for one connection.
pub(super) const PIECES: usize = 64;
/// Bytes from the client that wait for all connections of a session.
pub(super) const WAITING: usize = 1 << 20;
/// Bytes read from the pod at once.
const BLOCK: usize = 32 << 10;

/// What a client says on a connection; the end of its bytes is the channel's.
pub(super) enum Piece {
    /// Bytes, and the room that they take.
    Bytes(Bytes, OwnedSemaphorePermit),
    /// It has broken the connection off.
    Reset,
}

/// In which frames a connection's bytes go to the client.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    /// SPDY streams of these numbers.
    Streams {
        /// For bytes.
        data: u32,
        /// For an error.
        error: u32,
    },
    /// WebSocket channels; that for an error is the next one.
    Channel(u8),
}

/// A connection's way to the client.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) frames: mpsc::Sender<Vec<u8>>,
    pub(super) framing: Framing,
}

/// The client has gone.
pub(super) struct Gone;

impl Out {
    async fn send(&self, frame: Vec<u8>) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }

    async fn bytes(&self, bytes: &[u8]) -> Result<(), Gone> {
        self.send(match self.framing {
            Framing::Streams { data, .. } => spdy::data(data, false, bytes),
            Framing::Channel(n) => websocket::frame(websocket::BINARY, &[n], bytes),
        })
        .await
    }

    /// The pod says no more, and there is no error.
    async fn end(&self) -> Result<(), Gone> {
        if let Framing::Streams { data, error } = self.framing {
            self.send(spdy::data(data, true, &[])).await?;
            self.send(spdy::data(error, true, &[])).await?;
        }
        Ok(())
    }

    /// Why there is no connection. Clients look at the error once the other stream has ended.
    pub(super) async fn refuse(&self, why: &str) -> Result<(), Gone> {
        match self.framing {
            Framing::Streams { data, error } => {
                self.send(spdy::data(error, true, why.as_bytes())).await?;
                self.send(spdy::data(data, true, &[])).await
            }
            Framing::Channel(n) => {
                self.send(websocket::frame(websocket::BINARY, &[n + 1], why.as_bytes())).await
            }
        }
    }

    /// The pod has broken the connection off.
    async fn reset(&self) -> Result<(), Gone> {
        if let Framing::Streams { data, error } = self.framing {
            self.send(spdy::reset(data, INTERNAL)).await?;
            self.send(spdy::data(error, true, &[])).await?;
        }
        Ok(())
    }
}

/// Connects to the port and carries the connection until both sides have said all.
pub(super) async fn carry(dial: Dial, port: u16, mut told: mpsc::Receiver<Piece>, out: Out) {
    let mut stream = match dial.connect(port).await {
        Ok(stream) => stream,
        Err(why) => {
            tracing::debug!("port-forward: {why}");
            let _ = out.refuse(&why).await;
            return;
        }
    };
    if both(&mut stream, &mut told, &out).await == Verdict::Broken {
        let _ = stream.set_zero_linger();
    }
}

/// How the client's side ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It has said all.
    Finished,
    /// The connection is to be broken off.
    Broken,
}

async fn both(stream: &mut TcpStream, told: &mut mpsc::Receiver<Piece>, out: &Out) -> Verdict {
    let (read, write) = stream.split();
    let up = up(write, told);
    let down = down(read, out);
    tokio::pin!(up, down);
    tokio::select! {
        verdict = &mut up => match verdict {
            Verdict::Broken => Verdict::Broken,
            Verdict::Finished => {
                let _ = down.await;
                Verdict::Finished
            }
        },
        ended = &mut down => match ended {
            // In channels only the end of all tells the client that this one has ended.
            Ok(true) if matches!(out.framing, Framing::Channel(_)) => Verdict::Finished,
            Ok(true) => up.await,
            // A client that is told of a reset, or gone, says nothing of use any more.
            Ok(false) | Err(Gone) => Verdict::Broken,
        },
    }
}

async fn up(mut write: WriteHalf<'_>, told: &mut mpsc::Receiver<Piece>) -> Verdict {
    let mut dead = false;
    while let Some(piece) = told.recv().await {
        match piece {
            Piece::Reset => return Verdict::Broken,
            // What the pod still says is worth more than that it reads no more.
            Piece::Bytes(bytes, _room) => dead = dead || write.write_all(&bytes).await.is_err(),
        }
    }
    let _ = write.shutdown().await;
    Verdict::Finished
}

/// True once the pod has said all, false when it has broken off.
async fn down(mut read: ReadHalf<'_>, out: &Out) -> Result<bool, Gone> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) => return out.end().await.map(|()| true),
            Ok(count) => out.bytes(&buffer[..count]).await?,
            Err(_) => return out.reset().await.map(|()| false),
        }
    }
}
