//! A tiny registry in this process for tests, which can want tokens, redirect, break off, lie.

use crate::images::digest::Digest;
use crate::images::tests::samples::Sample;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, std::io::Error>;

/// How the registry behaves.
#[derive(Default)]
pub(in crate::images) struct Manners {
    pub(in crate::images) token: bool,
    pub(in crate::images) password: Option<&'static str>,
    /// Blobs are fetched from this authority.
    pub(in crate::images) redirect: Mutex<Option<String>>,
    /// Each blob breaks off after so many bytes, so many times.
    pub(in crate::images) breaks: AtomicU32,
    pub(in crate::images) break_after: usize,
    pub(in crate::images) no_ranges: bool,
    /// Blobs have a wrong byte, so many times.
    pub(in crate::images) lies: AtomicU32,
    /// Server errors before the first good answer.
    pub(in crate::images) errors: AtomicU32,
    pub(in crate::images) html: bool,
    pub(in crate::images) stall: bool,
}

pub(in crate::images) struct Registry {
    pub(in crate::images) manners: Manners,
    /// By path below `/v2/`.
    pub(in crate::images) content: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(in crate::images) log: Mutex<Vec<String>>,
    pub(in crate::images) authority: String,
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let body = json!({"errors": [{"code": code, "message": format!("no: {code}")}]});
    answer(status, full(body.to_string()))
}

/// Takes one from a counter, if there is one.
fn take(counter: &AtomicU32) -> bool {
    counter.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Registry {
    pub(in crate::images) async fn start(manners: Manners) -> Arc<Registry> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Arc::new(Registry {
            manners,
            content: Mutex::default(),
            log: Mutex::default(),
            authority: listener.local_addr().unwrap().to_string(),
        });
        let server = registry.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.serve(request).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        registry
    }

    pub(in crate::images) fn push(&self, repository: &str, tag: &str, image: &Sample) {
        let mut content = self.content.lock().unwrap();
        for blob in image.blobs() {
            content.insert(format!("{repository}/blobs/{}", Digest::of(&blob)), blob);
        }
        let digest = Digest::of(&image.manifest);
        for target in [tag, digest.as_str()] {
            content.insert(format!("{repository}/manifests/{target}"), image.manifest.clone());
        }
    }

    pub(in crate::images) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.authority)
    }

    pub(in crate::images) fn count(&self, part: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let (path, method) = (request.uri().path().to_string(), request.method().clone());
        let query = request.uri().query().unwrap_or("").to_string();
        let header = |name| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("").to_string()
        };
        let (sent, range) = (header(AUTHORIZATION), header(RANGE));
        self.log.lock().unwrap().push(format!("{method} {path} [{sent}] {range} ?{query}"));
        if path == "/token" {
            return self.token(&sent);
        }
        if let Some(denied) = self.refuse(&sent) {
            return denied;
        }
        if take(&self.manners.errors) {
            return error(StatusCode::SERVICE_UNAVAILABLE, "BUSY");
        }
        if self.manners.html {
            let mut page = answer(StatusCode::OK, full("<html>log in</html>"));
            page.headers_mut().insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
            return page;
        }
        let key = path.strip_prefix("/v2/").unwrap_or(&path).to_string();
        let found = self.content.lock().unwrap().get(&key).cloned();
        let Some(bytes) = found else {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        };
        if path.contains("/manifests/") {
            let digest = Digest::of(&bytes);
            let body = if method == Method::HEAD { full("") } else { full(bytes) };
            let mut found = answer(StatusCode::OK, body);
            let digest = digest.as_str().parse().unwrap();
            found.headers_mut().insert("docker-content-digest", digest);
            return found;
        }
        let redirect = self.manners.redirect.lock().unwrap().clone();
        if let Some(authority) = redirect {
            let mut moved = answer(StatusCode::TEMPORARY_REDIRECT, full(""));
            let to = format!("http://{authority}{path}?signature=x");
            moved.headers_mut().insert(LOCATION, to.parse().unwrap());
            return moved;
        }
        self.blob(bytes, &range)
    }

    fn token(&self, sent: &str) -> Response<Body> {
        match self.manners.password {
            Some(password) if sent != password => error(StatusCode::UNAUTHORIZED, "DENIED"),
            _ => answer(StatusCode::OK, full(r#"{"token":"open-sesame"}"#)),
        }
    }

    fn refuse(&self, sent: &str) -> Option<Response<Body>> {
        let (wanted, challenge) = if self.manners.token {
            let realm = format!("http://{}/token", self.authority);
            let challenge =
                format!(r#"Bearer realm="{realm}",service="here",scope="repository:a:pull""#);
            ("Bearer open-sesame", challenge)
        } else {
            (self.manners.password?, r#"Basic realm="here""#.to_string())
        };
        if sent == wanted {
            return None;
        }
        let mut refused = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        refused.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(refused)
    }

    fn blob(&self, mut bytes: Vec<u8>, range: &str) -> Response<Body> {
        let total = bytes.len();
        let mut status = StatusCode::OK;
        let mut start = 0;
        if let Some(from) = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-'))
            && !self.manners.no_ranges
        {
            start = from.parse().unwrap();
            status = StatusCode::PARTIAL_CONTENT;
        }
        if total > 10_000 && take(&self.manners.lies) {
            bytes[total / 2] ^= 1;
        }
        let rest = Bytes::from(bytes).slice(start..);
        let mut frames: Vec<Result<Frame<Bytes>, std::io::Error>> = Vec::new();
        if total > 10_000 && take(&self.manners.breaks) {
            let keep = self.manners.break_after.min(rest.len());
            frames.push(Ok(Frame::data(rest.slice(..keep))));
            frames.push(Err(std::io::Error::other("cut")));
        } else {
            frames.push(Ok(Frame::data(rest.clone())));
        }
        let stalls = total > 10_000 && self.manners.stall;
        let paced = futures_util::stream::unfold(frames.into_iter(), move |mut left| async move {
            let frame = left.next();
            let wait = if stalls { Duration::from_secs(3600) } else { Duration::from_millis(20) };
            // Time for what was sent before to arrive, if it ends in an error.
            if frame.as_ref().is_some_and(Result::is_err) || stalls {
                tokio::time::sleep(wait).await;
            }
            frame.map(|frame| (frame, left))
        });
        let mut found = answer(status, BodyExt::boxed(StreamBody::new(paced)));
        found.headers_mut().insert("content-length", rest.len().into());
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {start}-{}/{total}", total - 1);
            found.headers_mut().insert("content-range", range.parse().unwrap());
        }
        found
    }
}
