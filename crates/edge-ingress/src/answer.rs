//! One request: where it goes, what becomes of it on the way, and what is said when it can't go.

use std::sync::Arc;
use std::time::Duration;

use edge_core::ingress::Protocol;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Shared;
use super::body::{Busy, Progress, ReplyBody, RequestBody};
use super::endpoint::{Failed, Lease};
use super::headers::{self, Client};
use super::limits::TRIES;
use super::routing::Pool;
use super::target::{self, Target};
use super::tunnel;

/// Requests are logged only where everything is (`--log debug`): cards wear out.
const LOG: &str = "edged::ingress";

/// What a client is told when its request goes nowhere.
pub(super) struct Refusal {
    code: StatusCode,
    words: &'static str,
}

impl Refusal {
    /// A status and a sentence.
    pub(super) fn new(code: StatusCode, words: &'static str) -> Refusal {
        Refusal { code, words }
    }

    /// As a response.
    pub(super) fn response(self) -> Response<ReplyBody> {
        let text = format!("{}: {}\n", self.code, self.words);
        let mut response = Response::new(ReplyBody::words(text));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self.code == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Answers a request; `busy` is held until its answer has passed.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    client: &Client,
    request: Request<Incoming>,
    busy: Busy,
) -> Response<ReplyBody> {
    let line = tracing::enabled!(target: LOG, tracing::Level::DEBUG).then(|| {
        let host = request.headers().get(http::header::HOST).cloned();
        let words = format!("{} {} {} {host:?}", client.ip, request.method(), request.uri());
        (words, Instant::now())
    });
    let response = match pass(shared, client, request, busy).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    if let Some((line, began)) = line {
        let (code, spent) = (response.status().as_u16(), began.elapsed().as_millis());
        tracing::debug!(target: LOG, "{line} {code} {spent} ms");
    }
    response
}

async fn pass(
    shared: &Arc<Shared>,
    client: &Client,
    mut request: Request<Incoming>,
    busy: Busy,
) -> Result<Response<ReplyBody>, Refusal> {
    let permit = shared.requests.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way")
    })?;
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy of yours"));
    }
    let target =
        target::read(&request).map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why))?;
    let routing = shared.routing.current();
    let found = routing
        .table
        .find(&target.host, request.uri().path())
        .ok_or(Refusal::new(StatusCode::NOT_FOUND, "no Ingress has this host and path"))?;
    if found.route.redirect && !client.tls {
        return redirect(&target, request.uri(), shared.https_port);
    }
    let nobody = || {
        let words = "nobody answers for this now";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, words)
    };
    let (Some(backend), Some(place)) = (found.backend, found.route.backend) else {
        return Err(nobody());
    };
    let pool = routing.pools.get(place).ok_or_else(nobody)?;
    let limit = Duration::from_secs(found.route.timeout_seconds.into());
    let http2 = backend.protocol == Protocol::Http2;
    let asked = headers::upgrade(request.headers())
        .filter(|_| !http2 && request.version() == Version::HTTP_11);
    let waiting = asked.is_some().then(|| hyper::upgrade::on(&mut request));
    let progress = Progress::new();
    let request = outgoing(request, client, &target, http2, asked, limit, (&progress, &busy))?;
    let upgrade = waiting.is_some();
    let (mut response, lease) = send(pool, request, upgrade, limit, &progress).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(waiting) = waiting else {
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, "nobody asked to change protocols"));
        };
        let changed = response.headers().get(UPGRADE).cloned();
        let theirs = hyper::upgrade::on(&mut response);
        tunnel::open(waiting, theirs, lease, permit, shared.stop.clone());
        let mut answer = response.map(|_| ReplyBody::Words(None));
        headers::strip(answer.headers_mut());
        say_upgrade(answer.headers_mut(), changed);
        return Ok(answer);
    }
    headers::strip(response.headers_mut());
    Ok(response.map(|body| ReplyBody::stream(body, limit, lease, (permit, busy))))
}

fn say_upgrade(headers: &mut http::HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// The request as its endpoint gets it.
fn outgoing(
    request: Request<Incoming>,
    client: &Client,
    target: &Target,
    http2: bool,
    upgrade: Option<HeaderValue>,
    limit: Duration,
    (progress, busy): (&Arc<Progress>, &Busy),
) -> Result<Box<Request<RequestBody>>, Refusal> {
    let (mut parts, body) = request.into_parts();
    headers::forward(&mut parts.headers, client, target.authority.clone(), http2);
    say_upgrade(&mut parts.headers, upgrade);
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    let uri = if http2 {
        let host = target.authority.as_bytes();
        let host = if host.is_empty() { b"localhost" } else { host };
        Uri::builder().scheme("http").authority(host).path_and_query(path).build()
    } else {
        Ok(Uri::from(path))
    };
    parts.uri =
        uri.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the address makes no sense"))?;
    parts.version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    parts.extensions = http::Extensions::new();
    let body = RequestBody::new(body, limit, progress.clone(), busy);
    Ok(Box::new(Request::from_parts(parts, body)))
}

/// Sends a request to one endpoint, and to another only as long as nothing was sent.
async fn send(
    pool: &Pool,
    mut request: Box<Request<RequestBody>>,
    upgrade: bool,
    limit: Duration,
    progress: &Progress,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let mut tried = Vec::new();
    while tried.len() < TRIES {
        let Some((endpoint, mut lease)) = pool.choose(&tried) else { break };
        match lease.send(request, upgrade, limit, progress).await {
            Ok(response) => return Ok((response, lease)),
            Err(Failed::Unsent(unsent, why)) => {
                tracing::debug!("connect to {:?}: {why}", lease);
                lease.endpoint().failed();
                request = unsent;
            }
            Err(Failed::Lost(why)) => {
                tracing::debug!("request to {:?}: {why}", lease);
                if progress.spoilt() {
                    let words = "the body of the request makes no sense, or broke off";
                    return Err(Refusal::new(StatusCode::BAD_REQUEST, words));
                }
                return Err(Refusal::new(StatusCode::BAD_GATEWAY, "the endpoint broke off"));
            }
            Err(Failed::Silent) => {
                return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the endpoint is silent"));
            }
        }
        tried.push(endpoint);
    }
    Err(match tried.is_empty() {
        true => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "nobody answers for this now"),
        false => Refusal::new(StatusCode::BAD_GATEWAY, "no endpoint can be reached"),
    })
}

/// To the same address over HTTPS.
fn redirect(target: &Target, uri: &Uri, port: u16) -> Result<Response<ReplyBody>, Refusal> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let there = HeaderValue::from_str(&format!("https://{}{port}{path}", target.host));
    let there = there.ok().filter(|_| !target.host.is_empty());
    let there = there.ok_or(Refusal::new(StatusCode::BAD_REQUEST, "the host is missing"))?;
    let mut response = Response::new(ReplyBody::Words(None));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, there);
    Ok(response)
}
