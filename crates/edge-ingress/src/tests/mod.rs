//! The proxy as clients and endpoints see it: real sockets, real HTTP on both sides.

mod hostile;
mod http2;
mod kept;
mod limits;
mod routes;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edge_api::Object;
use edge_core::ingress::Table;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Ports, Proxy};

/// Nothing here takes longer, on a slow machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// An endpoint of a test's own, and how many requests it got.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<AtomicUsize>,
}

impl Endpoint {
    pub(super) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answers HTTP/1.1 requests with what `answer` makes of them.
    pub(super) async fn serve<F, A>(answer: F) -> Endpoint
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (endpoint, listener) = Endpoint::listen().await;
        let requests = endpoint.requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, requests) = (answer.clone(), requests.clone());
                let service = service_fn(move |request| {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        endpoint
    }

    /// Says its name, and what it was asked.
    pub(super) async fn named(name: &'static str) -> Endpoint {
        Endpoint::serve(move |request| async move {
            let mut text = format!("{name} {} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
            }
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            text.push_str(&format!("body {}\n", body.map_or(0, |body| body.len())));
            Response::new(Full::from(text))
        })
        .await
    }

    /// Serves each connection by hand.
    pub(super) async fn raw<F, A>(serve: F) -> Endpoint
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let (endpoint, listener) = Endpoint::listen().await;
        let requests = endpoint.requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        endpoint
    }

    pub(super) async fn listen() -> (Endpoint, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Endpoint { address, requests: Arc::default() }, listener)
    }
}

/// One line of a table: host, path, endpoints.
pub(super) type Line<'a> = (&'a str, &'a str, &'a [SocketAddr]);

/// An Ingress with these lines; `more` is merged into it.
pub(super) fn table(lines: &[Line<'_>], more: Value) -> Table {
    let (mut rules, mut services, mut slices) = (Vec::new(), Vec::new(), Vec::new());
    for (n, (host, path, targets)) in lines.iter().enumerate() {
        let name = format!("s{n}");
        let protocol = if path.contains("grpc") { "grpc" } else { "http" };
        let backend = json!({"service": {"name": name, "port": {"number": 80}}});
        let paths = json!([{"path": path, "pathType": "Prefix", "backend": backend}]);
        let mut rule = json!({"http": {"paths": paths}});
        if !host.is_empty() {
            rule["host"] = json!(host);
        }
        rules.push(rule);
        services.push(json!({"metadata": {"name": name, "namespace": "a"},
            "spec": {"ports": [{"port": 80, "appProtocol": protocol}]}}));
        for target in *targets {
            slices.push(json!({"metadata": {"namespace": "a",
                    "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"port": target.port()}],
                "endpoints": [{"addresses": [target.ip().to_string()]}]}));
        }
    }
    let mut ingress: Object =
        json!({"metadata": {"name": "i", "namespace": "a"}, "spec": {"rules": rules}});
    edge_api::patch::merge_patch(&mut ingress, &more);
    Table::gather([&ingress], &services, &slices)
}

/// A proxy on ports of its own, with a table.
pub(super) async fn proxy(table: Table) -> Proxy {
    let proxy = Proxy::start(Ports { http: 0, https: 0 }).await.unwrap();
    proxy.route(table);
    proxy
}

/// Sends bytes, and reads until the connection ends.
pub(super) async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The proxy may have had enough before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut heard)).await;
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    assert!(ended.is_ok(), "no end of {begin:?}: {}", String::from_utf8_lossy(&heard));
    String::from_utf8_lossy(&heard).into_owned()
}

/// One `GET`; the whole answer.
pub(super) async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    talk(address, text.as_bytes()).await
}

/// The status of an answer.
pub(super) fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
