//! The board's images: listed, and loaded from an archive that comes in as a request's body.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Incoming};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::reply::{self, Reply};
use crate::agent::Board;
use crate::images::Progress;

/// Steps of a load that may wait to be sent; more are left out.
const STEPS: usize = 64;

/// All images.
pub(super) fn list(board: &Board) -> Reply {
    let images: Vec<Value> = board
        .images
        .list()
        .into_iter()
        .map(|image| {
            json!({ "id": image.id, "tags": image.tags, "digests": image.digests,
                "bytes": image.bytes })
        })
        .collect();
    reply::json(200, &Value::Array(images))
}

/// Takes an archive in, and tells how it goes in lines of JSON.
pub(super) fn load(board: &Arc<Board>, body: Incoming) -> Reply {
    let (out, reply) = reply::stream("application/json-lines");
    let board = board.clone();
    tokio::spawn(async move {
        let (steps, mut told) = mpsc::channel(STEPS);
        let progress = Progress::new(move |step| {
            let _ = steps.try_send(line(&json!({ "status": step.to_string() })));
        });
        let mut reader = Reader { body, left: Bytes::new() };
        let mut work = Box::pin(board.images.load(&mut reader, &progress));
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                Some(step) = told.recv() => {
                    if out.send(step).await.is_err() {
                        return; // Nobody listens any more.
                    }
                }
            }
        };
        drop(work);
        while let Ok(step) = told.try_recv() {
            let _ = out.send(step).await;
        }
        let last = match result {
            Ok(loaded) => {
                board.images_changed.notify_one();
                json!({ "loaded": loaded })
            }
            Err(error) => json!({ "error": error.to_string() }),
        };
        let _ = out.send(line(&last)).await;
        // The sender hears of a fault only if what it still sends is taken in.
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    });
    reply
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

/// A request's body as a stream of bytes.
struct Reader {
    body: Incoming,
    left: Bytes,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.left = data;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.left.len().min(buf.remaining());
        buf.put_slice(&self.left[..count]);
        self.left.advance(count);
        Poll::Ready(Ok(()))
    }
}
