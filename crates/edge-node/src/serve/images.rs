//! The board's images: listed, and loaded from an archive that comes in as a request's body, or
//! along with a push to another board.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_LENGTH;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use edge_api::status::{Reason, Status};

use super::query::Query;
use super::reply::{self, Reply};
use crate::agent::Board;
use crate::images::relay::{self, Push, RelayError, Tee};
use crate::images::{ImageError, Progress};

/// After so many seconds another push may be handed on.
const AGAIN_S: u32 = 5;
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
/// to be called; `push` names the push if another board is to read along.
pub(super) fn load(
    board: &Arc<Board>,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Reply, Status> {
    let name = query.get("name").map(str::to_owned);
    let along = match reserve(board, query)? {
        None => None,
        Some(push) => {
            let length = request.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            let why = "what another board is to read along needs a Content-Length";
            Some((push, length.ok_or_else(|| Status::bad_request(why))?))
        }
    };
    let (out, reply) = reply::stream("application/json-lines");
    let board = board.clone();
    tokio::spawn(async move {
        let images = board.images.clone();
        let work = |progress: Progress| async move {
            let tee = match along {
                Some((push, length)) => push.offer(length).await,
                None => Tee::none(),
            };
            let (pieces, reader) = relay::channel();
            let pump = relay::pump(request.into_body(), tee, pieces, None, &progress);
            let (loaded, _) = tokio::join!(images.load(reader, &progress), pump);
            let loaded = match name {
                Some(name) => vec![images.call_only(&loaded?, &name)?],
                None => loaded?,
            };
            let told: Vec<Value> = loaded.iter().filter_map(|n| images.describe(n)).collect();
            Ok(json!({ "loaded": loaded, "images": told }))
        };
        tell(&board, &out, work).await;
    });
    Ok(reply)
}

/// A place for the push, if another board is to read along.
fn reserve(board: &Board, query: &Query) -> Result<Option<Push>, Status> {
    if !query.flag("follower", "follower") {
        return Ok(None);
    }
    let id = query.get("push").ok_or_else(|| Status::bad_request("say ?push=…"))?;
    board.images.relays().reserve(id).map(Some).map_err(refused)
}

fn refused(error: RelayError) -> Status {
    let text = error.to_string();
    match error {
        RelayError::BadId => Status::bad_request(text),
        RelayError::Busy => Status::too_many_requests(text, AGAIN_S),
        RelayError::Unknown => Status::new(Reason::NotFound, text),
        RelayError::Exists | RelayError::Taken => Status::new(Reason::Conflict, text),
    }
}

/// Reads a push to another board along, and tells how it goes.
pub(super) fn follow(board: &Arc<Board>, query: &Query) -> Result<Reply, Status> {
    let asked = |name| query.get(name).ok_or_else(|| Status::bad_request(format!("say ?{name}=…")));
    let (id, from) = (asked("push")?.to_owned(), asked("from")?.to_owned());
    relay::check(&id).map_err(refused)?;
    if from == board.name {
        return Err(Status::bad_request("a board can't read along with itself"));
    }
    let push = reserve(board, query)?;
    let (out, reply) = reply::stream("application/json-lines");
    let board = board.clone();
    tokio::spawn(async move {
        let images = board.images.clone();
        let work = |progress: Progress| async move {
            let (loaded, bytes) = images.follow(&from, &id, push, &progress).await?;
            Ok(json!({ "loaded": loaded, "from": from, "bytes": bytes }))
        };
        tell(&board, &out, work).await;
    });
    Ok(reply)
}

/// Gives a push to the one board that reads along.
pub(super) async fn push(board: &Board, id: &str) -> Result<Reply, Status> {
    let followed = board.images.relays().follow(id).await.map_err(refused)?;
    Ok(reply::pieces(200, followed.length, followed.pieces))
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

/// Does the work and tells its steps, then how it ended; leaves it when nobody listens any more.
async fn tell<F>(board: &Board, out: &mpsc::Sender<Bytes>, work: impl FnOnce(Progress) -> F)
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
                    return;
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
    let _ = out.send(line(&last)).await;
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}
