//! Drives pods from boards with `NoExecute` taints that they do not tolerate, when their time is
//! up (`pkg/controller/tainteviction`). A pod that stays on a board that cannot be seen is marked
//! not ready (`MarkPodsNotReady`), so that nobody counts on it.

use std::collections::BTreeMap;

use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use super::node::{goes_off, ready};
use super::singleton::is_singleton;
use super::taint::{self, NO_EXECUTE, NOT_READY, Stay, UNREACHABLE};
use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};
use crate::workload::{condition, is_finished, is_ready};

/// The component's name in events.
pub const SOURCE: &str = "taint-eviction-controller";

/// Plans for every pod on a board that has such a taint.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    let boards: BTreeMap<&str, &Object> = view
        .list(kinds::NODE)
        .filter(|node| drives_out(node) || unseen(node))
        .map(|node| (meta::name(node), node.as_ref()))
        .collect();
    if boards.is_empty() {
        return plan;
    }
    for pod in view.list(kinds::POD) {
        let node = pod["spec"]["nodeName"].as_str().and_then(|name| boards.get(name));
        let Some(node) = node.filter(|_| !is_finished(pod) && !meta::is_deleting(pod)) else {
            continue;
        };
        match stay(pod, node) {
            Stay::Until(end) if end <= round.now_ms => evict(pod, round.now_ms, &mut plan),
            Stay::Until(end) => {
                plan.wake(end);
                mark_unready(pod, node, round.now_ms, &mut plan);
            }
            Stay::Always => mark_unready(pod, node, round.now_ms, &mut plan),
        }
        if plan.actions.len() >= MOST_ACTIONS {
            break;
        }
    }
    plan
}

fn drives_out(node: &Object) -> bool {
    taint::of(node).iter().any(|taint| taint["effect"] == NO_EXECUTE)
}

/// A board that nobody answers for: what runs there cannot be told, or ends with the board.
fn unseen(node: &Object) -> bool {
    goes_off(node) || condition(node, "Ready").is_some_and(|c| c["status"] == "Unknown")
}

/// A singleton on a board that cannot be seen would not end by being evicted: it stays, whatever
/// the board's own state says, until somebody knows more.
fn stay(pod: &Object, node: &Object) -> Stay {
    let blind = is_singleton(pod) && !ready(node);
    let says_unseen = |taint: &Value| [NOT_READY, UNREACHABLE].iter().any(|k| taint["key"] == *k);
    taint::stay(&pod["spec"], taint::of(node).iter().filter(|t| !(blind && says_unseen(t))))
}

fn evict(pod: &Object, now_ms: i64, plan: &mut Plan) {
    let mut changed = pod.clone();
    set(&mut changed, "DisruptionTarget", "True", now_ms, |entry| {
        entry["reason"] = json!("DeletionByTaintManager");
        entry["message"] = json!("Taint manager: deleting due to NoExecute taint");
    });
    plan.push(Action::status(kinds::POD, changed));
    plan.push(Action::delete(kinds::POD, pod));
    let text = format!("Marking for deletion Pod {}/{}", meta::namespace(pod), meta::name(pod));
    plan.push(Action::event(SOURCE, pod, "TaintManagerEviction", text));
}

fn mark_unready(pod: &Object, node: &Object, now_ms: i64, plan: &mut Plan) {
    if !unseen(node) || !is_ready(pod) {
        return;
    }
    let mut changed = pod.clone();
    set(&mut changed, "Ready", "False", now_ms, |_| {});
    plan.push(Action::status(kinds::POD, changed));
    plan.push(Action::warning(SOURCE, pod, "NodeNotReady", "Node is not ready".to_owned()));
}

/// Sets a condition of a pod, with its time, and leaves what else it says.
fn set(pod: &mut Object, kind: &str, status: &str, now_ms: i64, also: impl Fn(&mut Value)) {
    let mut list = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    if !list.iter().any(|c| c["type"] == kind) {
        list.push(json!({"type": kind, "lastProbeTime": null}));
    }
    for entry in list.iter_mut().filter(|c| c["type"] == kind) {
        if entry["status"] != status {
            entry["status"] = json!(status);
            entry["lastTransitionTime"] = json!(edge_api::time::format(now_ms));
        }
        also(entry);
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    pod["status"]["conditions"] = json!(list);
}

#[cfg(test)]
#[path = "eviction/tests.rs"]
mod tests;
