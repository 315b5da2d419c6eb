//! What a board's agent may do: see to its own Node, run its own pods, read what those pods refer
//! to, and nothing of anybody else's. A stolen board gives away its own pods' secrets only, and
//! the certificates of Ingresses, which every board serves.
//!
//! While there are NetworkPolicies, a board has to know whom their selectors mean: then it may list
//! all pods and namespaces, and is shown their names, labels, addresses and named ports.

use super::authorize::Ask;
use crate::api::{Api, Place, peek};
use crate::join::REVOKED;
use edge_api::kinds::{self, Kind};
use edge_api::selector::FieldSelector;
use edge_core::ingress;
use edge_store::ListOptions;
use serde::Deserialize;
use serde_json::Value;

/// Where nodes' heartbeats are kept, if an agent keeps any.
const NODE_LEASES: &str = "kube-node-lease";

/// The type of Secrets that are certificates.
const TLS: &str = "kubernetes.io/tls";

/// Kinds that boards may read all of.
const OPEN: [&Kind; 6] = [
    kinds::SERVICE,
    kinds::ENDPOINT_SLICE,
    kinds::ENDPOINTS,
    kinds::INGRESS,
    kinds::INGRESS_CLASS,
    kinds::NETWORK_POLICY,
];

/// Whether the agent of `board` may do what is asked; if not, why.
pub(super) fn allows(api: &Api, board: &str, ask: &Ask<'_>) -> Result<(), String> {
    let target = ask.target;
    let kind = target.kind;
    let reads = matches!(ask.verb, "get" | "list" | "watch");
    let allowed = if kind == kinds::POD {
        return pods(api, board, ask);
    } else if kind == kinds::NODE {
        return nodes(board, ask);
    } else if kind == kinds::SECRET || kind == kinds::CONFIG_MAP || kind == kinds::SERVICE_ACCOUNT {
        return referenced(api, board, ask);
    } else if OPEN.contains(&kind) {
        reads
    } else if kind == kinds::NAMESPACE {
        target.sub.is_empty() && (ask.verb == "get" || (reads && has_policies(api)))
    } else if kind == kinds::EVENT {
        matches!(ask.verb, "create" | "update" | "patch")
    } else if kind == kinds::LEASE {
        let own = target.name == board || (target.name.is_empty() && ask.verb == "create");
        target.namespace == NODE_LEASES && own
    } else {
        false
    };
    if allowed { Ok(()) } else { Err("a node does not need this".to_owned()) }
}

fn pods(api: &Api, board: &str, ask: &Ask<'_>) -> Result<(), String> {
    let target = ask.target;
    if matches!(ask.verb, "list" | "watch") {
        let selector = FieldSelector::parse(ask.fields.unwrap_or_default()).ok();
        let node = selector.as_ref().and_then(|selector| selector.exact("spec.nodeName"));
        let why = "can only list and watch pods with the field selector spec.nodeName=";
        return match node {
            Some(node) if node == board => Ok(()),
            None if has_policies(api) => Ok(()),
            _ => Err(format!("{why}{board}")),
        };
    }
    let verb_fits = match target.sub.as_str() {
        "" => matches!(ask.verb, "get" | "delete"),
        "status" => matches!(ask.verb, "get" | "update" | "patch"),
        "eviction" => ask.verb == "create",
        _ => false,
    };
    if !verb_fits {
        return Err("a node may only get and delete its pods and write their status".to_owned());
    }
    match api.get(Place::new(kinds::POD, &target.namespace, &target.name)) {
        Ok(entry) if peek::<Pod>(&entry.value).is_some_and(|pod| pod.on(board)) => Ok(()),
        // A pod that is gone is nobody's; the handler says so.
        Err(status) if status.is_not_found() => Ok(()),
        _ => Err("no relationship found between this node and this pod".to_owned()),
    }
}

/// Whether a board that lists or watches these objects sees their outlines only.
pub(super) fn sees_outlines(board: &str, kind: &Kind, fields: Option<&str>) -> bool {
    let selector = FieldSelector::parse(fields.unwrap_or_default()).ok();
    let own = selector.is_some_and(|selector| selector.exact("spec.nodeName") == Some(board));
    kind == kinds::NAMESPACE || (kind == kinds::POD && !own)
}

/// Whether anybody is to be kept from anybody.
fn has_policies(api: &Api) -> bool {
    let some = ListOptions { limit: 1, ..ListOptions::default() };
    let listing = api.store().list(&kinds::NETWORK_POLICY.key_prefix(None), some);
    listing.is_ok_and(|listing| !listing.entries.is_empty())
}

fn nodes(board: &str, ask: &Ask<'_>) -> Result<(), String> {
    let target = ask.target;
    let fits = match (target.sub.as_str(), ask.verb) {
        // The name of a new Node is in its body; admission looks there.
        ("", "create" | "list" | "watch" | "get") => return Ok(()),
        ("", "update" | "patch") => true,
        ("status", "get" | "update" | "patch") => true,
        _ => false,
    };
    if fits && target.name == board {
        Ok(())
    } else {
        Err(format!("node {board:?} is not allowed to modify node {:?}", target.name))
    }
}

