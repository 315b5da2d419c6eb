//! A server for tests, in process: a script answers each request by its number.

use crate::body::{self, Body};
use crate::{Client, Config, Patience};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// One request as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) authorization: String,
    pub(crate) connection: usize,
}

pub(crate) struct Fake {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }

    pub(crate) fn client(&self) -> Client {
        client(std::slice::from_ref(&self.url))
    }
}

pub(crate) fn client(urls: &[String]) -> Client {
    let config = Config {
        servers: urls.to_vec(),
        token: Some("secret".to_string()),
        insecure: true,
        ..Config::default()
    };
    let patience = Patience { answer: Duration::from_secs(5), ..Patience::default() };
    Client::with_patience(config, patience).unwrap()
}

/// Starts a server; `answer` gets each request with its number. `None` drops the connection.
pub(crate) async fn serve<F>(answer: F) -> Fake
where
    F: Fn(usize, &Seen) -> Option<Response<Body>> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, answer) = (seen.clone(), Arc::new(answer));
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection_of(stream, connection, log.clone(), answer.clone()));
            connection += 1;
        }
    });
    Fake { url, seen }
}

async fn connection_of<F>(
    stream: TcpStream,
    connection: usize,
    log: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<F>,
) where
    F: Fn(usize, &Seen) -> Option<Response<Body>> + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (log, answer) = (log.clone(), answer.clone());
        async move {
            let (head, incoming) = request.into_parts();
            let bytes = incoming.collect().await.unwrap().to_bytes();
            let header = head.headers.get("authorization").map(|v| v.to_str().unwrap());
            let seen = Seen {
                method: head.method.to_string(),
                path: head.uri.to_string(),
                body: String::from_utf8(bytes.to_vec()).unwrap(),
                authorization: header.unwrap_or("").to_string(),
                connection,
            };
            let number = {
                let mut log = log.lock().unwrap();
                log.push(seen.clone());
                log.len() - 1
            };
            answer(number, &seen).ok_or("dropped")
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

pub(crate) fn answer(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(body::full(value.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
           "code": code, "reason": reason, "message": message})
}

/// A watch that says these lines, cut into uneven pieces, and then ends or stays silent.
pub(crate) fn lines(values: &[Value], stay: bool) -> Response<Body> {
    let text: String = values.iter().map(|value| format!("{value}\n")).collect();
    let pieces: Vec<_> =
        text.as_bytes().chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let end = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let spoken = futures_util::stream::iter(pieces);
    use futures_util::StreamExt;
    let body = match stay {
        true => body::stream(spoken.chain(end)),
        false => body::stream(spoken),
    };
    Response::new(body)
}
