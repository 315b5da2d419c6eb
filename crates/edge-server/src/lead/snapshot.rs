//! Handing out the whole state to another server: streamed while it is read, so that its size
//! costs no memory. What breaks off lacks its end mark, and the other side refuses it.

use crate::auth::{Identity, SERVERS};
use crate::http::{Reply, ReplyBody, answer};
use bytes::Bytes;
use edge_api::status::{Reason, Status};
use edge_store::Store;
use futures_util::stream;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes of one piece.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for the connection.
const WAITING: usize = 4;

/// Answers a server of this cluster with the state as it is now.
pub(crate) fn hand_out(store: &Store, who: &Identity) -> Result<Reply, Status> {
    if !who.in_group(SERVERS) {
        let message = format!("User {:?} is no server of this cluster", who.user);
        return Err(Status::new(Reason::Forbidden, message));
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    let store = store.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { sender, gathered: Vec::with_capacity(PIECE) };
        match store.snapshot(&mut out).map_err(|error| error.to_string()) {
            Ok(revision) => match out.flush() {
                Ok(()) => tracing::info!("handed out the state as of revision {revision}"),
                Err(error) => tracing::debug!("hand out the state: {error}"),
            },
            Err(error) => tracing::warn!("hand out the state: {error}"),
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece: Bytes = receiver.recv().await?;
        Some((piece.into(), receiver))
    });
    Ok(answer(200, "application/octet-stream", ReplyBody::Stream(Box::pin(pieces))))
}

/// Gathers bytes and passes them on.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the other server went away");
        self.sender.blocking_send(piece.into()).map_err(gone)
    }
}
