//! Writes that arrive at a server that does not lead are passed on to the one that does, in the
//! name of whoever made them. While a new leader is being elected they wait, so that a client
//! notices a pause and not a failure. What may have been acted on is never sent twice.

use super::channel::{CallError, Channel};
use super::{Leadership, Place};
use crate::auth::Identity;
use crate::http::{Reply, ReplyBody};
use bytes::Bytes;
use edge_api::status::{Reason, Status};
use edge_core::consensus::{Standing, Term};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a request waits for a leader before it is refused.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for news of the leader before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a leader's answer is waited for once another one leads.
const LATE: Duration = Duration::from_millis(500);

/// Says, in an answer, that the request was not acted on because this server does not lead.
const NOT_LEADER: HeaderName = HeaderName::from_static("x-edged-not-leader");

/// A request as it is passed on.
pub(crate) struct Passed {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Passed {
    /// The same request again.
    pub(crate) fn new(head: &http::request::Parts, body: &Bytes) -> Passed {
        Passed {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
            body: body.clone(),
        }
    }
}

/// What becomes of a request that the leader must see.
pub(crate) enum Turn {
    /// This server leads, in the given term.
    Here(Term),
    /// It was answered by the leader.
    Answered(Reply),
}

/// Finds out who leads: here, or there, and then the answer from there is the answer.
pub(crate) async fn pass(
    leadership: &Leadership,
    channel: &Channel,
    who: &Identity,
    request: &Passed,
    forwarded: bool,
) -> Result<Turn, Status> {
    let deadline = Instant::now() + PATIENCE;
    let mut news = leadership.news();
    let mut last = String::from("no server leads: a majority of the servers must be up");
    loop {
        match leadership.place() {
            Place::Here(term) => return Ok(Turn::Here(term)),
            // The server that sent this here believes that we lead, and asks again if not.
            Place::There { .. } if forwarded => return Ok(Turn::Answered(not_leader())),
            Place::There { name, address } => {
                let call = channel.call(&address, outgoing(who, request)?);
                let answer = tokio::select! {
                    answer = call => answer,
                    why = overtaken(leadership, &address) => Err(CallError::Unknown(why)),
                };
                match answer {
                    Ok(answer) if answer.headers().contains_key(&NOT_LEADER) => {
                        last = format!("the server {name:?} does not lead any more");
                    }
                    Ok(answer) => return Ok(Turn::Answered(incoming(answer))),
                    Err(CallError::Unknown(why)) if !request.method.is_safe() => {
                        return Err(unknown(&name, &why));
                    }
                    Err(CallError::Unsent(why) | CallError::Unknown(why)) => last = why,
                }
            }
            Place::Rising | Place::Nowhere => match leadership.trouble() {
                None => {}
                Some(_) if forwarded => return Ok(Turn::Answered(not_leader())),
                // This server will know of no leader, however long it is waited for.
                Some(trouble) => return Err(nobody(&trouble)),
            },
        }
        let wake = deadline.min(Instant::now() + AGAIN);
        let changed = timeout_at(wake, news.changed()).await;
        if Instant::now() >= deadline || matches!(changed, Ok(Err(_))) {
            return Err(nobody(&last));
        }
    }
}

/// Waits until somebody else leads than the server at `address`, and then as long as an answer
/// from there may still be on its way; or until nobody has led for as long as a request waits for a
/// leader. A leader that is cut off or paused answers nothing.
async fn overtaken(leadership: &Leadership, address: &str) -> String {
    let mut news = leadership.news();
    let still = |standing: &Arc<Standing>| match super::place(standing) {
        Place::There { address: now, .. } => now == address,
        Place::Here(_) | Place::Rising | Place::Nowhere => false,
    };
    let led = |standing: &Arc<Standing>| super::place(standing) != Place::Nowhere;
    loop {
        if news.wait_for(|standing| !still(standing)).await.is_err() {
            return std::future::pending().await;
        }
        let again = timeout(PATIENCE, news.wait_for(led)).await;
        match again.map(|led| led.map(|standing| still(&standing))) {
            Err(_) => return "it answered nothing, and no server leads now".to_owned(),
            Ok(Err(_)) => return std::future::pending().await,
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => break,
        }
    }
    tokio::time::sleep(LATE).await;
    "it answered nothing, and another server leads now".to_owned()
}

fn outgoing(who: &Identity, passed: &Passed) -> Result<Request<Full<Bytes>>, Status> {
    let mut request = Request::new(Full::new(passed.body.clone()));
    *request.method_mut() = passed.method.clone();
    let path = passed.uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(Status::internal)?;
    let headers = request.headers_mut();
    *headers = passed.headers.clone();
    for name in [AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    who.pass_on(headers);
    Ok(request)
}

fn incoming(answer: Response<Incoming>) -> Reply {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    Response::from_parts(head, ReplyBody::Passed(body))
}

fn not_leader() -> Reply {
    let mut reply = crate::http::failure(&nobody("this server does not lead"));
    reply.headers_mut().insert(NOT_LEADER, HeaderValue::from_static("true"));
    reply
}

fn nobody(why: &str) -> Status {
    Status::unavailable(format!("the write was not made: {why}; try again"))
}

fn unknown(name: &str, why: &str) -> Status {
    let message = format!(
        "the connection to the leading server {name:?} broke ({why}): the write may have been \
         made or not; read the object to find out"
    );
    Status::new(Reason::Timeout, message)
}