/// Secrets, ConfigMaps and ServiceAccounts are readable by the boards whose pods name them; the
/// list of revoked keys by all.
fn referenced(api: &Api, board: &str, ask: &Ask<'_>) -> Result<(), String> {
    let target = ask.target;
    let selector = FieldSelector::parse(ask.fields.unwrap_or_default()).unwrap_or_default();
    let name = match ask.verb {
        "get" if target.sub.is_empty() => target.name.as_str(),
        // Which pod it is for is in the body, and looked at there.
        "create" if target.sub == "token" => target.name.as_str(),
        "list" | "watch" => selector.exact("metadata.name").unwrap_or_default(),
        _ => "",
    };
    if name.is_empty() || target.namespace.is_empty() {
        return Err("can only read objects of this type by their names".to_owned());
    }
    // Every board's agent refuses the keys that are on this list.
    if target.kind == kinds::CONFIG_MAP && (target.namespace.as_str(), name) == REVOKED {
        return Ok(());
    }
    let prefix = kinds::POD.key_prefix(Some(&target.namespace));
    let listing = api.store().list(&prefix, ListOptions::default());
    let entries = listing.map(|listing| listing.entries).unwrap_or_default();
    let found = entries.iter().any(|entry| {
        peek::<Pod>(&entry.value)
            .filter(|pod| pod.on(board))
            .and_then(|_| peek::<Value>(&entry.value))
            .is_some_and(|pod| refers(&pod["spec"], target.kind, name))
    });
    if found || certificate(api, ask, name, selector.exact("type")) {
        Ok(())
    } else {
        Err("no relationship found between this node and this object".to_owned())
    }
}

/// Whether a Secret is a certificate that an Ingress of ours names: every board serves those. Of
/// another type it stays closed, whatever an Ingress says: who lists or watches must say the type,
/// and who gets finds it in what is stored.
fn certificate(api: &Api, ask: &Ask<'_>, name: &str, selected: Option<&str>) -> bool {
    let (kind, namespace) = (ask.target.kind, ask.target.namespace.as_str());
    let typed = match ask.verb {
        "get" => api
            .get(Place::new(kinds::SECRET, namespace, name))
            .is_ok_and(|entry| peek::<Typed>(&entry.value).is_some_and(|s| s.kind == TLS)),
        _ => selected == Some(TLS),
    };
    if kind != kinds::SECRET || !typed {
        return false;
    }
    let all = |kind: &'static Kind, namespace: Option<&str>| {
        let listing = api.store().list(&kind.key_prefix(namespace), ListOptions::default());
        let entries = listing.map(|listing| listing.entries).unwrap_or_default();
        entries.iter().filter_map(|entry| peek::<Value>(&entry.value)).collect::<Vec<_>>()
    };
    let ingresses = all(kinds::INGRESS, Some(namespace));
    let mut naming =
        ingresses.iter().filter(|i| ingress::secrets(i).any(|named| named == name)).peekable();
    naming.peek().is_some() && {
        let classes = ingress::Classes::gather(&all(kinds::INGRESS_CLASS, None));
        naming.any(|ingress| classes.ours(ingress))
    }
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "nodeName")]
    node_name: Option<String>,
}

impl Pod {
    fn on(&self, board: &str) -> bool {
        self.spec.node_name.as_deref() == Some(board)
    }
}

/// Whether a pod's spec names this Secret, ConfigMap or ServiceAccount.
fn refers(spec: &Value, kind: &Kind, name: &str) -> bool {
    if kind == kinds::SERVICE_ACCOUNT {
        return spec["serviceAccountName"] == *name;
    }
    let secret = kind == kinds::SECRET;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if secret && list(&spec["imagePullSecrets"]).iter().any(|entry| entry["name"] == *name) {
        return true;
    }
    let (volume, volume_name, from, key) = match secret {
        true => ("secret", "secretName", "secretRef", "secretKeyRef"),
        false => ("configMap", "name", "configMapRef", "configMapKeyRef"),
    };
    let in_volumes = list(&spec["volumes"]).iter().any(|entry| {
        let projected = list(&entry["projected"]["sources"]);
        entry[volume][volume_name] == *name
            || projected.iter().any(|source| source[volume]["name"] == *name)
    });
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    in_volumes
        || containers.iter().flat_map(|field| list(&spec[*field])).any(|container| {
            list(&container["envFrom"]).iter().any(|source| source[from]["name"] == *name)
                || list(&container["env"])
                    .iter()
                    .any(|variable| variable["valueFrom"][key]["name"] == *name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_a_pod_has_them() {
        let spec = json!({
            "serviceAccountName": "robot",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"secret": {"secretName": "vol"}}, {"configMap": {"name": "conf"}},
                        {"projected": {"sources": [{"secret": {"name": "proj"}}]}}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "all"}}]}],
        });
        for name in ["pull", "vol", "proj", "key"] {
            assert!(refers(&spec, kinds::SECRET, name), "{name}");
            assert!(!refers(&spec, kinds::CONFIG_MAP, name), "{name}");
        }
        for name in ["conf", "all"] {
            assert!(refers(&spec, kinds::CONFIG_MAP, name), "{name}");
            assert!(!refers(&spec, kinds::SECRET, name), "{name}");
        }
        assert!(refers(&spec, kinds::SERVICE_ACCOUNT, "robot"));
        assert!(!refers(&spec, kinds::SERVICE_ACCOUNT, "default"));
    }
}
