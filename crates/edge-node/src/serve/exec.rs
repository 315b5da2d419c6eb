//! `/exec` and `/attach`: a client's streams to a command in a container, or to the container
//! itself.

use std::sync::Arc;

use bytes::Bytes;
use edge_api::status::Status;
use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::mpsc;

use super::query::Query;
use super::read_log::Wanted;
use super::reply::{PIECES as LOG_PIECES, Reply};
use super::session::{self, FromClient, PIECES, ToClient};
use super::{find, logs, spdy, websocket};
use crate::agent::Board;
use crate::runtime::{ExecSpec, RuntimeError};

/// Which streams a client asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Asked {
    fn of(query: &Query) -> Result<Asked, Status> {
        let tty = query.flag("tty", "tty");
        let asked = Asked {
            stdin: query.flag("stdin", "input"),
            stdout: query.flag("stdout", "output"),
            stderr: query.flag("stderr", "error") && !tty,
            tty,
        };
        if !(asked.stdin || asked.stdout || asked.stderr) {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            return Err(Status::bad_request(text));
        }
        Ok(asked)
    }
}

/// The streams' way to the client.
struct Joined {
    told: mpsc::Receiver<FromClient>,
    tell: mpsc::Sender<ToClient>,
}

/// Agrees on a protocol, and carries streams over the connection once it is upgraded.
fn join(request: &mut Request<Incoming>, asked: Asked) -> Result<(Reply, Joined), Status> {
    let (from, told) = mpsc::channel(PIECES);
    let (tell, to) = mpsc::channel(PIECES);
    let headers = request.headers().clone();
    let (reply, framing) = if websocket::asked(&headers) {
        let reply = websocket::handshake(&headers).map_err(Status::bad_request)?;
        (reply, Framing::WebSocket)
    } else if spdy::asked(&headers) {
        (spdy::handshake(&headers).map_err(Status::bad_request)?, Framing::Spdy)
    } else {
        return Err(Status::bad_request("unable to upgrade: missing upgrade headers in request"));
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(carry(upgrade, framing, asked, from, to));
    Ok((reply, Joined { told, tell }))
}

enum Framing {
    WebSocket,
    Spdy,
}

async fn carry(
    upgrade: OnUpgrade,
    framing: Framing,
    asked: Asked,
    from: mpsc::Sender<FromClient>,
    to: mpsc::Receiver<ToClient>,
) {
    let connection = match upgrade.await {
        Ok(connection) => TokioIo::new(connection),
        Err(error) => return tracing::debug!("upgrade for a command: {error}"),
    };
    match framing {
        Framing::WebSocket => websocket::carry(connection, from, to).await,
        Framing::Spdy => spdy::carry(connection, asked, from, to).await,
    }
}

type Named<'a> = (&'a str, &'a str, &'a str);

/// Runs a command in a container.
pub(super) async fn exec(
    board: &Arc<Board>,
    (namespace, pod, container): Named<'_>,
    query: &Query,
    mut request: Request<Incoming>,
) -> Result<Reply, Status> {
    let asked = Asked::of(query)?;
    let args = query.all("command");
    if args.is_empty() {
        let text = "you must specify at least one command for the container";
        return Err(Status::bad_request(text));
    }
    let pod = find::pod(board, namespace, pod)?;
    let run = find::running(board, &pod, container)?;
    let (reply, joined) = join(&mut request, asked)?;
    let env_extra = if asked.tty { vec!["TERM=xterm".to_owned()] } else { Vec::new() };
    let spec = ExecSpec {
        args,
        env_extra,
        tty: asked.tty,
        stdin: asked.stdin,
        stdout: asked.stdout,
        stderr: asked.stderr,
    };
    let board = board.clone();
    tokio::spawn(async move {
        match board.runtime.exec(&run.id, &spec).await {
            Ok(session) => session::run(session, joined.told, joined.tell).await,
            Err(error) => {
                let message = match &error {
                    RuntimeError::Exec { message, .. } => message.clone(),
                    other => other.to_string(),
                };
                let _ = joined.tell.send(ToClient::Status(session::failure(&message))).await;
            }
        }
    });
    Ok(reply)
}

/// Shows a container's output from now on. Its input can't be reached: the shim keeps it.
pub(super) fn attach(
    board: &Arc<Board>,
    (namespace, pod, container): Named<'_>,
    query: &Query,
    mut request: Request<Incoming>,
) -> Result<Reply, Status> {
    let mut asked = Asked::of(query)?;
    if asked.stdin {
        return Err(Status::bad_request(
            "attach to standard input is not supported by this agent; use exec -it instead",
        ));
    }
    asked.stderr |= asked.tty;
    let pod = find::pod(board, namespace, pod)?;
    let run = find::running(board, &pod, container)?;
    let live = logs::path(board, &run, &pod);
    let (reply, joined) = join(&mut request, asked)?;
    let board = board.clone();
    tokio::spawn(async move {
        let (out, mut lines) = mpsc::channel::<Bytes>(LOG_PIECES);
        let wanted = Wanted { tail: Some(0), ..Wanted::default() };
        let copy = logs::copy(&board, &run, &live, wanted, true, &out);
        let pass = async {
            while let Some(bytes) = lines.recv().await {
                if joined.tell.send(ToClient::Stdout(bytes)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = copy => {}
            () = pass => return,
        }
        while let Ok(bytes) = lines.try_recv() {
            let _ = joined.tell.send(ToClient::Stdout(bytes)).await;
        }
        let done = json!({ "metadata": {}, "status": "Success" });
        let _ = joined.tell.send(ToClient::Status(done)).await;
    });
    Ok(reply)
}
