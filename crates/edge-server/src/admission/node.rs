//! What every Node gets: a part of the cluster's pod addresses that no other Node has
//! (`pkg/controller/nodeipam`), the time at which taints that drive pods out were put on, and the
//! label of servers.

use crate::api::{Api, now_ms};
use crate::config::Range;
use edge_api::kinds;
use edge_api::status::Status;
use edge_api::{Object, meta, time};
use edge_store::ListOptions;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Completes a Node; `old` is what it was.
pub(super) fn complete(api: &Api, node: &mut Object, old: Option<&Object>) -> Result<(), Status> {
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    crate::lead::label(node, &api.inner.leadership.standing().members);
    stamp_taints(node, old);
    if old.is_none_or(|old| text(&old["spec"]["podCIDR"]).is_empty()) {
        allocate(api, node)?;
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Gives the Node the first free part, or the one that it asks for if that is free: a board that
/// registers again keeps its addresses.
fn allocate(api: &Api, node: &mut Object) -> Result<(), Status> {
    let range = &api.inner.pods;
    let taken = taken(api, range, meta::name(node))?;
    let wanted = range.block_of(text(&node["spec"]["podCIDR"])).filter(|n| !taken.contains(n));
    match wanted.or_else(|| (0..range.blocks()).find(|n| !taken.contains(n))) {
        Some(n) => {
            let cidr = range.block(n);
            node["spec"]["podCIDR"] = json!(cidr);
            node["spec"]["podCIDRs"] = json!([cidr]);
        }
        None => {
            tracing::warn!(
                "node {} gets no pod addresses: all {} parts of {range} are taken; remove Nodes \
                 that are no more",
                meta::name(node),
                range.blocks()
            );
            for field in ["podCIDR", "podCIDRs"] {
                node["spec"].as_object_mut().map(|spec| spec.remove(field));
            }
        }
    }
    Ok(())
}

/// The parts that other Nodes have.
fn taken(api: &Api, range: &Range, name: &str) -> Result<BTreeSet<u32>, Status> {
    let prefix = kinds::NODE.key_prefix(None);
    let listing = api.store().list(&prefix, ListOptions::default()).map_err(Status::internal)?;
    let mut taken = BTreeSet::new();
    for entry in listing.entries {
        let node = crate::api::read_object(&entry.value)?;
        if meta::name(&node) != name {
            taken.extend(range.block_of(text(&node["spec"]["podCIDR"])));
        }
    }
    Ok(taken)
}

/// A toleration's seconds count from when its taint was put on, which people don't write.
fn stamp_taints(node: &mut Object, old: Option<&Object>) {
    let before = old.and_then(|old| old["spec"]["taints"].as_array()).cloned().unwrap_or_default();
    let now = time::format(now_ms());
    let taints = node["spec"].get_mut("taints").and_then(Value::as_array_mut);
    let taints = taints.into_iter().flatten();
    for taint in taints.filter(|t| t["effect"] == "NoExecute" && t["timeAdded"].is_null()) {
        let same = |t: &&Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
        let since = before.iter().find(same).map(|t| t["timeAdded"].clone());
        taint["timeAdded"] = since.filter(|since| !since.is_null()).unwrap_or(json!(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_that_drives_out_has_its_time() {
        let taints = |list: Value| json!({"spec": {"taints": list}});
        let old = taints(json!([{"key": "a", "effect": "NoExecute", "timeAdded": "then"}]));
        let mut node = taints(json!([
            {"key": "a", "effect": "NoExecute"},
            {"key": "b", "effect": "NoExecute"},
            {"key": "c", "effect": "NoSchedule"},
            {"key": "d", "effect": "NoExecute", "timeAdded": "told"},
        ]));
        stamp_taints(&mut node, Some(&old));
        let times = node["spec"]["taints"].as_array().unwrap();
        assert_eq!(times[0]["timeAdded"], "then");
        assert!(time::parse(text(&times[1]["timeAdded"])).is_some());
        assert!(times[2]["timeAdded"].is_null());
        assert_eq!(times[3]["timeAdded"], "told");
    }
}
