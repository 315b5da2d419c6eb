//! Port-forward in a WebSocket's own channels: two for each port, the first for its bytes and the
//! second for an error. Both begin with the port's number. One connection a port; no side can say
//! that it has said all, other than by ending everything.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::dial::Dial;
use super::way::{self, FRAMES, Framing, Out, PIECES, Piece, WAITING};
use crate::serve::websocket::{BINARY, CLOSE, Messages, NORMAL, PONG, frame};

/// Most ports of one connection: channels are numbered by a byte.
pub(super) const PORTS: usize = 64;

/// Carries a connection to each of the ports, until all have ended or the client does.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    dial: Dial,
    ports: Vec<u16>,
) {
    let (read, mut write) = tokio::io::split(connection);
    let (frames, mut to_write) = mpsc::channel::<Vec<u8>>(FRAMES);
    let (pongs, mut pong) = mpsc::channel::<Bytes>(1);
    let mut connections = JoinSet::new();
    let mut inboxes = Vec::new();
    let mut channel = 0;
    for port in ports {
        let (inbox, pieces) = mpsc::channel(PIECES);
        inboxes.push(inbox);
        let out = Out { frames: frames.clone(), framing: Framing::Channel(channel) };
        let greeting = [channel, channel + 1].map(|n| frame(BINARY, &[n], &port.to_le_bytes()));
        let (dial, frames) = (dial.clone(), frames.clone());
        connections.spawn(async move {
            for greeting in greeting {
                if frames.send(greeting).await.is_err() {
                    return;
                }
            }
            way::carry(dial, port, pieces, out).await;
        });
        channel += 2;
    }
    drop(frames);
    let outward = async {
        loop {
            let message = tokio::select! {
                Some(payload) = pong.recv() => frame(PONG, &[], &payload),
                message = to_write.recv() => match message {
                    Some(message) => message,
                    None => break,
                },
            };
            if write.write_all(&message).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        let _ = write.write_all(&frame(CLOSE, &NORMAL.to_be_bytes(), &[])).await;
        let _ = write.shutdown().await;
    };
    tokio::select! {
        () = inward(Messages::new(read, pongs), &inboxes) => {}
        () = outward => {}
    }
}

async fn inward(mut messages: Messages<impl AsyncRead + Unpin>, inboxes: &[mpsc::Sender<Piece>]) {
    let room = Arc::new(Semaphore::new(WAITING));
    while let Some(message) = messages.next().await {
        let Some((channel, rest)) = message.split_first() else { continue };
        let (channel, length) = (usize::from(*channel), rest.len().min(WAITING));
        let inbox = inboxes.get(channel / 2).filter(|_| channel.is_multiple_of(2));
        let (Some(inbox), 1..) = (inbox, length) else { continue };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = room.clone().acquire_many_owned(length) => room,
            () = inbox.closed() => continue,
        };
        if let Ok(room) = room {
            let _ = inbox.send(Piece::Bytes(message.slice(1..), room)).await;
        }
    }
}
