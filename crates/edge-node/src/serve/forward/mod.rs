//! `/portForward`: connections to ports of a pod, carried to a client. The client chooses how they
//! travel: in SPDY streams as all versions of `kubectl` want it, in the same streams within a
//! WebSocket (`kubectl` since 1.31), or in a WebSocket's own channels (browsers and others).

mod channels;
mod dial;
mod session;
mod tunnel;
mod way;

use std::sync::Arc;
use std::time::Duration;

use edge_api::status::Status;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::query::Query;
use super::reply::Reply;
use super::{find, spdy, websocket};
use crate::agent::{Board, PodView};
use dial::Dial;

/// The protocol within SPDY.
const STREAMS: &str = "portforward.k8s.io";
/// SPDY within a WebSocket.
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// A WebSocket's own channels.
const CHANNELS: &str = "v4.channel.k8s.io";
/// How often a session looks whether its pod still runs.
const LOOK: Duration = Duration::from_secs(1);

/// How a session's connections travel.
enum Travel {
    Streams,
    Tunnelled,
    /// To these ports, one connection each.
    Channels(Vec<u16>),
}

/// Agrees on a protocol, and carries connections until client or pod end.
pub(super) fn serve(
    board: &Arc<Board>,
    namespace: &str,
    pod: &str,
    query: &Query,
    mut request: Request<Incoming>,
) -> Result<Reply, Status> {
    let pod = find::pod(board, namespace, pod)?;
    let headers = request.headers();
    let (reply, travel) = if websocket::asked(headers) {
        let known = [TUNNELLED, CHANNELS];
        let (reply, chosen) = websocket::agree(headers, &known).map_err(Status::bad_request)?;
        let travel = match chosen {
            TUNNELLED => Travel::Tunnelled,
            _ => Travel::Channels(ports(query)?),
        };
        (reply, travel)
    } else if spdy::asked(headers) {
        (spdy::agree(headers, STREAMS).map_err(Status::bad_request)?, Travel::Streams)
    } else {
        return Err(Status::bad_request("unable to upgrade: missing upgrade headers in request"));
    };
    let network = board.net.find_pod(pod.uid()).filter(|_| runs(board, &pod)).ok_or_else(|| {
        let phase = pod.status["phase"].as_str().unwrap_or("Unknown");
        let name = pod.name();
        Status::bad_request(format!("pod {name} is not running: current phase is {phase}"))
    })?;
    let dial = Dial { uid: pod.uid().to_owned(), namespace: network.namespaces.net };
    let upgrade = hyper::upgrade::on(&mut request);
    let board = board.clone();
    tokio::spawn(async move {
        let connection = match upgrade.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => return tracing::debug!("upgrade for port-forward: {error}"),
        };
        let carried = async {
            match travel {
                Travel::Streams => session::carry(connection, dial).await,
                Travel::Tunnelled => session::carry(tunnel::open(connection), dial).await,
                Travel::Channels(ports) => channels::carry(connection, dial, ports).await,
            }
        };
        tokio::select! {
            () = carried => {}
            () = ended(&board, &pod) => {
                tracing::debug!("port-forward: pod {} has ended", pod.name());
            }
        }
    });
    Ok(reply)
}

/// True until the pod has ended, or is here no more.
fn runs(board: &Board, pod: &PodView) -> bool {
    let view = board.pod_view(pod.uid());
    let over = |view: &PodView| {
        let phase = view.status["phase"].as_str();
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    view.is_some_and(|view| !over(&view))
}

/// Waits until the pod has ended.
async fn ended(board: &Board, pod: &PodView) {
    while runs(board, pod) && board.net.find_pod(pod.uid()).is_some() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The ports that a query names, under the API's name or the kubelet's.
fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let mut found = Vec::new();
    for list in query.all("port").iter().chain(&query.all("ports")) {
        for text in list.split(',') {
            let port = text.parse::<u16>().map_err(|error| {
                Status::bad_request(format!("unable to parse \"{text}\" as a port: {error}"))
            })?;
            if port == 0 {
                return Err(Status::bad_request(format!("port \"{text}\" must be > 0")));
            }
            found.push(port);
        }
    }
    match found.len() {
        0 => Err(Status::bad_request("query parameter \"port\" is required")),
        1..=channels::PORTS => Ok(found),
        _ => Err(Status::bad_request(format!("at most {} ports at once", channels::PORTS))),
    }
}

#[cfg(test)]
mod tests;
