//! What a check sets up and takes away again: a sandbox on each board, which is there only while
//! this process reads from it, and two Services in front of them.

use super::board::{Board, Facts, Sandbox};
use super::plan::Front;
use crate::fault::Fault;
use edge_api::{Object, kinds, meta};
use edge_client::query::Query;
use edge_client::{Call, Client, Error};
use futures_util::StreamExt;
use futures_util::stream;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

use crate::resource::Resource;

/// Held while something is made: whoever removes it waits for that, also where the check was ended
/// in the middle of a request, which the server does all the same.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What marks the Services of a check.
const LABEL: &str = "edged.dev/net-check";
/// Objects of a check that is as old as this were left behind.
const STALE_S: i64 = 180;
/// Boards that are asked at once.
const AT_ONCE: usize = 16;
/// How long a board may take to make a sandbox.
const SANDBOX: Duration = Duration::from_secs(10);
/// How long a board may take to remove one.
const CLOSE: Duration = Duration::from_secs(4);
/// How long addresses of the Service are waited for.
const ADDRESSES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// A path of a board's agent, by the API server.
pub(super) fn agent(board: &str, what: &str) -> String {
    format!("/api/v1/nodes/{board}/proxy/netCheck/{what}")
}

/// The boards of the cluster with their facts, and a sandbox on each that can have one.
pub(super) async fn boards(client: &Client, run: &str) -> Result<(Vec<Board>, Open), Fault> {
    let asked = stream::iter(listed(client).await?).map(|board| furnish(client, board, run));
    let furnished: Vec<(Board, Option<Response<Incoming>>)> =
        asked.buffered(AT_ONCE).collect().await;
    let (boards, open): (Vec<Board>, Vec<_>) = furnished.into_iter().unzip();
    Ok((boards, Open { _responses: open.into_iter().flatten().collect() }))
}

async fn listed(client: &Client) -> Result<Vec<Board>, Fault> {
    let list = client.call(&Call::get(Resource::from(kinds::NODE).path("", "", None))).await?;
    let nodes = list.object["items"].as_array().cloned().unwrap_or_default();
    let mut boards: Vec<Board> = nodes.iter().map(Board::read).collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(boards)
}

/// Waits until the sandboxes of a run are gone. A board that can't be asked takes its own away by
/// itself.
pub(super) async fn close(client: &Client, run: &str) {
    let Ok(Ok(boards)) = tokio::time::timeout(CLOSE, listed(client)).await else { return };
    let closing = stream::iter(boards).for_each_concurrent(AT_ONCE, |board| async move {
        let path = agent(&board.name, &format!("sandbox?run={run}"));
        let _ = tokio::time::timeout(CLOSE, client.call(&Call::new(Method::DELETE, path))).await;
    });
    closing.await;
}

/// Open sandboxes: they go when this does.
pub(super) struct Open {
    _responses: Vec<Response<Incoming>>,
}

