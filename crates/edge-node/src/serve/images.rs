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

use edge_api::status::Status;

use super::query::Query;
use super::reply::{self, Reply};
use crate::agent::Board;
use crate::images::{ImageError, Progress};

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

/// Takes an archive in, and tells how it goes in lines of JSON. `name` is what its only image is
/// to be called.
pub(super) fn load(board: &Arc<Board>, name: Option<String>, body: Incoming) -> Reply {
    let (out, reply) = reply::stream("application/json-lines");
    let board = board.clone();
    tokio::spawn(async move {
        let mut reader = Reader { body, left: Bytes::new() };
        let images = board.images.clone();
        let work = |progress: Progress| {
            let reader = &mut reader;
            async move {
                let loaded = images.load(reader, &progress).await?;
                let loaded = match name {
                    Some(name) => vec![images.call_only(&loaded, &name)?],
                    None => loaded,
                };
                let told: Vec<Value> = loaded.iter().filter_map(|n| images.describe(n)).collect();
                Ok(json!({ "loaded": loaded, "images": told }))
            }
        };
        if tell(&board, &out, work).await {
            // The sender hears of a fault only if what it still sends is taken in.
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        }
    });
    reply
}

/// Gets an image from the other boards or a registry, and tells how it goes.
pub(super) fn pull(board: &Arc<Board>, query: &Query) -> Result<Reply, Status> {
    let name = query.get("ref").ok_or_else(|| Status::bad_request("say ?ref=…"))?.to_owned();
    let (out, reply) = reply::stream("application/json-lines");
    let board = board.clone();
    tokio::spawn(async move {
        let images = board.images.clone();
        let work = |progress: Progress| async move {
            images.obtain(&name, &[], true, &progress).await?;
            Ok(json!({ "loaded": [name] }))
        };
        tell(&board, &out, work).await;
    });
    Ok(reply)
}

/// Does the work and tells its steps, then how it ended; false if nobody listens any more.
async fn tell<F>(board: &Board, out: &mpsc::Sender<Bytes>, work: impl FnOnce(Progress) -> F) -> bool
where
    F: Future<Output = Result<Value, ImageError>>,
{
    let (steps, mut told) = mpsc::channel(STEPS);
    let progress = Progress::new(move |step| {
        let _ = steps.try_send(line(&json!({ "status": step.to_string() })));
    });
    let mut work = Box::pin(work(progress));
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Some(step) = told.recv() => {
                if out.send(step).await.is_err() {
                    return false;
                }
            }
        }
    };
    drop(work);
    while let Ok(step) = told.try_recv() {
        let _ = out.send(step).await;
    }
    let last = match result {
        Ok(done) => {
            board.images_changed.notify_one();
            done
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    out.send(line(&last)).await.is_ok()
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
