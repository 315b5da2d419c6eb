//! Aggregated discovery (`apidiscovery.k8s.io`): everything in two requests instead of one for
//! each group. Versions v2 and v2beta1 differ in their name only.

use super::kinds_of;
use edge_api::kinds::Kind;
use serde_json::{Value, json};

/// The discovery list of these groups.
pub(super) fn list(version: &str, groups: &[(&'static str, Vec<&'static str>)]) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> =
                versions.iter().map(|version| one_version(name, version)).collect();
            let metadata = match *name {
                "" => json!({ "creationTimestamp": null }),
                name => json!({ "name": name, "creationTimestamp": null }),
            };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn one_version(group: &str, version: &str) -> Value {
    let resources: Vec<Value> = kinds_of(group, version).into_iter().map(resource).collect();
    json!({ "version": version, "resources": resources, "freshness": "Current" })
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": { "group": kind.group, "version": kind.version, "kind": kind.kind },
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs(),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group, "version": sub.version, "kind": sub.kind,
                },
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}