async fn furnish(
    client: &Client,
    mut board: Board,
    run: &str,
) -> (Board, Option<Response<Incoming>>) {
    let now = || Timestamp::now().as_millisecond();
    let began = now();
    let ask = Call::get(agent(&board.name, "facts"));
    let told = tokio::time::timeout(SANDBOX, client.call(&ask)).await;
    board.facts = match told {
        // Our own clock stood between the question and the answer.
        Ok(Ok(answer)) => Ok(Facts::read(&answer.object, (began + now()) / 2)),
        Ok(Err(error)) if is_absent(&error) => Err("its edged is too old to take part".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    if board.facts.is_err() {
        board.sandbox = Err("its agent can't be asked".to_owned());
        return (board, None);
    }
    match tokio::time::timeout(SANDBOX, sandbox(client, &board.name, run)).await {
        Ok(Ok((sandbox, response))) => {
            board.sandbox = Ok(sandbox);
            (board, Some(response))
        }
        Ok(Err(why)) => {
            board.sandbox = Err(why);
            (board, None)
        }
        Err(_) => {
            board.sandbox = Err("it made no network for a check in time".to_owned());
            (board, None)
        }
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Status(status) if status.code == 404)
}

async fn sandbox(
    client: &Client,
    board: &str,
    run: &str,
) -> Result<(Sandbox, Response<Incoming>), String> {
    let call = Call::new(Method::POST, agent(board, &format!("sandbox?run={run}")));
    let mut response = client.stream(&call).await.map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let frame = response.body_mut().frame().await;
        let frame = frame.ok_or("it ended the sandbox at once")?.map_err(|e| e.to_string())?;
        if let Some(data) = frame.data_ref() {
            line.extend_from_slice(data);
        }
    }
    let first: Object = serde_json::Deserializer::from_slice(&line)
        .into_iter()
        .next()
        .and_then(Result::ok)
        .ok_or("it said nothing of its sandbox")?;
    let sandbox = Sandbox {
        uid: first["uid"].as_str().unwrap_or_default().to_owned(),
        address: first["address"].as_str().and_then(|ip| ip.parse().ok()).ok_or("no address")?,
        port: first["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
    };
    Ok((sandbox, response))
}

/// Names of a run's objects.
pub(super) fn names(run: &str) -> (String, String) {
    (format!("net-check-{run}"), format!("net-check-{run}-headless"))
}

/// Makes the Services of a run, and waits for their addresses.
pub(super) async fn services(
    client: &Client,
    namespace: &str,
    run: &str,
    port: u16,
    boards: &[Board],
) -> Result<Front, String> {
    let (name, headless) = names(run);
    let endpoints: Vec<Object> = boards
        .iter()
        .filter_map(|board| {
            let sandbox = board.sandbox.as_ref().ok()?;
            Some(json!({"addresses": [sandbox.address], "conditions": {"ready": true},
                        "nodeName": board.name}))
        })
        .collect();
    let target = boards.iter().find_map(|board| Some(board.sandbox.as_ref().ok()?.port));
    let target = target.ok_or("no board has a network for a check")?;
    let both = |key: &str, number: u16| -> Object {
        ["TCP", "UDP"]
            .map(|protocol| {
                json!({"name": protocol.to_lowercase(), "protocol": protocol,
                                   key: number})
            })
            .into()
    };
    for (name, spec) in [
        (&name, json!({"type": "LoadBalancer", "ports": both("port", port)})),
        (&headless, json!({"clusterIP": "None", "ports": both("port", target)})),
    ] {
        let labels = json!({LABEL: run});
        let service = json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"name": name, "namespace": namespace, "labels": labels}});
        create(client, kinds::SERVICE, namespace, &service).await?;
        let labels = json!({LABEL: run, "kubernetes.io/service-name": name,
            "endpointslice.kubernetes.io/managed-by": "edgectl"});
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints, "ports": both("port", target)});
        create(client, kinds::ENDPOINT_SLICE, namespace, &slice).await?;
    }
    let mut front = Front {
        name: name.clone(),
        namespace: namespace.to_owned(),
        port,
        headless,
        ..Front::default()
    };
    let end = tokio::time::Instant::now() + ADDRESSES;
    let path = Resource::from(kinds::SERVICE).path(namespace, &name, None);
    loop {
        let service = client.call(&Call::get(&path)).await.map_err(|error| error.to_string())?;
        let service = service.object;
        let address = |value: &Object| value.as_str().and_then(|text| text.parse().ok());
        front.address = address(&service["spec"]["clusterIP"]);
        let node_port = service["spec"]["ports"][0]["nodePort"].as_u64();
        front.node_port = node_port.and_then(|port| u16::try_from(port).ok());
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        front.balancers =
            ingress.into_iter().flatten().filter_map(|entry| address(&entry["ip"])).collect();
        if !front.balancers.is_empty() || tokio::time::Instant::now() >= end {
            return Ok(front);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn create(
    client: &Client,
    kind: &edge_api::kinds::Kind,
    namespace: &str,
    object: &Object,
) -> Result<(), String> {
    let path = Resource::from(kind).path(namespace, "", None);
    let call = Call::new(Method::POST, path).json(object);
    let (turn, client) = (MAKING.lock().await, client.clone());
    let making = tokio::spawn(async move {
        let _turn = turn;
        client.call(&call).await
    });
    let made = making.await.map_err(|error| format!("make the Service of the check: {error}"))?;
    made.map(|_| ()).map_err(|error| format!("the Service of the check can't be made: {error}"))
}

/// Removes the Services of a run.
pub(super) async fn remove(client: &Client, namespace: &str, run: &str) -> Result<(), Fault> {
    let _turn = MAKING.lock().await;
    let mut faults = Vec::new();
    for name in [names(run).0, names(run).1] {
        for kind in [kinds::ENDPOINT_SLICE, kinds::SERVICE] {
            let path = Resource::from(kind).path(namespace, &name, None);
            match client.call(&Call::new(Method::DELETE, path)).await {
                Err(error) if !is_absent(&error) => faults.push(Fault::from(error)),
                _ => {}
            }
        }
    }
    Fault::all(faults)
}

/// Removes what checks left behind that were killed. Sandboxes of theirs have gone by themselves.
pub(super) async fn sweep(client: &Client, namespace: &str) -> Result<(), Fault> {
    let mut query = Query::new();
    query.add("labelSelector", LABEL);
    for kind in [kinds::ENDPOINT_SLICE, kinds::SERVICE] {
        let resource = Resource::from(kind);
        let path = query.on(&resource.path(namespace, "", None));
        let list = client.call(&Call::get(path)).await?.object;
        for item in list["items"].as_array().into_iter().flatten() {
            let made = meta::creation_timestamp(item).parse::<Timestamp>();
            let age = made.map_or(STALE_S, |at| Timestamp::now().as_second() - at.as_second());
            if age >= STALE_S {
                let path = resource.path(namespace, meta::name(item), None);
                match client.call(&Call::new(Method::DELETE, path)).await {
                    Err(error) if !is_absent(&error) => return Err(error.into()),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
