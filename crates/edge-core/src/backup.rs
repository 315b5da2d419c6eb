//! What becomes of a cluster's objects when a backup of it is brought back, and whether a cluster
//! has anything in it that would be lost by that.
//!
//! Everything comes back as it was, since it is the same cluster. Only boards that are certainly
//! no more leave something: their Nodes go, and what was to run there is to be placed anew.

use std::collections::BTreeSet;

use edge_api::kinds::{self, Kind};
use edge_api::{Object, keys, meta};
use serde_json::json;

/// The namespace in which the cluster keeps what is its own.
const SYSTEM: &str = "kube-system";
/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", SYSTEM, "kube-public", "kube-node-lease"];
/// Services that every cluster has.
const SERVICES: [(&str, &str); 2] = [("default", "kubernetes"), (SYSTEM, "kube-dns")];
/// Where the keys of servers without a Node are.
const SERVER_KEYS: &str = "edged-servers";

/// Boards that are no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// These: the servers, whose states a restore is for, and the board that takes their place.
    Named(BTreeSet<String>),
    /// All that the backup knows.
    All,
}

impl Lost {
    fn has(&self, board: &str) -> bool {
        match self {
            Lost::Named(names) => names.contains(board),
            Lost::All => true,
        }
    }
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes back byte for byte.
    Kept,
    /// It comes back as this.
    Changed(Object),
    /// It does not come back.
    Gone,
}

/// Whether what is kept under a key has to be looked into at all.
pub fn is_judged(key: &str) -> bool {
    let map = || keys::key(kinds::CONFIG_MAP, SYSTEM, SERVER_KEYS) == key;
    keys::kind_of(key).is_some_and(|kind| matches!(kind.kind, "Node" | "Pod" | "Lease")) || map()
}

/// What becomes of an object of a backup, under its key.
pub fn fate(key: &str, mut object: Object, lost: &Lost) -> Fate {
    let (namespace, name) = (meta::namespace(&object), meta::name(&object));
    match keys::kind_of(key).map_or("", |kind| kind.kind) {
        "Node" if lost.has(name) => Fate::Gone,
        "Lease" if namespace == "kube-node-lease" && lost.has(name) => Fate::Gone,
        // All of them are servers, and no server comes back.
        "ConfigMap" if (namespace, name) == (SYSTEM, SERVER_KEYS) => Fate::Gone,
        "Pod" => {
            let board = object["spec"]["nodeName"].as_str().unwrap_or_default();
            let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            if board.is_empty() || !lost.has(board) {
                return Fate::Kept;
            }
            let of_board = meta::controller(&object).is_some_and(|it| it.kind == "DaemonSet");
            match (meta::is_deleting(&object) || of_board, ended) {
                // Nobody is left who would end it; a new board gets one of its own.
                (true, _) => Fate::Gone,
                (false, true) => Fate::Kept,
                (false, false) => {
                    place_anew(&mut object);
                    Fate::Changed(object)
                }
            }
        }
        _ => Fate::Kept,
    }
}

/// Takes a pod off its board, as if it had never been there.
fn place_anew(pod: &mut Object) {
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    let class = pod["status"]["qosClass"].clone();
    pod["status"] = match class.is_null() {
        true => json!({ "phase": "Pending" }),
        false => json!({ "phase": "Pending", "qosClass": class }),
    };
}

