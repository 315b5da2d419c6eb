//! The board's part of `edgectl net check`: a network as a pod has it, without a pod or an image,
//! that answers whoever asks; questions put from there or from the board; and what the kernel has
//! that explains the answers. A sandbox lives as long as the request that asked for it: whatever
//! ends that, also a caller's kill, ends the sandbox. A caller that wants to see it gone before it
//! ends itself says so.

mod answering;
mod facts;
mod probe;
mod sandbox;

use std::sync::Arc;

use edge_api::status::Status;
use http::{Method, Request};
use hyper::body::Incoming;

use super::reply::Reply;
use crate::agent::Board;

/// The port on which sandboxes answer, by TCP and UDP.
const PORT: u16 = 7007;
/// How uids of sandboxes begin. No pod's does.
const PREFIX: &str = "net-check-";

/// Answers what is asked below `/netCheck`.
pub(super) async fn serve(
    board: &Arc<Board>,
    what: &str,
    request: Request<Incoming>,
) -> Result<Reply, Status> {
    let run = request.uri().query().and_then(|query| query.strip_prefix("run=")).map(str::to_owned);
    match (what, request.method()) {
        ("facts", &Method::GET) => facts::tell(board).await,
        ("sandbox", &Method::POST) => sandbox::open(board, run.as_deref()).await,
        ("sandbox", &Method::DELETE) => sandbox::close(board, run.as_deref()).await,
        ("probe", &Method::POST) => probe::all(board, request.into_body()).await,
        _ => Err(Status::no_such_path()),
    }
}
