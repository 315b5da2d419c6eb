//! `/scale`, `/binding` and `/eviction`: subresources whose bodies are of another kind than the
//! object they belong to.

use super::objects::{delete_options, place, read_patch};
use super::reply::{self, Reply};
use super::serve::Call;
use super::{negotiate, parameters, request};
use crate::api::{self, Api, Written};
use edge_api::Object;
use edge_api::status::Status;
use hyper::body::Incoming;

/// Answers a request for such a subresource.
pub(super) async fn handle(api: &Api, call: Call, body: Incoming) -> Result<Reply, Status> {
    negotiate::object_form(&call.headers)?;
    match (call.target.sub.as_str(), call.method.as_str()) {
        ("scale", "GET" | "HEAD") => Ok(reply::json(200, api.scale(place(&call))?.to_string())),
        ("scale", "PUT") => {
            let scale = read(&call, body).await?;
            let options = parameters::write(&call.query)?;
            let who = &call.peer.identity;
            Ok(shown(api.update_scale(who, place(&call), scale, &options).await?))
        }
        ("scale", "PATCH") => {
            let (patch, _) = read_patch(&call, &request::whole(body).await?)?;
            let options = parameters::write(&call.query)?;
            let who = &call.peer.identity;
            Ok(shown(api.patch_scale(who, place(&call), &patch, &options).await?))
        }
        ("binding", "POST") => {
            let binding = read(&call, body).await?;
            let options = parameters::write(&call.query)?;
            let (who, target) = (&call.peer.identity, &call.target);
            api.bind(who, &target.namespace, &target.name, &binding, &options).await?;
            Ok(reply::json(201, success()))
        }
        ("eviction", "POST") => {
            let eviction = read(&call, body).await?;
            let dry_run = parameters::write(&call.query)?.dry_run;
            api.evict(&call.peer.identity, place(&call), &eviction, dry_run).await?;
            Ok(reply::json(201, success()))
        }
        _ => {
            // The body is read so that the connection can go on.
            let _ = delete_options(&call, body).await;
            Err(Status::method_not_allowed())
        }
    }
}

async fn read(call: &Call, body: Incoming) -> Result<Object, Status> {
    let media = negotiate::body_type(&call.headers)?;
    api::parse_options(&request::whole(body).await?, media)
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
