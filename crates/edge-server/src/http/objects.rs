//! The verbs on objects, collections, `/status` and `/finalize`: the same handlers for every kind.

use super::encode::{self, Writer};
use super::negotiate::{self, Form};
use super::reply::{self, Reply};
use super::serve::Call;
use super::{parameters, table, watching};
use crate::api::{self, Api, DeleteOptions, Deleted, Page, Patch, Place, Written};
use crate::auth;
use bytes::Bytes;
use edge_api::status::Status;

/// The patches that this server applies.
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Answers a request for objects.
pub(super) async fn handle(api: &Api, call: Call, body: Bytes) -> Result<Reply, Status> {
    let form = negotiate::object_form(&call.headers)?;
    let include = match form {
        Form::Table => table::include(&call.query)?,
        _ => table::Include::default(),
    };
    let writer = Writer { kind: call.target.kind, form, include };
    match (call.method.as_str(), call.target.name.is_empty()) {
        ("GET" | "HEAD", true) => list_or_watch(api, &call, writer),
        ("GET" | "HEAD", false) => writer.object(200, api.get(place(&call))?.value),
        ("POST", true) => create(api, &call, writer, body).await,
        ("PUT", false) => update(api, &call, writer, body).await,
        ("PATCH", false) => patch(api, &call, writer, body).await,
        ("DELETE", false) => delete(api, &call, writer, body).await,
        ("DELETE", true) => delete_collection(api, &call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Where the request points.
pub(super) fn place(call: &Call) -> Place<'_> {
    let target = &call.target;
    Place { kind: target.kind, namespace: &target.namespace, name: &target.name, sub: &target.sub }
}

fn list_or_watch(api: &Api, call: &Call, mut writer: Writer) -> Result<Reply, Status> {
    let target = &call.target;
    if auth::sees_outlines(&call.peer.identity, target, call.query.get("fieldSelector")) {
        writer.form = Form::Outline;
    }
    if call.query.flag("watch")? {
        if writer.form == Form::Yaml {
            writer.form = Form::Json;
        }
        let options = parameters::watch(target.kind, &call.query)?;
        let watching = api.watch(target.kind, &target.namespace, &options)?;
        return Ok(watching::stream(api, watching, writer, call.peer.stop.clone()));
    }
    let options = parameters::list(target.kind, &call.query)?;
    let page: Page = api.list(target.kind, &target.namespace, &options)?;
    writer.list(page)
}

async fn create(api: &Api, call: &Call, writer: Writer, body: Bytes) -> Result<Reply, Status> {
    let options = parameters::write(&call.query)?;
    let kind = call.target.kind;
    let body_type = negotiate::body_type(&call.headers)?;
    let body = api::parse(&body, body_type, kind)?;
    let who = &call.peer.identity;
    let outcome = api.create_from(who, kind, &call.target.namespace, body, &options).await?;
    answer(writer, 201, outcome)
}

async fn update(api: &Api, call: &Call, writer: Writer, body: Bytes) -> Result<Reply, Status> {
    let options = parameters::write(&call.query)?;
    let body_type = negotiate::body_type(&call.headers)?;
    let body = api::parse(&body, body_type, call.target.kind)?;
    let outcome = api.update_from(&call.peer.identity, place(call), body, &options).await?;
    answer(writer, 200, outcome)
}

async fn patch(api: &Api, call: &Call, writer: Writer, body: Bytes) -> Result<Reply, Status> {
    let options = parameters::write(&call.query)?;
    let (patch, doubled) = read_patch(call, &body)?;
    let who = &call.peer.identity;
    let outcome = api.patch_from(who, place(call), &patch, &doubled, &options).await?;
    answer(writer, 200, outcome)
}

/// Reads a patch, by its media type; also the fields that stand in it twice.
pub(super) fn read_patch(call: &Call, bytes: &Bytes) -> Result<(Patch, Vec<String>), Status> {
    let media = negotiate::content_type(&call.headers);
    let wrap: fn(serde_json::Value) -> Patch = match media {
        "application/json-patch+json" => Patch::Json,
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        other => return Err(negotiate::unsupported(other, PATCHES)),
    };
    let body = api::parse_json(bytes)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let right = match media {
        "application/json-patch+json" => body.object.is_array(),
        _ => body.object.is_object(),
    };
    if !right {
        return Err(Status::bad_request(format!("error decoding patch: it is no {media}")));
    }
    Ok((wrap(body.object), body.doubled))
}

async fn delete(api: &Api, call: &Call, writer: Writer, body: Bytes) -> Result<Reply, Status> {
    let options = delete_options(call, body)?;
    let who = &call.peer.identity;
    match api.delete(who, place(call), &options).await? {
        Deleted::Pending(outcome) => answer(writer, 200, outcome),
        Deleted::Gone(outcome) if api::returns_object(call.target.kind) => {
            answer(writer, 200, outcome)
        }
        Deleted::Gone(outcome) => {
            let uid = edge_api::meta::uid(&outcome.object);
            let done = Status::deleted(call.target.kind, &call.target.name, uid);
            Ok(reply::json(200, done.to_string()))
        }
    }
}

/// The options of a delete, from the query and the body.
pub(super) fn delete_options(call: &Call, body: Bytes) -> Result<DeleteOptions, Status> {
    let mut options = parameters::delete(&call.query)?;
    if !body.is_empty() {
        let media = negotiate::body_type(&call.headers)?;
        let body = api::parse_options(&body, media)?;
        options.merge(&body)?;
    }
    Ok(options)
}

async fn delete_collection(api: &Api, call: &Call, body: Bytes) -> Result<Reply, Status> {
    let target = &call.target;
    let which = parameters::list(target.kind, &call.query)?;
    let options = delete_options(call, body)?;
    let who = &call.peer.identity;
    let gone = api.delete_collection(who, target.kind, &target.namespace, &which, &options).await?;
    Ok(encode::deleted(target.kind, api.store().revision(), gone))
}

/// An outcome with its warnings.
pub(super) fn answer(writer: Writer, code: u16, outcome: Written) -> Result<Reply, Status> {
    let mut response = writer.object(code, outcome.bytes)?;
    reply::warn(&mut response, &outcome.warnings);
    Ok(response)
}
