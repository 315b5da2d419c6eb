//! OpenAPI: one v3 document for each group and version, with the paths and parameters that
//! clients look for and the schemas of all types; and the little of v2 that old clients need to
//! find that fields are validated by the server.

use super::{groups, kinds_of};
use crate::http::{Reply, reply_typed};
use edge_api::kinds::Kind;
use edge_api::schema::{self, Definition, Type};
use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The index of documents, each named by its content so that clients may keep it.
pub(super) fn v3_index(hashes: &BTreeMap<String, String>) -> Value {
    let mut paths = Map::new();
    for (path, hash) in hashes {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// The digests of all documents, by their paths.
pub(super) fn hashes() -> BTreeMap<String, String> {
    let mut all = vec![("", "v1")];
    for (group, versions) in groups() {
        all.extend(versions.into_iter().map(|version| (group, version)));
    }
    let mut hashes = BTreeMap::new();
    for (group, version) in all {
        let path = match group {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        let text = document(group, version).to_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hash = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        hashes.insert(path, hash);
    }
    hashes
}

/// The document of a path such as `apis/apps/v1`.
pub(super) fn document_at(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["api", version] => Some(document("", version)),
        ["apis", group, version] => Some(document(group, version)),
        _ => None,
    }
}

fn document(group: &str, version: &str) -> Value {
    let kinds = kinds_of(group, version);
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    let mut schemas = Map::new();
    for kind in &kinds {
        describe_paths(kind, &mut paths);
        reach(kind.schema, &mut wanted);
    }
    for name in wanted {
        let Some(definition) = schema::definition(name) else { continue };
        let of_kind = kinds.iter().find(|kind| kind.schema == name);
        schemas.insert(definition.openapi_name(), describe(definition, of_kind.copied()));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": super::VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// Adds a type and all that it refers to.
fn reach(name: &'static str, found: &mut BTreeSet<&'static str>) {
    if !found.insert(name) {
        return;
    }
    let Some(definition) = schema::definition(name) else { return };
    for field in &definition.fields {
        if let Some(name) = named(&field.ty) {
            reach(name, found);
        }
    }
}

fn named(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::List(item) | Type::Map(item) => named(item),
        Type::Object(name) => Some(name),
        _ => None,
    }
}

fn describe(definition: &Definition, kind: Option<&Kind>) -> Value {
    let mut properties = Map::new();
    for field in &definition.fields {
        let mut property = shape(&field.ty);
        if let Some(strategy) = field.merge.strategy() {
            property["x-kubernetes-patch-strategy"] = json!(strategy);
        }
        if let Some(key) = field.merge.key() {
            property["x-kubernetes-patch-merge-key"] = json!(key);
        }
        properties.insert(field.name.to_owned(), property);
    }
    let mut described = json!({ "type": "object", "properties": properties });
    if let Some(kind) = kind {
        described["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
    }
    described
}

fn shape(ty: &Type) -> Value {
    match ty {
        Type::Text => json!({ "type": "string" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Int32 => json!({ "type": "integer", "format": "int32" }),
        Type::Int64 => json!({ "type": "integer", "format": "int64" }),
        Type::Double => json!({ "type": "number", "format": "double" }),
        Type::Quantity => json!({ "type": "string" }),
        Type::IntOrString => json!({ "type": "string", "format": "int-or-string" }),
        Type::Time | Type::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Type::Bytes => json!({ "type": "string", "format": "byte" }),
        Type::Any => json!({}),
        Type::List(item) => json!({ "type": "array", "items": shape(item) }),
        Type::Map(item) => json!({ "type": "object", "additionalProperties": shape(item) }),
        Type::Object(name) => {
            let name = schema::openapi_name(name);
            json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }] })
        }
    }
}

fn gvk(kind: &Kind) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

/// The parameters by which clients find that fields are validated here and that runs can be dry.
fn parameters() -> Value {
    let parameter = |name: &str| {
        json!({
            "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true },
        })
    };
    json!([parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")])
}

fn describe_paths(kind: &Kind, paths: &mut Map<String, Value>) {
    let operation = |action: &str| {
        json!({
            "parameters": parameters(),
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(kind),
        })
    };
    let namespace = if kind.namespaced { "{namespace}" } else { "" };
    if kind.is_review() {
        let asked = json!({ "post": operation("post") });
        paths.insert(kind.path(namespace, None, None), asked);
        return;
    }
    let collection = json!({
        "get": operation("list"),
        "post": operation("post"),
        "delete": operation("deletecollection"),
    });
    let single = json!({
        "get": operation("get"),
        "put": operation("put"),
        "patch": operation("patch"),
        "delete": operation("delete"),
    });
    paths.insert(kind.path(namespace, None, None), collection);
    paths.insert(kind.path(namespace, Some("{name}"), None), single);
}

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The v2 document: empty but well-formed, so that clients which want one go on without it.
pub(super) fn v2(headers: &HeaderMap) -> Reply {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("proto-openapi.spec.v2") {
        return reply_typed(V2_PROTOBUF, v2_protobuf());
    }
    let document = json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": super::VERSION },
        "paths": {},
        "definitions": {},
    });
    reply_typed("application/json", document.to_string())
}

/// The same in protobuf: `swagger` is field 1; `info` is field 2 with `title` 1 and `version` 2;
/// `paths` is field 8.
fn v2_protobuf() -> Vec<u8> {
    fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        // All of it is shorter than 128 bytes.
        out.push(content.len() as u8);
        out.extend_from_slice(content);
    }
    let (mut info, mut document) = (Vec::new(), Vec::new());
    field(1, b"Kubernetes", &mut info);
    field(2, super::VERSION.as_bytes(), &mut info);
    field(1, b"2.0", &mut document);
    field(2, &info, &mut document);
    field(8, b"", &mut document);
    document
}
