//! Discovery as it has always been: groups with their versions, and a list of resources for each.

use super::kinds_of;
use edge_api::kinds::Kind;
use serde_json::{Value, json};

/// A group with its versions, the first of which is preferred.
pub(super) fn group(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions[0] })
}

/// The resources of a group and version; `None` when there are none.
pub(super) fn list(group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(group, version);
    let first = kinds.first()?;
    let mut resources = Vec::new();
    for kind in &kinds {
        resources.push(resource(kind));
        resources.extend(subresources(kind));
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": first.api_version(),
        "resources": resources,
    }))
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs(),
    });
    if !kind.is_review() {
        resource["storageVersionHash"] = json!(hash(kind));
    }
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    resource
}

fn subresources(kind: &Kind) -> impl Iterator<Item = Value> {
    kind.subresources.iter().map(|sub| {
        let mut resource = json!({
            "name": format!("{}/{}", kind.plural, sub.name),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        });
        if sub.group != kind.group {
            resource["group"] = json!(sub.group);
            resource["version"] = json!(sub.version);
        }
        resource
    })
}

/// A name for the stored form, so that clients notice when it changes.
fn hash(kind: &Kind) -> String {
    use base64::Engine;
    let text = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}