/// Whether every cluster has this object, or makes it by itself, on the server `own` alone: it is
/// nobody's, and nothing is lost with it.
pub fn is_own(kind: &Kind, object: &Object, own: &str) -> bool {
    let (namespace, name) = (meta::namespace(object), meta::name(object));
    let system = namespace == SYSTEM;
    let label = |label: &str| meta::label(object, label);
    match kind.kind {
        // Another board has joined: it would find itself in a cluster that does not know it.
        "Node" => name == own,
        "Event" => true,
        "Lease" => system || namespace == "kube-node-lease",
        "Namespace" => NAMESPACES.contains(&name),
        "Service" | "Endpoints" => SERVICES.contains(&(namespace, name)),
        "EndpointSlice" => {
            let of = label("kubernetes.io/service-name").unwrap_or_default();
            SERVICES.contains(&(namespace, of))
        }
        "ServiceAccount" => name == "default" && NAMESPACES.contains(&namespace),
        "ConfigMap" => {
            let everywhere = name == "kube-root-ca.crt" && NAMESPACES.contains(&namespace);
            everywhere || system && name.starts_with("edged-")
        }
        "Secret" => system && object["type"] == "bootstrap.kubernetes.io/token",
        "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => {
            label("kubernetes.io/bootstrapping") == Some("rbac-defaults")
        }
        "PriorityClass" => name.starts_with("system-"),
        // Boards' proxies make it.
        "IngressClass" => name == "edged",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &Kind, namespace: &str, name: &str) -> Object {
        json!({"apiVersion": kind.api_version(), "kind": kind.kind,
               "metadata": {"namespace": namespace, "name": name, "uid": "u"}})
    }

    fn key(kind: &Kind, object: &Object) -> String {
        keys::key(kind, meta::namespace(object), meta::name(object))
    }

    fn of(kind: &Kind, object: &Object, lost: &Lost) -> Fate {
        let key = key(kind, object);
        match is_judged(&key) {
            true => fate(&key, object.clone(), lost),
            false => Fate::Kept,
        }
    }

    #[test]
    fn a_fresh_cluster_has_nothing_of_anybody() {
        for (kind, namespace, name, own) in [
            ("Namespace", "", "default", true),
            ("Namespace", "", "shop", false),
            ("Node", "", "b1", true),
            ("Node", "", "b2", false),
            ("Lease", "kube-node-lease", "b1", true),
            ("Lease", "shop", "lock", false),
            ("Service", "default", "kubernetes", true),
            ("Service", "default", "kube-dns", false),
            ("ServiceAccount", "kube-system", "default", true),
            ("ServiceAccount", "shop", "default", false),
            ("ConfigMap", "default", "kube-root-ca.crt", true),
            ("ConfigMap", "kube-system", "edged-images", true),
            ("ConfigMap", "default", "edged-images", false),
            ("Secret", "kube-system", "edged-secret", false),
            ("ClusterRole", "", "cluster-admin", false),
            ("Pod", "kube-system", "edged-pod", false),
            ("Deployment", "default", "web", false),
            ("IngressClass", "", "edged", true),
            ("IngressClass", "", "nginx", false),
        ] {
            let kind = kinds::by_name(kind).unwrap();
            let found = is_own(kind, &object(kind, namespace, name), "b1");
            assert_eq!(found, own, "{} {namespace}/{name}", kind.kind);
        }
        let secret = kinds::by_name("Secret").unwrap();
        let mut token = object(secret, SYSTEM, "bootstrap-token-abc");
        assert!(!is_own(secret, &token, "b1"));
        token["type"] = json!("bootstrap.kubernetes.io/token");
        assert!(is_own(secret, &token, "b1"));
        let mut role = object(kinds::CLUSTER_ROLE, "", "view");
        meta::set_label(&mut role, "kubernetes.io/bootstrapping", "rbac-defaults");
        assert!(is_own(kinds::CLUSTER_ROLE, &role, "b1"));
    }

    #[test]
    fn only_lost_boards_leave_something() {
        let lost = Lost::Named(["s1".to_owned()].into());
        for (kind, namespace, name, gone) in [
            ("Node", "", "s1", true),
            ("Node", "", "a1", false),
            ("Lease", "kube-node-lease", "s1", true),
            ("Lease", "default", "s1", false),
            ("ConfigMap", SYSTEM, "edged-servers", true),
            ("ConfigMap", SYSTEM, "edged-revoked", false),
            ("ConfigMap", "default", "edged-servers", false),
            ("Secret", "default", "s1", false),
        ] {
            let kind = kinds::by_name(kind).unwrap();
            let wanted = if gone { Fate::Gone } else { Fate::Kept };
            assert_eq!(of(kind, &object(kind, namespace, name), &lost), wanted, "{name}");
        }
        assert_eq!(of(kinds::NODE, &object(kinds::NODE, "", "a1"), &Lost::All), Fate::Gone);
        assert_eq!(fate("edged.tokens//keys", json!({"k": 1}), &Lost::All), Fate::Kept);
        assert!(!is_judged("edged.tokens//keys") && !is_judged("secrets/kube-system/x"));
    }

    #[test]
    fn pods_of_lost_boards_are_placed_anew_and_those_of_others_are_left_alone() {
        let lost = Lost::Named(["s1".to_owned()].into());
        let mut pod = object(kinds::POD, "default", "web-1");
        pod["spec"] = json!({"nodeName": "a1", "containers": []});
        pod["status"] = json!({"phase": "Running", "qosClass": "Burstable", "podIP": "10.42.0.3"});
        assert_eq!(of(kinds::POD, &pod, &lost), Fate::Kept);
        pod["spec"]["nodeName"] = json!("s1");
        let Fate::Changed(anew) = of(kinds::POD, &pod, &lost) else { panic!("placed anew") };
        assert_eq!(anew["spec"], json!({"containers": []}));
        assert_eq!(anew["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
        assert_eq!(anew["metadata"], pod["metadata"]);
        assert_eq!(of(kinds::POD, &anew, &lost), Fate::Kept, "it has no board");
        let mut ended = pod.clone();
        ended["status"]["phase"] = json!("Succeeded");
        assert_eq!(of(kinds::POD, &ended, &lost), Fate::Kept, "a job's work is not done twice");
        let mut ending = pod.clone();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(of(kinds::POD, &ending, &lost), Fate::Gone);
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet",
            "name": "d", "uid": "v", "controller": true}]);
        assert_eq!(of(kinds::POD, &pod, &lost), Fate::Gone);
    }
}
