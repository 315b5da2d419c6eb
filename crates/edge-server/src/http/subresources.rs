//! `/scale`, `/binding` and `/eviction`: subresources whose bodies are of another kind than the
//! object they belong to.

use super::objects::{place, read_patch};
use super::reply::{self, Reply};
use super::serve::Call;
use super::{negotiate, parameters, reviews};
use crate::api::{self, Api, Written};
use crate::tokens::{Tokens, Wanted};
use bytes::Bytes;
use edge_api::Object;
use edge_api::kinds::{Strictness, TOKEN_REQUEST};
use edge_api::status::Status;

/// Answers a request for such a subresource.
pub(super) async fn handle(api: &Api, call: Call, body: Bytes) -> Result<Reply, Status> {
    negotiate::object_form(&call.headers)?;
    match (call.target.sub.as_str(), call.method.as_str()) {
        ("scale", "GET" | "HEAD") => Ok(reply::json(200, api.scale(place(&call))?.to_string())),
        ("scale", "PUT") => {
            let scale = read(&call, &body)?;
            let options = parameters::write(&call.query)?;
            let who = &call.peer.identity;
            Ok(shown(api.update_scale(who, place(&call), scale, &options).await?))
        }
        ("scale", "PATCH") => {
            let (patch, _) = read_patch(&call, &body)?;
            let options = parameters::write(&call.query)?;
            let who = &call.peer.identity;
            Ok(shown(api.patch_scale(who, place(&call), &patch, &options).await?))
        }
        ("binding", "POST") => {
            let binding = read(&call, &body)?;
            let options = parameters::write(&call.query)?;
            let (who, target) = (&call.peer.identity, &call.target);
            api.bind(who, &target.namespace, &target.name, &binding, &options).await?;
            Ok(reply::json(201, success()))
        }
        ("eviction", "POST") => {
            let eviction = read(&call, &body)?;
            let dry_run = parameters::write(&call.query)?.dry_run;
            api.evict(&call.peer.identity, place(&call), &eviction, dry_run).await?;
            Ok(reply::json(201, success()))
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// `serviceaccounts/<name>/token`. Nothing is written, but the leader answers: what a token is
/// bound to may be no older than it.
pub(super) fn token(tokens: &Tokens, call: &Call, body: &Bytes) -> Result<Reply, Status> {
    negotiate::object_form(&call.headers)?;
    if call.method != http::Method::POST {
        return Err(Status::method_not_allowed());
    }
    let mut body = reviews::read(&call.headers, body, TOKEN_REQUEST)?;
    TOKEN_REQUEST.decode(&mut body, Strictness::Ignore)?;
    let (who, target) = (&call.peer.identity, &call.target);
    let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
    let (done, warning) = tokens.issue(Wanted { who, namespace, name, body })?;
    let mut response = reply::json(201, done.to_string());
    reply::warn(&mut response, warning.as_slice());
    Ok(response)
}

fn read(call: &Call, body: &Bytes) -> Result<Object, Status> {
    let media = negotiate::body_type(&call.headers)?;
    api::parse_options(body, media)
}

fn shown(outcome: Written) -> Reply {
    let mut response = reply::json(200, outcome.bytes);
    reply::warn(&mut response, &outcome.warnings);
    response
}

fn success() -> String {
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    })
    .to_string()
}
