//! Cases of evictions: who is driven out when, and who stays.

use std::sync::Arc;

use super::*;

const NOW: i64 = 1_800_000_000_000;
const ROUND: Round = Round { now_ms: NOW, seed: 0 };

fn node(ready: &str, taints: Value) -> Object {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "n1"},
        "spec": {"taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}})
}

fn pod(tolerations: Value) -> Object {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a", "uid": "p"},
        "spec": {"nodeName": "n1", "tolerations": tolerations},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn singleton() -> Object {
    let mut pod = pod(json!([]));
    meta::set_annotation(&mut pod, super::super::singleton::ANNOTATION, "true");
    pod
}

fn unreachable() -> Value {
    json!([taint::new(UNREACHABLE, "NoSchedule", NOW), taint::new(UNREACHABLE, NO_EXECUTE, NOW)])
}

fn tolerated(seconds: i64) -> Value {
    json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds}])
}

fn planned(node: &Object, pod: &Object, now_ms: i64) -> Plan {
    let mut view = View::default();
    view.put(kinds::NODE, Arc::new(node.clone()));
    view.put(kinds::POD, Arc::new(pod.clone()));
    plan(&view, &Round { now_ms, seed: 0 })
}

fn evicted(plan: &Plan) -> bool {
    plan.actions.iter().any(|a| matches!(a, Action::Delete { force: false, .. }))
}

fn marked(plan: &Plan) -> Option<&Object> {
    plan.actions.iter().find_map(|a| match a {
        Action::Update { object, sub: "status", .. } => Some(object),
        _ => None,
    })
}

#[test]
fn a_pod_without_patience_goes_at_once_and_says_why() {
    for tolerations in [json!([]), tolerated(0)] {
        let plan = planned(&node("Unknown", unreachable()), &pod(tolerations), NOW);
        assert!(evicted(&plan));
        let why = condition(marked(&plan).expect("a status"), "DisruptionTarget").expect("why");
        assert_eq!(why["reason"], "DeletionByTaintManager");
        assert_eq!(why["message"], "Taint manager: deleting due to NoExecute taint");
        let Some(Action::Event { level, reason, message, .. }) = plan.actions.last() else {
            panic!("{plan:?}")
        };
        assert_eq!((*level, *reason), ("Normal", "TaintManagerEviction"));
        assert_eq!(message, "Marking for deletion Pod a/p");
    }
}

#[test]
fn a_patient_pod_goes_when_its_time_is_up() {
    let node = node("Unknown", unreachable());
    let before = planned(&node, &pod(tolerated(300)), NOW + 299_999);
    assert!(!evicted(&before));
    assert_eq!(before.wake_at_ms, Some(NOW + 300_000));
    assert!(evicted(&planned(&node, &pod(tolerated(300)), NOW + 300_000)));
}

#[test]
fn a_pod_that_stays_on_an_unseen_board_is_not_ready() {
    let always = json!([{"operator": "Exists"}]);
    let plan = planned(&node("Unknown", unreachable()), &pod(always.clone()), NOW);
    assert!(!evicted(&plan));
    let ready = condition(marked(&plan).expect("a status"), "Ready").expect("Ready").clone();
    assert_eq!(ready["status"], "False");
    assert_eq!(ready["lastTransitionTime"], edge_api::time::format(NOW));
    let again = marked(&plan).expect("a status").clone();
    assert!(planned(&node("Unknown", unreachable()), &again, NOW).is_empty());
    assert!(planned(&node("True", json!([])), &pod(always), NOW).is_empty());
}

#[test]
fn finished_and_leaving_pods_are_left_alone() {
    let mut finished = pod(json!([]));
    finished["status"]["phase"] = json!("Succeeded");
    let mut leaving = pod(json!([]));
    meta::set(&mut leaving, "deletionTimestamp", "2026-01-01T00:00:00Z");
    for pod in [finished, leaving] {
        assert!(planned(&node("Unknown", unreachable()), &pod, NOW).is_empty());
    }
}

#[test]
fn peoples_taints_drive_out_as_well() {
    let own = json!([{"key": "gpu", "effect": "NoExecute"}]);
    assert!(evicted(&planned(&node("True", own.clone()), &pod(json!([])), NOW)));
    let gpu = json!([{"key": "gpu", "operator": "Exists", "tolerationSeconds": 60}]);
    // Without a time of its own a taint has been there for ever.
    assert!(evicted(&planned(&node("True", own), &pod(gpu.clone()), NOW)));
    let since = json!([{"key": "gpu", "effect": "NoExecute",
                        "timeAdded": edge_api::time::format(NOW)}]);
    let plan = planned(&node("True", since), &pod(gpu), NOW);
    assert_eq!((evicted(&plan), plan.wake_at_ms), (false, Some(NOW + 60_000)));
}

#[test]
fn a_singleton_stays_while_nobody_knows_whether_it_runs() {
    let fence = |ready: &str, key: &str| {
        let mut taints = unreachable();
        let list = taints.as_array_mut().expect("a list");
        list.push(json!({"key": key, "effect": "NoExecute"}));
        node(ready, taints)
    };
    let cases = [
        (node("Unknown", unreachable()), false),
        (fence("Unknown", taint::OUT_OF_SERVICE), true),
        (fence("Unknown", "mine"), true),
        (node("True", json!([{"key": "mine", "effect": "NoExecute"}])), true),
        (node("False", json!([taint::new(NOT_READY, NO_EXECUTE, NOW)])), false),
    ];
    for (node, want) in cases {
        assert_eq!(evicted(&planned(&node, &singleton(), NOW)), want, "{node}");
    }
}

#[test]
fn the_eviction_is_planned_once() {
    let plan = planned(&node("Unknown", unreachable()), &pod(json!([])), ROUND.now_ms);
    let mut leaving = marked(&plan).expect("a status").clone();
    meta::set(&mut leaving, "deletionTimestamp", "2026-01-01T00:00:00Z");
    assert!(planned(&node("Unknown", unreachable()), &leaving, NOW).is_empty());
}

#[test]
fn a_pod_on_a_board_that_goes_off_is_not_ready_and_stays() {
    let mut node = node("True", json!([taint::new(NOT_READY, "NoSchedule", NOW)]));
    node["status"]["conditions"] = json!([super::super::node::off_condition(NOW)]);
    let plan = planned(&node, &pod(json!([])), NOW + 20_000);
    assert!(!evicted(&plan));
    let ready = condition(marked(&plan).expect("a status"), "Ready").expect("Ready");
    assert_eq!(ready["status"], "False");
}
