//! Cases of the ReplicaSet controller, most of them Kubernetes' own documented behaviour.

use std::sync::Arc;

use edge_api::time;
use serde_json::json;

use super::*;

const ROUND: Round = Round { now_ms: 1_800_000_000_000, seed: 0 };

fn set(replicas: i64) -> Object {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "a", "uid": "rs", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}})
}

fn pod(name: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"},
                     "creationTimestamp": time::format(ROUND.now_ms - 60_000),
                     "ownerReferences": [meta::controller_reference(&set(1))]},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True",
             "lastTransitionTime": time::format(ROUND.now_ms - 50_000)}]}})
}

fn view(set: Object, pods: Vec<Object>) -> View {
    let mut view = View::default();
    view.put(kinds::REPLICA_SET, Arc::new(set));
    for pod in pods {
        view.put(kinds::POD, Arc::new(pod));
    }
    view
}

fn created(plan: &Plan) -> Vec<&Object> {
    let found = plan.actions.iter().filter_map(|action| match action {
        Action::Create { object, .. } => Some(object),
        _ => None,
    });
    found.collect()
}

fn deleted(plan: &Plan) -> Vec<&str> {
    let found = plan.actions.iter().filter_map(|action| match action {
        Action::Delete { name, .. } => Some(name.as_str()),
        _ => None,
    });
    found.collect()
}

fn status_of(plan: &Plan) -> Option<&Object> {
    plan.actions.iter().rev().find_map(|action| match action {
        Action::Update { object, sub: "status", .. } => Some(&object["status"]),
        _ => None,
    })
}

#[test]
fn makes_what_is_missing() {
    let plan = plan(&view(set(3), vec![pod("p1")]), &ROUND);
    let pods = created(&plan);
    assert_eq!(pods.len(), 2);
    assert_eq!(pods[0]["metadata"]["generateName"], "web-1-");
    assert_eq!(meta::controller(pods[0]).map(|o| o.uid), Some("rs"));
    assert_eq!(pods[0]["metadata"]["labels"], json!({"app": "web"}));
}

#[test]
fn a_finished_or_leaving_pod_is_replaced() {
    let mut failed = pod("p1");
    failed["status"]["phase"] = json!("Failed");
    let mut leaving = pod("p2");
    meta::set(&mut leaving, "deletionTimestamp", time::format(ROUND.now_ms));
    let plan = plan(&view(set(2), vec![failed, leaving]), &ROUND);
    assert_eq!(created(&plan).len(), 2);
    assert!(deleted(&plan).is_empty());
}

#[test]
fn deletes_the_least_useful_first() {
    let mut pending = pod("pending");
    pending["status"] = json!({"phase": "Pending"});
    pending["spec"] = json!({});
    let mut unready = pod("unready");
    unready["status"]["conditions"][0]["status"] = json!("False");
    let mut cheap = pod("cheap");
    meta::set_annotation(&mut cheap, "controller.kubernetes.io/pod-deletion-cost", "-5");
    let good = pod("good");
    let pods = vec![good, cheap, unready, pending];
    for (replicas, want) in [
        (3, vec!["pending"]),
        (2, vec!["pending", "unready"]),
        (1, vec!["pending", "unready", "cheap"]),
    ] {
        assert_eq!(deleted(&plan(&view(set(replicas), pods.clone()), &ROUND)), want);
    }
}

#[test]
fn adopts_an_orphan_rather_than_making_a_twin() {
    let mut orphan = pod("orphan");
    meta::remove(&mut orphan, "ownerReferences");
    let plan = plan(&view(set(1), vec![orphan]), &ROUND);
    assert!(created(&plan).is_empty());
    let Action::Update { object, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    assert_eq!(meta::controller(object).map(|o| o.uid), Some("rs"));
}

#[test]
fn releases_what_fits_no_more_and_replaces_it() {
    let mut relabelled = pod("p1");
    relabelled["metadata"]["labels"] = json!({"app": "debug"});
    let plan = plan(&view(set(1), vec![relabelled]), &ROUND);
    let Action::Update { object, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    assert!(meta::controller(object).is_none());
    assert_eq!(created(&plan).len(), 1);
}

#[test]
fn another_owners_pods_are_left_alone() {
    let mut other = pod("p1");
    other["metadata"]["ownerReferences"][0]["uid"] = json!("someone");
    let plan = plan(&view(set(0), vec![other]), &ROUND);
    assert!(deleted(&plan).is_empty());
}

#[test]
fn a_set_on_its_way_out_makes_nothing() {
    let mut set = set(3);
    meta::set(&mut set, "deletionTimestamp", time::format(ROUND.now_ms));
    assert!(created(&plan(&view(set, vec![]), &ROUND)).is_empty());
}

#[test]
fn reports_counts_and_then_keeps_quiet() {
    let first = plan(&view(set(1), vec![pod("p1")]), &ROUND);
    let status = status_of(&first).expect("a status").clone();
    assert_eq!(
        status,
        json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1,
               "availableReplicas": 1, "observedGeneration": 1})
    );
    let mut settled = set(1);
    settled["status"] = status;
    assert!(plan(&view(settled, vec![pod("p1")]), &ROUND).is_empty());
}

#[test]
fn availability_comes_later_and_wakes_the_controller() {
    let mut slow = set(1);
    slow["spec"]["minReadySeconds"] = json!(80);
    let plan = plan(&view(slow, vec![pod("p1")]), &ROUND);
    assert_eq!(plan.wake_at_ms, Some(ROUND.now_ms + 30_000));
    assert!(status_of(&plan).expect("a status").get("availableReplicas").is_none());
}

#[test]
fn a_singleton_is_replaced_when_it_has_ended_and_not_before() {
    let annotate = |object: &mut Object| {
        meta::set_annotation(object, crate::controllers::singleton::ANNOTATION, "true");
    };
    let mut one = set(1);
    annotate(&mut one["spec"]["template"]);
    let mut leaving = pod("p1");
    annotate(&mut leaving);
    meta::set(&mut leaving, "deletionTimestamp", "2026-01-01T00:00:00Z");
    assert!(created(&plan(&view(one.clone(), vec![leaving.clone()]), &ROUND)).is_empty());
    // Also where the annotation was taken off the template since.
    assert!(created(&plan(&view(set(1), vec![leaving.clone()]), &ROUND)).is_empty());
    let mut ended = leaving.clone();
    ended["status"]["phase"] = json!("Succeeded");
    assert_eq!(created(&plan(&view(one.clone(), vec![ended]), &ROUND)).len(), 1);
    assert_eq!(created(&plan(&view(one.clone(), vec![]), &ROUND)).len(), 1);
    let mut ordinary = pod("p1");
    meta::set(&mut ordinary, "deletionTimestamp", "2026-01-01T00:00:00Z");
    assert_eq!(created(&plan(&view(set(1), vec![ordinary]), &ROUND)).len(), 1);
    // Too many are still thinned out.
    let many = plan(&view(one, vec![pod("p2"), pod("p3"), leaving]), &ROUND);
    assert_eq!(deleted(&many).len(), 1);
}
