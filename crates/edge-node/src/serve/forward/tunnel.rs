//! A stream of bytes within a WebSocket: each message is a piece of it.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::serve::websocket::{BINARY, CLOSE, Messages, NORMAL, PONG, frame};

/// Bytes on the way, in each direction.
const ROOM: usize = 64 << 10;
/// The largest message that is sent.
const PIECE: usize = 32 << 10;

/// What the messages of a connection carry, as one stream; both end together.
pub(super) fn open(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> DuplexStream {
    let (near, far) = tokio::io::duplex(ROOM);
    tokio::spawn(async move {
        let (read, mut write) = tokio::io::split(connection);
        let (mut bytes, mut told) = tokio::io::split(far);
        let (pongs, mut pong) = mpsc::channel::<Bytes>(1);
        let inward = async {
            let mut messages = Messages::new(read, pongs);
            while let Some(message) = messages.next().await {
                if told.write_all(&message).await.is_err() {
                    return;
                }
            }
        };
        let outward = async {
            let mut buffer = vec![0; PIECE];
            loop {
                let message = tokio::select! {
                    Some(payload) = pong.recv() => frame(PONG, &[], &payload),
                    read = bytes.read(&mut buffer) => match read {
                        Ok(count @ 1..) => frame(BINARY, &[], &buffer[..count]),
                        _ => break,
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
            () = inward => {}
            () = outward => {}
        }
    });
    near
}
