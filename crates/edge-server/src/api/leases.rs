//! Leases that are held in memory and never logged: the leader's, and one for each board that
//! beats, in `kube-node-lease`, so that clients see its heartbeat where Kubernetes shows it.

use super::{Api, Place};
use edge_api::kinds::{self, Kind};
use edge_api::{Object, keys, meta, time};
use edge_core::liveness::Liveness;
use edge_store::Entry;
use serde_json::json;
use std::sync::Arc;

/// Where boards' Leases are.
const NODE_LEASES: &str = "kube-node-lease";

/// How long a heartbeat is good for, as the kubelet's default has it. Our own judgement is faster.
const DURATION_SECONDS: i64 = 40;

impl Api {
    /// The Lease that says who leads.
    pub(crate) fn lease(&self) -> Entry {
        self.inner.lease.entry(self.inner.store.revision(), super::now_ms())
    }

    /// The Lease with this key, if it is one that is held in memory.
    pub(super) fn held_lease(&self, key: &str) -> Option<Entry> {
        if self.inner.lease.key() == key {
            return Some(self.lease());
        }
        let parts = keys::parse(key).filter(|parts| parts.namespace == NODE_LEASES)?;
        if keys::kind_of(key) != Some(kinds::LEASE) {
            return None;
        }
        self.node_lease(parts.name, &self.inner.beats.of(parts.name)?)
    }

    /// All Leases that are held in memory, in a namespace or in all of them, by key.
    pub(super) fn held_leases(&self, kind: &Kind, namespace: Option<&str>) -> Vec<Entry> {
        if kind != kinds::LEASE {
            return Vec::new();
        }
        let within = |wanted: &str| namespace.is_none_or(|namespace| namespace == wanted);
        let mut held = Vec::new();
        if within(NODE_LEASES) {
            let boards = self.inner.beats.all();
            held.extend(boards.iter().filter_map(|(name, known)| self.node_lease(name, known)));
        }
        if within(super::LEADER_LEASE.0) {
            held.push(self.lease());
        }
        held.sort_by(|a, b| a.key.cmp(&b.key));
        held
    }

    /// Whether what is at this place is held in memory, and so cannot be written.
    pub(super) fn holds_lease(&self, place: Place<'_>) -> bool {
        place.kind == kinds::LEASE && self.held_lease(&place.key()).is_some()
    }

    /// A board's Lease; none where nothing was heard, or where it has no Node.
    fn node_lease(&self, name: &str, known: &Liveness) -> Option<Entry> {
        let heard_at_ms = known.heard_at_ms?;
        let node = self.inner.store.get(&keys::key(kinds::NODE, "", name)).ok()??;
        let object = super::read_object(&node.value).ok()?;
        let key = keys::key(kinds::LEASE, NODE_LEASES, name);
        let value = lease(&object, node.revision, heard_at_ms).to_string().into();
        Some(Entry { key: Arc::from(key), revision: node.revision, value })
    }
}

fn lease(node: &Object, revision: u64, heard_at_ms: i64) -> Object {
    let (name, uid) = (meta::name(node), meta::uid(node));
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": NODE_LEASES,
            "uid": uid,
            "resourceVersion": revision.to_string(),
            "creationTimestamp": meta::creation_timestamp(node),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": time::format_micro(heard_at_ms),
        },
    })
}
