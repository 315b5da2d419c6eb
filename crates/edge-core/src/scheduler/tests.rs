//! Cases of the scheduler: who fits where, who wins, and the words when nobody does.

use std::sync::Arc;

use super::*;

const ROUND: Round = Round { now_ms: 1_800_000_000_000, seed: 7 };

fn node(name: &str, cpu: &str, memory: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name,
                     "labels": {"disk": "ssd", "kubernetes.io/hostname": name}},
        "spec": {}, "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(name: &str, cpu: &str, memory: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"schedulerName": NAME, "containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]},
        "status": {"phase": "Pending"}})
}

fn view(nodes: &[Object], pods: &[Object]) -> View {
    let mut view = View::default();
    for (kind, objects) in [(kinds::NODE, nodes), (kinds::POD, pods)] {
        for object in objects {
            view.put(kind, Arc::new(object.clone()));
        }
    }
    view
}

fn binds(plan: &Plan) -> Vec<(&str, &str)> {
    let found = plan.actions.iter().filter_map(|action| match action {
        Action::Bind { name, node, .. } => Some((name.as_str(), node.as_str())),
        _ => None,
    });
    found.collect()
}

fn why(plan: &Plan) -> Option<&str> {
    plan.actions.iter().find_map(|action| match action {
        Action::Event { reason: "FailedScheduling", message, .. } => Some(message.as_str()),
        _ => None,
    })
}

#[test]
fn the_emptier_board_wins() {
    let mut busy = pod("busy", "3", "1Gi");
    busy["spec"]["nodeName"] = json!("n1");
    let nodes = [node("n1", "4", "4Gi"), node("n2", "4", "4Gi")];
    let plan = plan(&view(&nodes, &[busy, pod("p", "500m", "64Mi")]), &ROUND);
    assert_eq!(binds(&plan), [("p", "n2")]);
}

#[test]
fn replicas_are_spread() {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                       "metadata": {"name": "r", "uid": "r"}});
    let pods: Vec<Object> = (0..4)
        .map(|n| {
            let mut pod = pod(&format!("p{n}"), "10m", "8Mi");
            meta::set(&mut pod, "ownerReferences", json!([meta::controller_reference(&owner)]));
            pod
        })
        .collect();
    let nodes = [node("n1", "4", "4Gi"), node("n2", "4", "4Gi")];
    let plan = plan(&view(&nodes, &pods), &ROUND);
    let on = |name| binds(&plan).iter().filter(|(_, node)| *node == name).count();
    assert_eq!((on("n1"), on("n2")), (2, 2));
}

#[test]
fn no_board_is_filled_beyond_what_it_has() {
    let pods: Vec<Object> = (0..5).map(|n| pod(&format!("p{n}"), "1", "1Mi")).collect();
    let plan = plan(&view(&[node("n1", "3", "4Gi")], &pods), &ROUND);
    assert_eq!(binds(&plan).len(), 3);
    assert_eq!(why(&plan), Some("0/1 nodes are available: 1 Insufficient cpu."));
}

#[test]
fn the_words_are_those_people_know() {
    let mut cordoned = node("n1", "4", "4Gi");
    cordoned["spec"]["unschedulable"] = json!(true);
    let mut tainted = node("n2", "4", "4Gi");
    tainted["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let mut unready = node("n3", "4", "4Gi");
    unready["status"]["conditions"][0]["status"] = json!("False");
    let small = node("n4", "100m", "4Gi");
    let plan = plan(&view(&[cordoned, tainted, unready, small], &[pod("p", "1", "1Mi")]), &ROUND);
    assert_eq!(
        why(&plan),
        Some(
            "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint \
             {gpu: yes}, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, \
             1 node(s) were unschedulable."
        )
    );
}

#[test]
fn the_same_answer_is_not_said_twice() {
    let mut view = view(&[node("n1", "100m", "4Gi")], &[pod("p", "1", "1Mi")]);
    let first = plan(&view, &ROUND);
    let Action::Update { object, sub: "status", .. } = &first.actions[0] else { panic!() };
    view.put(kinds::POD, Arc::new(object.clone()));
    assert!(plan(&view, &ROUND).is_empty());
}

#[test]
fn tolerations_selectors_and_affinity_are_honoured() {
    let mut tainted = node("n1", "4", "4Gi");
    tainted["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let other = node("n2", "4", "4Gi");
    let mut tolerant = pod("tolerant", "1m", "1Mi");
    tolerant["spec"]["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
    tolerant["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n1"});
    let mut picky = pod("picky", "1m", "1Mi");
    picky["spec"]["affinity"] = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1"]}]}]}}});
    let plan = plan(&view(&[tainted, other], &[tolerant, picky]), &ROUND);
    let mut got = binds(&plan);
    got.sort();
    assert_eq!(got, [("picky", "n2"), ("tolerant", "n1")]);
}

#[test]
fn a_board_under_pressure_takes_only_what_tolerates_it() {
    let mut full = node("n1", "4", "4Gi");
    full["status"]["conditions"] = json!([
        {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]);
    let mut tolerant = pod("tolerant", "1m", "1Mi");
    tolerant["spec"]["tolerations"] =
        json!([{"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}]);
    let plan = plan(&view(&[full], &[tolerant, pod("other", "1m", "1Mi")]), &ROUND);
    assert_eq!(binds(&plan), [("tolerant", "n1")]);
    let words = "0/1 nodes are available: \
                 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.";
    assert_eq!(why(&plan), Some(words));
}

#[test]
fn host_ports_are_taken_once() {
    let with_port = |name: &str| {
        let mut pod = pod(name, "1m", "1Mi");
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
        pod
    };
    let plan = plan(&view(&[node("n1", "4", "4Gi")], &[with_port("p1"), with_port("p2")]), &ROUND);
    assert_eq!(binds(&plan).len(), 1);
    assert!(why(&plan).is_some_and(|why| why.contains("free ports")));
}

#[test]
fn other_schedulers_pods_and_gated_pods_wait() {
    let mut other = pod("other", "1m", "1Mi");
    other["spec"]["schedulerName"] = json!("mine");
    let mut gated = pod("gated", "1m", "1Mi");
    gated["spec"]["schedulingGates"] = json!([{"name": "x"}]);
    assert!(plan(&view(&[node("n1", "4", "4Gi")], &[other, gated]), &ROUND).is_empty());
}

#[test]
fn init_containers_and_sidecars_count_as_kubernetes_counts_them() {
    let mut pod = pod("p", "100m", "10Mi");
    pod["spec"]["initContainers"] = json!([
        {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
        {"name": "init", "resources": {"requests": {"cpu": "400m"}}}]);
    let wants = resources::requests(&pod);
    assert_eq!(wants["cpu"], 450);
    assert_eq!(wants["memory"], 10 * 1024 * 1024);
}
