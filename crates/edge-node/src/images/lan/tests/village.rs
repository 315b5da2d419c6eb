//! Boards in this process that talk over plain HTTP, and a server that knows who has what by the
//! same table as the real one.

use crate::images::tests::samples::Scratch;
use crate::images::{Digest, ImageStore, ImagesConfig, Lan, Progress, Timing};
use bytes::Bytes;
use edge_client::{Client, Config};
use edge_core::image_source::{Held, Meaning, Source, Sources, Want};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How a board gives.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    #[default]
    Honest,
    /// Flips a bit in the middle.
    Lies,
    /// Sends half, then nothing.
    Stalls,
    /// Sends half, then hangs up.
    Breaks,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) table: Mutex<Sources>,
    /// Where boards listen.
    boards: Mutex<BTreeMap<String, SocketAddr>>,
    /// Names that were pushed.
    pub(super) pushed: Mutex<BTreeMap<String, Digest>>,
}

pub(super) struct Board {
    pub(super) store: ImageStore,
    pub(super) lan: Arc<Lan>,
    /// Bytes of blobs that it gave.
    pub(super) given: Arc<AtomicU64>,
    _scratch: Scratch,
}

pub(super) struct Village {
    pub(super) server: Arc<Server>,
    address: SocketAddr,
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn answer(code: StatusCode, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer
}

async fn serve<F, G>(handler: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> G + Clone + Send + Sync + 'static,
    G: Future<Output = Response<Body>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

impl Village {
    pub(super) async fn start() -> Village {
        let server = Arc::new(Server::default());
        let shared = server.clone();
        let address = serve(move |request| {
            let server = shared.clone();
            async move {
                let path = request.uri().path().to_owned();
                let query = request.uri().query().unwrap_or_default().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let what = path.rsplit('/').next().unwrap();
                answer(StatusCode::OK, full(server.answer(what, &query, &body).to_string()))
            }
        })
        .await;
        Village { server, address }
    }

    /// A board that gives as `manner` has it.
    pub(super) async fn board(&self, name: &str, manner: Manner) -> Board {
        let scratch = Scratch::new(&format!("lan-{name}"));
        let base = Config { servers: vec![format!("http://{}", self.address)], ..<_>::default() };
        let api = Client::new(base.clone()).unwrap();
        let mut lan = Lan::new(name, api, base);
        lan.stall = Duration::from_millis(500);
        let lan = Arc::new(lan);
        let timing = Timing { backoff: Duration::from_millis(1), ..Timing::default() };
        let config = ImagesConfig { lan: Some(lan.clone()), timing, ..<_>::default() };
        let store = ImageStore::open(&scratch.0.join("images"), config).unwrap();
        let given = Arc::new(AtomicU64::new(0));
        let (shared, counter) = (store.clone(), given.clone());
        let address = serve(move |request| {
            let (store, counter) = (shared.clone(), counter.clone());
            async move { give(&store, &counter, manner, &request) }
        })
        .await;
        self.server.boards.lock().unwrap().insert(name.to_owned(), address);
        Board { store, lan, given, _scratch: scratch }
    }
}

impl Board {
    /// Loads an archive and tells the servers.
    pub(super) async fn load(&self, archive: &[u8]) {
        self.store.load(archive, &Progress::none()).await.unwrap();
        self.tell().await;
    }

    /// Tells the servers once what is here.
    pub(super) async fn tell(&self) {
        let names: BTreeMap<String, Digest> = self.store.names().into_iter().collect();
        let body = json!({ "mark": "m", "digests": self.store.holds(), "names": names });
        self.lan.ask("have", body).await.unwrap();
    }

    pub(super) fn given(&self) -> u64 {
        self.given.load(SeqCst)
    }
}

impl Server {
    fn answer(&self, what: &str, query: &str, body: &Value) -> Value {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let node = text("node");
        let alive = |_: &str| true;
        let mut table = self.table.lock().unwrap();
        let place = |node: &str| {
            let at = self.boards.lock().unwrap()[node];
            json!({ "node": node, "address": at.ip(), "port": at.port() })
        };
        match what {
            "have" => {
                let digests = serde_json::from_value(body["digests"].clone()).unwrap();
                let names = serde_json::from_value(body["names"].clone()).unwrap();
                table.have(&node, Held { mark: text("mark"), digests, names });
                json!({ "known": true })
            }
            "want" => {
                let want = Want {
                    node,
                    digests: serde_json::from_value(body["digests"].clone()).unwrap(),
                    refused: serde_json::from_value(body["refused"].clone()).unwrap(),
                    uplink: body["uplink"] == true,
                };
                match table.want(&want, alive, 0, 7) {
                    Source::Uplink => json!({ "uplink": true }),
                    Source::Nowhere => json!({}),
                    Source::Board { node, digest } => {
                        let mut from = place(&node);
                        from["digest"] = json!(digest);
                        json!({ "from": from })
                    }
                }
            }
            "moved" if text("state") == "going" => {
                table.going(&node, &text("digest"), 0);
                json!({})
            }
            "moved" => {
                let diff = text("diff");
                table.ended(&node, &text("digest"), Some(diff.as_str()).filter(|d| !d.is_empty()));
                json!({})
            }
            "resolve" => match self.pushed.lock().unwrap().get(&text("name")) {
                Some(digest) => json!({ "digest": digest, "pushed": true }),
                None if body["pushed_only"] == true => json!({}),
                None => match table.meaning(&text("name"), &node, alive, 0) {
                    Meaning::Digest(digest) => json!({ "digest": digest, "pushed": false }),
                    Meaning::Ask => json!({}),
                    Meaning::Wait => json!({ "wait_ms": 50 }),
                },
            },
            "holders" => {
                let digest = query.strip_prefix("digest=").unwrap();
                json!({ "holders": table.holders(digest).map(place).collect::<Vec<_>>() })
            }
            other => panic!("{other}"),
        }
    }
}

fn give(
    store: &ImageStore,
    counter: &Arc<AtomicU64>,
    manner: Manner,
    request: &Request<Incoming>,
) -> Response<Body> {
    let digest = request.uri().path().strip_prefix("/images/blob/").unwrap();
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let from: u64 = range.map_or(0, |r| {
        r.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
    });
    let Some(shared) = store.share(&Digest::parse(digest).unwrap()) else {
        return answer(StatusCode::NOT_FOUND, full(""));
    };
    let length = shared.length;
    let large = length > 100_000;
    let mut pieces = store.read(shared, from).unwrap();
    let counter = counter.clone();
    let (out, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(4);
    tokio::spawn(async move {
        let mut sent = from;
        while let Some(mut piece) = pieces.recv().await {
            counter.fetch_add(piece.len() as u64, SeqCst);
            if large && sent > length / 2 {
                match manner {
                    Manner::Honest => {}
                    Manner::Lies => {
                        let mut bytes = piece.to_vec();
                        bytes[0] ^= 1;
                        piece = Bytes::from(bytes);
                    }
                    Manner::Stalls => tokio::time::sleep(Duration::from_secs(600)).await,
                    Manner::Breaks => return,
                }
            }
            sent += piece.len() as u64;
            if out.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
    });
    let stream = futures_util::stream::unfold(body, |mut body| async move {
        body.recv().await.map(|piece| (piece, body))
    });
    let code = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut reply = answer(code, StreamBody::new(stream).boxed_unsync());
    reply.headers_mut().insert(CONTENT_LENGTH, (length - from).into());
    reply
}
