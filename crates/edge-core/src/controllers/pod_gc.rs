//! Pods that nobody will ever end (`pkg/controller/podgc`): their board is gone, or a person says
//! that it is out of service, or they never had one. They are taken off by force.

use edge_api::{Object, kinds, meta};

use super::node::ready;
use super::taint;
use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};

/// The component's name.
pub const SOURCE: &str = "pod-garbage-collector";

/// How long the pods of a board whose Node was just removed are left: a board that lives registers
/// itself again, and its pods go on.
const AFTER_REMOVAL_MS: i64 = 5_000;

/// How long pods are left whose board this leader has never seen (Kubernetes' quarantine).
const NEVER_SEEN_MS: i64 = 40_000;

/// Plans for every pod.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    for pod in view.list(kinds::POD) {
        match fate(view, pod, round.now_ms) {
            Fate::Lives => {}
            Fate::OrphanAt(at) if at > round.now_ms => plan.wake(at),
            Fate::OrphanAt(_) | Fate::Ended => plan.push(Action::force_delete(kinds::POD, pod)),
        }
        if plan.actions.len() >= MOST_ACTIONS {
            break;
        }
    }
    plan
}

enum Fate {
    Lives,
    OrphanAt(i64),
    Ended,
}

fn fate(view: &View, pod: &Object, now_ms: i64) -> Fate {
    let board = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty());
    let Some(board) = board else {
        return if meta::is_deleting(pod) { Fate::Ended } else { Fate::Lives };
    };
    match view.get(kinds::NODE, "", board) {
        Some(node) => {
            let off = taint::has(node, taint::OUT_OF_SERVICE) && !ready(node);
            if off && meta::is_deleting(pod) { Fate::Ended } else { Fate::Lives }
        }
        None => Fate::OrphanAt(match view.departed.get(board) {
            Some(at) => *at + AFTER_REMOVAL_MS,
            None => {
                let made = meta::created_ms(pod).unwrap_or(now_ms);
                view.since_ms.max(made) + NEVER_SEEN_MS
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    const NOW: i64 = 1_800_000_000_000;

    fn pod(node: &str, deleting: bool) -> Object {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "a", "uid": "p"},
                             "spec": {"nodeName": node}});
        if deleting {
            meta::set(&mut pod, "deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        pod
    }

    fn node(ready: &str, taints: serde_json::Value) -> Object {
        json!({"metadata": {"name": "n1"}, "spec": {"taints": taints},
               "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn planned(view: &View, now_ms: i64) -> (usize, Option<i64>) {
        let plan = plan(view, &Round { now_ms, seed: 0 });
        let forced = |a: &Action| matches!(a, Action::Delete { force: true, .. });
        assert!(plan.actions.iter().all(forced));
        (plan.actions.len(), plan.wake_at_ms)
    }

    #[test]
    fn pods_of_a_removed_board_go_after_a_moment() {
        let mut view = View::default();
        view.put(kinds::POD, Arc::new(pod("n1", false)));
        view.departed.insert("n1".into(), NOW);
        assert_eq!(planned(&view, NOW), (0, Some(NOW + 5_000)));
        assert_eq!(planned(&view, NOW + 5_000), (1, None));
        view.put(kinds::NODE, Arc::new(node("True", json!([]))));
        assert_eq!(planned(&view, NOW + 5_000), (0, None), "it registered again");
    }

    #[test]
    fn pods_of_a_board_never_seen_wait_longer() {
        let mut view = View::default();
        view.since_ms = NOW;
        let mut pod = pod("n1", false);
        meta::set(&mut pod, "creationTimestamp", edge_api::time::format(NOW - 90_000));
        view.put(kinds::POD, Arc::new(pod));
        assert_eq!(planned(&view, NOW), (0, Some(NOW + 40_000)));
        assert_eq!(planned(&view, NOW + 40_000), (1, None));
    }

    #[test]
    fn terminating_pods_wait_for_their_board_unless_it_is_out_of_service() {
        let out = json!([{"key": taint::OUT_OF_SERVICE, "effect": "NoExecute"}]);
        let cases = [
            (node("Unknown", json!([])), true, 0),
            (node("Unknown", out.clone()), true, 1),
            (node("Unknown", out.clone()), false, 0),
            (node("True", out), true, 0),
        ];
        for (node, deleting, want) in cases {
            let mut view = View::default();
            view.put(kinds::POD, Arc::new(pod("n1", deleting)));
            view.put(kinds::NODE, Arc::new(node.clone()));
            assert_eq!(planned(&view, NOW).0, want, "{node} {deleting}");
        }
    }

    #[test]
    fn a_terminating_pod_that_never_had_a_board_goes() {
        let mut view = View::default();
        view.put(kinds::POD, Arc::new(pod("", true)));
        assert_eq!(planned(&view, NOW).0, 1);
    }
}
