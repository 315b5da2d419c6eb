//! The registry finds kinds however they are named, and its rows agree with each other.

use super::*;
use serde_json::json;

#[test]
fn kinds_are_found_by_every_name() {
    for (name, kind) in [
        ("pods", "Pod"),
        ("pod", "Pod"),
        ("po", "Pod"),
        ("Pod", "Pod"),
        ("deploy", "Deployment"),
        ("deployments.apps", "Deployment"),
        ("deployment.v1.apps", "Deployment"),
        ("deploy.apps", "Deployment"),
        ("svc", "Service"),
        ("ep", "Endpoints"),
        ("cm", "ConfigMap"),
        ("ReplicaSet", "ReplicaSet"),
    ] {
        assert_eq!(by_name(name).map(|kind| kind.kind), Some(kind), "{name}");
    }
    for name in ["", "foo", "pods.apps", "deployments.v2.apps"] {
        assert_eq!(by_name(name), None, "{name}");
    }
    assert_eq!(of(&json!({"apiVersion": "apps/v1", "kind": "Deployment"})), Some(DEPLOYMENT));
    assert_eq!(of(&json!({"apiVersion": "apps/v1beta1", "kind": "Deployment"})), None);
    let in_all: Vec<&str> = by_category("all").map(|kind| kind.kind).collect();
    assert_eq!(in_all, ["Pod", "Service", "Deployment", "ReplicaSet"]);
}

#[test]
fn paths_are_kubernetes_paths() {
    for (path, want) in [
        (POD.path("", None, None), "/api/v1/pods"),
        (POD.path("d", None, None), "/api/v1/namespaces/d/pods"),
        (POD.path("d", Some("x"), Some("log")), "/api/v1/namespaces/d/pods/x/log"),
        (NODE.path("", Some("b1"), None), "/api/v1/nodes/b1"),
        (NODE.path("ignored", Some("b1"), None), "/api/v1/nodes/b1"),
        (
            DEPLOYMENT.path("x", Some("y"), Some("status")),
            "/apis/apps/v1/namespaces/x/deployments/y/status",
        ),
    ] {
        assert_eq!(path, want);
    }
    assert_eq!(DEPLOYMENT.api_version(), "apps/v1");
    assert_eq!(POD.api_version(), "v1");
}

#[test]
fn rows_agree() {
    for kind in all() {
        assert_eq!(by_resource(kind.group, kind.plural), Some(*kind));
        assert_eq!(by_kind(kind.group, kind.version, kind.kind), Some(*kind));
        assert_eq!(kind.list_kind, format!("{}List", kind.kind));
        assert_eq!(kind.singular, kind.kind.to_ascii_lowercase());
        for name in kind.short_names {
            assert_eq!(by_name(name), Some(*kind), "{name} is taken");
        }
        let mut subs: Vec<&str> = kind.subresources.iter().map(|sub| sub.name).collect();
        subs.sort_unstable();
        subs.dedup();
        assert_eq!(subs.len(), kind.subresources.len());
    }
}

#[test]
fn fields_for_selectors() {
    let node = json!({"metadata": {"name": "b1"}, "spec": {}});
    assert_eq!(NODE.field(&node, "spec.unschedulable").as_deref(), Some("false"));
    let node = json!({"metadata": {"name": "b1"}, "spec": {"unschedulable": true}});
    assert_eq!(NODE.field(&node, "spec.unschedulable").as_deref(), Some("true"));
    assert_eq!(NODE.field(&node, "spec.podCIDR"), None);
    let event = json!({"source": {"component": "edged"}, "involvedObject": {"name": "x"}});
    assert_eq!(EVENT.field(&event, "source").as_deref(), Some("edged"));
    assert_eq!(EVENT.field(&event, "involvedObject.name").as_deref(), Some("x"));
    let set = json!({});
    assert_eq!(REPLICA_SET.field(&set, "status.replicas").as_deref(), Some("0"));
}
