//! Which answer a path gets.

use std::sync::Arc;

use edge_api::status::{Reason, Status};
use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::peer::Caller;
use super::query::Query;
use super::reply::{self, Reply, refuse};
use super::{blobs, check, exec, forward, images, logs, stats, upgrade};
use crate::agent::Board;

/// Answers a request.
pub(super) async fn answer(
    board: &Arc<Board>,
    caller: Caller,
    request: Request<Incoming>,
) -> Reply {
    let path = request.uri().path().to_owned();
    let read = request.method() == Method::GET || request.method() == Method::HEAD;
    if !allows(caller, request.method(), &path) {
        let text = format!("Forbidden (verb={}, path={path})", request.method());
        return refuse(&Status::new(Reason::Forbidden, text));
    }
    let query = Query::parse(request.uri().query());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let result = match parts[..] {
        ["healthz"] if read => Ok(reply::text(200, "ok")),
        ["pods"] if read => Ok(pods(board)),
        ["containerLogs", namespace, pod, container] if read => {
            logs::serve(board, namespace, pod, container, &query)
        }
        ["exec", namespace, pod, container] => {
            exec::exec(board, (namespace, pod, container), &query, request).await
        }
        ["attach", namespace, pod, container] => {
            exec::attach(board, (namespace, pod, container), &query, request)
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            forward::serve(board, namespace, pod, &query, request)
        }
        ["images"] if read => Ok(images::list(board)),
        ["images", "manifest"] if read => blobs::manifest(&board.images, &query),
        ["images", "blob", digest] if read => blobs::blob(&board.images, digest, request.headers()),
        ["images", "missing"] if request.method() == Method::POST => {
            blobs::missing(&board.images, request.into_body()).await
        }
        ["images", "pull"] if request.method() == Method::POST => images::pull(board, &query),
        ["images", "load"] if request.method() == Method::POST => {
            images::load(board, &query, request)
        }
        ["images", "follow"] if request.method() == Method::POST => images::follow(board, &query),
        ["images", "push", id] if request.method() == Method::GET => images::push(board, id).await,
        ["netCheck", what] => check::serve(board, what, request).await,
        ["upgrade", ref what @ ..] => upgrade::serve(board, what, &query, request).await,
        ["stats", "summary"] if read => Ok(stats::summary(board)),
        _ => Err(Status::no_such_path()),
    };
    result.unwrap_or_else(|status| refuse(&status))
}

/// Whether this caller may do this here.
fn allows(caller: Caller, method: &Method, path: &str) -> bool {
    let read = method == Method::GET || method == Method::HEAD;
    match caller {
        Caller::Master => true,
        Caller::Board => read && blobs::is_for_boards(path),
        Caller::Stranger => false,
    }
}

/// The pods that run here, as they are.
fn pods(board: &Board) -> Reply {
    let items: Vec<Value> = board
        .pod_views()
        .into_iter()
        .map(|pod| {
            let mut object = (*pod.object).clone();
            object["status"] = (*pod.status).clone();
            object
        })
        .collect();
    reply::json(
        200,
        &json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_load_and_only_boards_beside_them_read_pushes() {
        for path in [
            "/images/load",
            "/images/follow",
            "/images/pull",
            "/images/missing",
            "/netCheck/probe",
            "/upgrade/file",
            "/upgrade",
        ] {
            assert!(allows(Caller::Master, &Method::POST, path), "{path}");
            for caller in [Caller::Board, Caller::Stranger] {
                assert!(!allows(caller, &Method::POST, path), "{path}");
                assert!(!allows(caller, &Method::GET, path), "{path}");
            }
        }
        let push = "/images/push/0123456789abcdef0123456789abcdef";
        assert!(allows(Caller::Board, &Method::GET, push));
        assert!(!allows(Caller::Board, &Method::POST, push));
        assert!(!allows(Caller::Stranger, &Method::GET, push));
    }
}
