//! What becomes of a board that falls silent or reports trouble (`pkg/controller/nodelifecycle`):
//! its conditions turn Unknown, its conditions become taints, and the taints go when it is well.
//! Evictions follow from the taints, in [`super::eviction`].

mod off;
mod zones;

#[cfg(test)]
mod tests;

use edge_api::{Object, kinds, meta, time};
use serde_json::{Value, json};

use super::taint::{self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use crate::liveness::Standing;
use crate::plan::{Action, Plan};
use crate::view::{Round, View};
use crate::workload::condition;
pub use off::{goes_off, off_condition};
use zones::Disruption;

/// The component's name in events.
pub const SOURCE: &str = "node-controller";

/// Conditions that a silent board cannot answer for any more.
const ANSWERED_FOR: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// (condition, its status, the taint that says so): `nodeConditionToTaintKeyStatusMap`.
const CONDITION_TAINTS: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Whether a Node says that it is ready.
pub fn ready(node: &Object) -> bool {
    condition(node, "Ready").is_some_and(|c| c["status"] == "True")
}

/// Plans for every Node.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    let disruption = zones::disruption(view);
    for node in view.list(kinds::NODE) {
        let mut changed = node.as_ref().clone();
        if view.standing(meta::name(node)) == Standing::Lost {
            turn_unknown(&mut changed, round.now_ms);
        }
        if changed["status"] != node["status"] {
            let name = meta::name(node);
            plan.push(Action::status(kinds::NODE, changed.clone()));
            if ready(node) {
                let text = format!("Node {name} status is now: NodeNotReady");
                plan.push(Action::event(SOURCE, node, "NodeNotReady", text));
            }
        }
        if goes_off(&changed) && !taint::has(node, NOT_READY) {
            let text = format!("Node {} status is now: NodeNotReady", meta::name(node));
            plan.push(Action::event(SOURCE, node, "NodeNotReady", text));
        }
        if let Some(tainted) = tainted(&changed, &disruption, round.now_ms) {
            plan.push(Action::update(kinds::NODE, tainted));
        }
    }
    plan
}

/// `tryUpdateNodeHealth`, for a board that is lost.
fn turn_unknown(node: &mut Object, now_ms: i64) {
    let (now, created) = (time::format(now_ms), meta::creation_timestamp(node).to_owned());
    if !node["status"].is_object() {
        node["status"] = json!({});
    }
    let slot = &mut node["status"]["conditions"];
    if !slot.is_array() {
        *slot = json!([]);
    }
    let Some(list) = slot.as_array_mut() else { return };
    for kind in ANSWERED_FOR {
        match list.iter_mut().find(|known| known["type"] == *kind) {
            None => list.push(json!({
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": created,
                "lastTransitionTime": now,
            })),
            Some(known) if known["status"] != "Unknown" => {
                known["status"] = json!("Unknown");
                known["reason"] = json!("NodeStatusUnknown");
                known["message"] = json!("Kubelet stopped posting node status.");
                known["lastTransitionTime"] = json!(now);
            }
            Some(_) => {}
        }
    }
}

/// The Node with the taints that its conditions ask for, if those are not what it has.
fn tainted(node: &Object, disruption: &Disruption, now_ms: i64) -> Option<Object> {
    let status = |kind: &str| condition(node, kind).and_then(|c| c["status"].as_str());
    let says: Vec<&str> = CONDITION_TAINTS
        .iter()
        .filter(|(kind, value, _)| status(kind) == Some(value))
        .map(|(_, _, key)| *key)
        .collect();
    let mut wanted: Vec<(&str, &str)> = says.iter().map(|key| (*key, NO_SCHEDULE)).collect();
    if node["spec"]["unschedulable"] == true {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let drives_out = says.iter().find(|key| [NOT_READY, UNREACHABLE].contains(key));
    // Who restarts its board wants its pods there again: they move once it is lost.
    let drives_out = drives_out.filter(|_| !goes_off(node));
    if let Some(key) = drives_out.filter(|_| may_drive_out(node, disruption)) {
        wanted.push((key, NO_EXECUTE));
    }
    let held: Vec<(&str, &str)> = taint::of(node).iter().map(pair).collect();
    let mut list: Vec<Value> = taint::of(node)
        .iter()
        .filter(|taint| !ours(taint) || wanted.contains(&pair(taint)))
        .cloned()
        .collect();
    let missing = wanted.iter().filter(|pair| !held.contains(pair));
    list.extend(missing.map(|(key, effect)| taint::new(key, effect, now_ms)));
    if list.as_slice() == taint::of(node) {
        return None;
    }
    let mut node = node.clone();
    if list.is_empty() {
        node["spec"].as_object_mut().map(|spec| spec.remove("taints"));
    } else {
        node["spec"]["taints"] = json!(list);
    }
    Some(node)
}

/// Whether the pods of a board that is not ready may be driven out: never while nobody can be
/// seen, and where most of a zone is gone only from boards that were given up before.
fn may_drive_out(node: &Object, disruption: &Disruption) -> bool {
    let before = |taint: &Value| {
        taint["effect"] == NO_EXECUTE && [NOT_READY, UNREACHABLE].iter().any(|k| taint["key"] == *k)
    };
    let held = !disruption.partial.contains(&zones::zone(node));
    !disruption.full && (held || taint::of(node).iter().any(before))
}

fn pair(taint: &Value) -> (&str, &str) {
    let text = |field: &str| taint[field].as_str().unwrap_or_default();
    (text("key"), text("effect"))
}

/// Taints that this controller answers for; all others are people's.
fn ours(taint: &Value) -> bool {
    match pair(taint) {
        (key, NO_SCHEDULE) => {
            key == UNSCHEDULABLE || CONDITION_TAINTS.iter().any(|(_, _, known)| *known == key)
        }
        (key, NO_EXECUTE) => [NOT_READY, UNREACHABLE].contains(&key),
        _ => false,
    }
}
