//! Handing the cluster out: as of one revision, which is no older than the request, and streamed
//! while it is read, so that its size costs no memory. What breaks off lacks its end.

use super::Room;
use super::sum::Sha256;
use crate::api::now_ms;
use crate::http::{Reply, ReplyBody, answer};
use crate::pki::{ClusterSecrets, to_hex};
use bytes::Bytes;
use edge_api::backup::{End, Head, Letter, Server, Sum, frame};
use edge_api::status::Status;
use edge_core::consensus::MemberInfo;
use edge_store::Store;
use futures_util::stream;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Bytes of one frame's body.
const PIECE: usize = 64 * 1024;
/// Frames that wait for the connection.
const WAITING: usize = 2;

impl Room {
    /// The stream.
    pub(super) async fn give(&self) -> Result<Reply, Status> {
        let Ok(turn) = self.giving.clone().try_acquire_owned() else {
            return Err(Status::unavailable("another backup is being taken here: try again soon"));
        };
        self.api.inner.leadership.barrier(&self.api).await?;
        let dir = self.data_dir.clone();
        let secrets = tokio::task::spawn_blocking(move || ClusterSecrets::read(&dir)).await;
        let secrets = secrets.map_err(Status::internal)?.map_err(Status::internal)?;
        let secrets = secrets.ok_or_else(|| Status::internal("the cluster's secret is missing"))?;
        let members = self.api.inner.leadership.standing().members.clone();
        let server = |info: &MemberInfo| Server { name: info.name.clone(), api: info.api.clone() };
        let head = Head {
            made_ms: now_ms(),
            servers: members.all().map(server).collect(),
            cluster: secrets.id.clone(),
            secret: to_hex(&secrets.secret),
            ca: self.authority.ca_pem().to_owned(),
            ca_key: self.authority.key_pem(),
            ..self.head.clone()
        };
        let head = serde_json::to_vec(&head).map_err(Status::internal)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let store = self.api.store().clone();
        tokio::task::spawn_blocking(move || {
            match write(&store, &head, sender) {
                Ok(end) => tracing::info!("handed out a backup as of revision {}", end.revision),
                Err(error) => tracing::warn!("hand out a backup: {error}"),
            }
            drop(turn);
        });
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let frame: Bytes = receiver.recv().await?;
            Some((frame.into(), receiver))
        });
        Ok(answer(200, "application/octet-stream", ReplyBody::Stream(Box::pin(frames))))
    }
}

/// Writes all frames; blocks while the connection does.
fn write(store: &Store, head: &[u8], sender: mpsc::Sender<Bytes>) -> Result<End, String> {
    let text = |error: io::Error| error.to_string();
    let mut out = Framer { sender, sum: Sha256::default(), gathered: Vec::with_capacity(PIECE) };
    out.send(Letter::Head, head).map_err(text)?;
    let (revision, objects) = store.export(&mut out).map_err(|error| error.to_string())?;
    out.flush().map_err(text)?;
    let end = End::of(out.sum.clone(), revision, objects);
    let body = serde_json::to_vec(&end).map_err(|error| error.to_string())?;
    out.send(Letter::End, &body).map_err(text)?;
    Ok(end)
}

/// Makes frames of what the store writes.
struct Framer {
    sender: mpsc::Sender<Bytes>,
    sum: Sha256,
    gathered: Vec<u8>,
}

impl Framer {
    fn send(&mut self, letter: Letter, body: &[u8]) -> io::Result<()> {
        let frame = frame(letter, body);
        self.sum.update(&frame);
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "whoever asked went away");
        self.sender.blocking_send(frame.into()).map_err(gone)
    }
}

impl Write for Framer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.gathered.len();
        let taken = bytes.len().min(room);
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        let sent = self.send(Letter::State, &gathered);
        self.gathered = gathered;
        self.gathered.clear();
        sent
    }
}
