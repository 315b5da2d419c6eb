//! A board that pretends: it registers a Node, says that every pod bound to it runs, and answers
//! on its port what the server passes on to agents: logs, exec, images.

use crate::world::World;
use bytes::Bytes;
use edge_api::{Object, kinds, meta};
use edge_client::tls::{self, ClientAuth};
use edge_client::watcher::{Event, Watcher};
use edge_client::{Client, Config, PatchType, WatchParams, WriteParams};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Ends with the test.
pub(crate) struct Board {
    _tasks: JoinSet<()>,
}

impl Board {
    pub(crate) async fn join(world: &World) -> Board {
        let address = "127.0.0.1".parse().unwrap();
        let credentials = world.server.agent_credentials("board", &[address]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tls::server_config(
            credentials.serving_cert_pem.as_bytes(),
            credentials.serving_key_pem.as_bytes(),
            ClientAuth::Required(credentials.ca_pem.as_bytes()),
        )
        .unwrap();
        let client = Client::new(Config {
            servers: vec![format!("https://127.0.0.1:{}", world.server.address().port())],
            ca_pem: Some(credentials.ca_pem.into_bytes()),
            client_cert_pem: Some(credentials.client_cert_pem.into_bytes()),
            client_key_pem: Some(credentials.client_key_pem.into_bytes()),
            ..Config::default()
        })
        .unwrap();
        register(&client, port).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(listener, Arc::new(serving)));
        tasks.spawn(pretend(client));
        Board { _tasks: tasks }
    }
}

async fn register(client: &Client, port: u16) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "board", "labels": {"kubernetes.io/hostname": "board"}},
    });
    client.create(kinds::NODE, "", &node, &WriteParams::default()).await.unwrap();
    let amounts = json!({"cpu": "4", "memory": "4Gi", "pods": "110"});
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "capacity": amounts, "allocatable": amounts,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Pretending"}],
    }});
    patch(client, kinds::NODE, "", "board", &status).await;
}

async fn patch(client: &Client, kind: &'static kinds::Kind, ns: &str, name: &str, patch: &Object) {
    let params = WriteParams::default();
    let sub = Some("status");
    let how = PatchType::Strategic;
    if let Err(error) = client.patch(kind, ns, name, sub, how, patch, &params).await {
        assert!(error.is_not_found() || error.is_conflict(), "{error}");
    }
}

/// Says of every pod bound here that it runs, and lets go of those that shall end.
async fn pretend(client: Client) {
    let params = WatchParams {
        field_selector: Some("spec.nodeName=board".to_string()),
        ..WatchParams::default()
    };
    let mut watcher = Watcher::new(client.clone(), kinds::POD, "", params);
    loop {
        match watcher.next().await {
            Event::Restarted(pods) => {
                for pod in pods {
                    run(&client, &pod).await;
                }
            }
            Event::Applied(pod) => run(&client, &pod).await,
            Event::Deleted(_) => {}
        }
    }
}

async fn run(client: &Client, pod: &Object) {
    let (ns, name) = (meta::namespace(pod), meta::name(pod));
    if meta::is_deleting(pod) {
        let params = edge_client::DeleteParams {
            grace_period_seconds: Some(0),
            ..edge_client::DeleteParams::default()
        };
        let _ = client.delete(kinds::POD, ns, name, &params).await;
        return;
    }
    if pod["status"]["phase"] == "Running" {
        return;
    }
    let now = "2024-01-02T00:00:00Z";
    let statuses: Vec<Object> = pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            json!({"name": c["name"], "image": c["image"], "imageID": "sha256:0", "ready": true,
                   "restartCount": 0, "containerID": "edged://0",
                   "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let conditions: Vec<Object> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    let status = json!({"status": {
        "phase": "Running", "hostIP": "127.0.0.1", "podIP": "10.42.0.2",
        "podIPs": [{"ip": "10.42.0.2"}], "startTime": now,
        "conditions": conditions, "containerStatuses": statuses,
    }});
    patch(client, kinds::POD, ns, name, &status).await;
}

async fn answer(listener: TcpListener, serving: Arc<tokio_rustls::rustls::ServerConfig>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(serving);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(one))
                .with_upgrades()
                .await;
        });
    }
}

async fn one(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_string();
    let query = request.uri().query().unwrap_or("").to_string();
    if path.starts_with("/exec/") {
        return Ok(exec(request, &query));
    }
    let body = match (request.method(), path.as_str()) {
        (&Method::POST, "/images/load") => {
            let size = request.into_body().collect().await.unwrap().to_bytes().len();
            let status = json!({"status": format!("{size} bytes")});
            format!("{status}\n{}\n", json!({"loaded": ["docker.io/library/web:1"]}))
        }
        (_, "/images") => {
            let image = json!({"id": "sha256:0123456789abcdef", "tags": ["web:1"],
                               "digests": [], "bytes": 2048});
            json!({"images": [image]}).to_string()
        }
        (_, path) if path.starts_with("/containerLogs/") => {
            format!("{path}\n{query}\nlast line\n")
        }
        _ => String::new(),
    };
    Ok(Response::new(Full::from(body)))
}

/// Accepts the WebSocket and plays a program: it echoes its input, or ends with code 3.
fn exec(mut request: Request<Incoming>, query: &str) -> Response<Full<Bytes>> {
    let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_string();
    assert!(header("sec-websocket-protocol").starts_with("v5.channel.k8s.io"));
    let accepted = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", header("sec-websocket-key"));
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, accepted.as_bytes());
    use base64::Engine;
    let digest = base64::engine::general_purpose::STANDARD.encode(digest);
    let upgrade = hyper::upgrade::on(&mut request);
    let (query, echo) = (query.to_string(), query.contains("stdin=true"));
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        if echo {
            while let Some(message) = read_message(&mut stream).await {
                match message.as_slice() {
                    [255, 0] => break,
                    [0, data @ ..] => write_message(&mut stream, 1, data).await,
                    _ => {}
                }
            }
            write_message(&mut stream, 3, br#"{"status":"Success"}"#).await;
        } else {
            write_message(&mut stream, 1, query.as_bytes()).await;
            write_message(&mut stream, 2, b"oops").await;
            let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"exit",
                "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
            write_message(&mut stream, 3, failed).await;
        }
        let _ = read_message(&mut stream).await;
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", digest.as_str()),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A short, masked frame, as clients send them.
async fn read_message(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let mut head = [0u8; 2];
    stream.read_exact(&mut head).await.ok()?;
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        length = usize::from(stream.read_u16().await.ok()?);
    }
    let mut mask = [0u8; 4];
    stream.read_exact(&mut mask).await.ok()?;
    let mut data = vec![0; length];
    stream.read_exact(&mut data).await.ok()?;
    data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    if head[0] & 0x0f == 8 { None } else { Some(data) }
}

async fn write_message(stream: &mut (impl AsyncWriteExt + Unpin), channel: u8, data: &[u8]) {
    let length = u16::try_from(data.len() + 1).unwrap();
    let mut frame = vec![0x82, 126];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(channel);
    frame.extend_from_slice(data);
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
}
