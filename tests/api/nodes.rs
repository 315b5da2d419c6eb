//! Boards that come, beat, fall silent and return: addresses, Leases, taints, and pods that move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_core::liveness::Beat;
use edge_server::Beats;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Answer, DEPLOYMENTS, Lab, PODS, deployment, pod};

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

async fn patch(lab: &Lab, path: &str, patch: &Value) -> Answer {
    lab.ask("PATCH", path, &MERGE, &patch.to_string()).await
}

/// A board that says it is ready and has room.
async fn register(lab: &Lab, name: &str) {
    lab.create(NODES, &node(name)).await;
    let status = json!({"status": {
        "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}});
    let answer = patch(lab, &format!("{NODES}/{name}/status"), &status).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

fn beat(name: &str, session: &str, sequence: u64) -> Vec<u8> {
    let (node, session) = (name.to_owned(), session.to_owned());
    let boot = "boot".to_owned();
    Beat { node, boot, session, sequence, every_ms: 300, ..Beat::default() }.write()
}

/// Beats in the background until it is aborted.
fn beating(beats: Arc<Beats>, name: &str, session: &str) -> JoinHandle<()> {
    let (name, session) = (name.to_owned(), session.to_owned());
    tokio::spawn(async move {
        for sequence in 1.. {
            beats.beat(&name, &beat(&name, &session, sequence)).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
}

/// Asks until the answer is as wanted; how long that took.
async fn until(lab: &Lab, path: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let seen = lab.get(path).await.json();
        if wanted(&seen) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{path} stays {seen:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The boards of the pods that are not on their way out.
fn boards(pods: &Value) -> Vec<String> {
    let living = pods["items"].as_array().unwrap().iter();
    let living = living.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    living.filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn every_node_has_pod_addresses_of_its_own_and_keeps_them() {
    let lab = Lab::start().await;
    let mut seen = BTreeSet::new();
    for n in 0..5 {
        let made = lab.create(NODES, &node(&format!("n{n}"))).await;
        assert_eq!(made["spec"]["podCIDR"], format!("10.42.{n}.0/24"));
        assert_eq!(made["spec"]["podCIDRs"], json!([format!("10.42.{n}.0/24")]));
        seen.insert(made["spec"]["podCIDR"].to_string());
    }
    assert_eq!(seen.len(), 5);
    let other = json!({"spec": {"podCIDR": "10.42.9.0/24"}});
    assert_eq!(patch(&lab, &format!("{NODES}/n1"), &other).await.code, 422);
    // A board that registers again asks for what it had; others' parts are not given twice.
    lab.ask("DELETE", &format!("{NODES}/n1"), &[], "").await;
    let mut again = node("n1");
    again["spec"]["podCIDR"] = json!("10.42.1.0/24");
    assert_eq!(lab.create(NODES, &again).await["spec"]["podCIDR"], "10.42.1.0/24");
    for wrong in ["10.42.2.0/24", "10.99.0.0/24", "10.42.7.0/25", "x"] {
        lab.ask("DELETE", &format!("{NODES}/n9"), &[], "").await;
        let mut asks = node("n9");
        asks["spec"]["podCIDR"] = json!(wrong);
        assert_eq!(lab.create(NODES, &asks).await["spec"]["podCIDR"], "10.42.5.0/24", "{wrong}");
    }
    lab.end().await;
}

#[tokio::test]
async fn heartbeats_are_leases_in_memory() {
    let lab = Lab::start().await;
    register(&lab, "n1").await;
    assert_eq!(lab.get(&format!("{LEASES}/n1")).await.code, 404, "nothing was heard");
    lab.server.inlet().beat("n1", &beat("n1", "s", 1)).unwrap();
    lab.server.inlet().beat("stranger", &beat("stranger", "s", 1)).unwrap();
    let before = lab.server.api().store().revision();
    let lease = lab.get(&format!("{LEASES}/n1")).await.json();
    assert_eq!(lease["spec"]["holderIdentity"], "n1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    let renewed = |lease: &Value| lease["spec"]["renewTime"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_millis(5)).await;
    lab.server.inlet().beat("n1", &beat("n1", "s", 2)).unwrap();
    let list = lab.get(LEASES).await.json();
    let names: Vec<&Value> =
        list["items"].as_array().unwrap().iter().map(|l| &l["metadata"]["name"]).collect();
    assert_eq!(names, ["n1"]);
    assert!(renewed(&list["items"][0]) > renewed(&lease));
    let answer = patch(&lab, &format!("{LEASES}/n1"), &json!({"spec": {}})).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    assert_eq!(lab.server.api().store().revision(), before, "nothing was written");
    lab.end().await;
}

#[tokio::test]
async fn pods_tolerate_lost_boards_for_as_long_as_the_cluster_says() {
    let lab = Lab::start().await;
    let made = lab.create(PODS, &pod("a")).await;
    let list = made["spec"]["tolerations"].as_array().unwrap();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let told = json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                          "tolerationSeconds": 0});
        assert!(list.contains(&told), "{list:?}");
    }
    lab.end().await;
}

#[tokio::test]
async fn a_crashed_boards_pods_are_elsewhere_within_two_seconds() {
    let lab = Lab::start().await;
    let mut hearts = Vec::new();
    for name in ["n1", "n2", "n3"] {
        register(&lab, name).await;
        hearts.push((name, beating(lab.server.beats(), name, "s")));
    }
    lab.create(DEPLOYMENTS, &deployment("web", 3)).await;
    until(&lab, PODS, |pods| boards(pods).len() == 3).await;
    let on: BTreeSet<String> = boards(&lab.get(PODS).await.json()).into_iter().collect();
    assert_eq!(on.len(), 3, "spread over the boards");
    // A restart moves nothing.
    hearts[1].1.abort();
    lab.server.inlet().gone("n2");
    tokio::time::sleep(Duration::from_millis(700)).await;
    hearts[1].1 = beating(lab.server.beats(), "n2", "restarted");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let now: BTreeSet<String> = boards(&lab.get(PODS).await.json()).into_iter().collect();
    assert_eq!(now, on);
    // A crash does.
    hearts[0].1.abort();
    lab.server.inlet().gone("n1");
    let moved = until(&lab, PODS, |pods| {
        let boards = boards(pods);
        boards.len() == 3 && !boards.contains(&"n1".to_owned())
    });
    let moved = moved.await;
    assert!(moved < Duration::from_secs(2), "{moved:?}");
    assert!(moved > Duration::from_millis(900), "{moved:?}");
    let lost = lab.get(&format!("{NODES}/n1")).await.json();
    let conditions = lost["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!(ready["message"], "Kubelet stopped posting node status.");
    let taints = lost["spec"]["taints"].to_string();
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");
    // Its pod is Terminating until it says that it has ended, or somebody removes the board.
    let pods = lab.get(PODS).await.json();
    let left = |pods: &Value| {
        let all = pods["items"].as_array().unwrap().iter();
        all.filter(|pod| pod["spec"]["nodeName"] == "n1").count()
    };
    assert_eq!(left(&pods), 1);
    lab.ask("DELETE", &format!("{NODES}/n1"), &[], "").await;
    until(&lab, PODS, |pods| left(pods) == 0).await;
    hearts.iter().for_each(|(_, heart)| heart.abort());
    lab.end().await;
}

#[tokio::test]
async fn a_silent_boards_pods_are_elsewhere_within_five_seconds_and_an_upgrade_moves_none() {
    let lab = Lab::start().await;
    for name in ["n1", "n2", "n3"] {
        register(&lab, name).await;
    }
    let hearts = ["n1", "n2", "n3"].map(|name| beating(lab.server.beats(), name, "s"));
    lab.create(DEPLOYMENTS, &deployment("web", 3)).await;
    until(&lab, PODS, |pods| boards(pods).len() == 3).await;
    hearts[1].abort();
    let last = Beat { stopping: true, ..Beat::read(&beat("n2", "s", 1_000_000)).unwrap() };
    lab.server.inlet().beat("n2", &last.write()).unwrap();
    lab.server.inlet().gone("n2");
    hearts[0].abort();
    let moved = until(&lab, PODS, |pods| {
        let boards = boards(pods);
        boards.len() == 3 && !boards.contains(&"n1".to_owned())
    });
    let moved = moved.await;
    assert!(moved < Duration::from_secs(5), "{moved:?}");
    assert!(moved > Duration::from_millis(2500), "{moved:?}");
    assert!(boards(&lab.get(PODS).await.json()).contains(&"n2".to_owned()), "it will be back");
    hearts.iter().for_each(JoinHandle::abort);
    lab.end().await;
}

#[tokio::test]
async fn a_singleton_waits_until_its_board_is_fenced() {
    let lab = Lab::start().await;
    for name in ["n1", "n2"] {
        register(&lab, name).await;
    }
    let _n2 = beating(lab.server.beats(), "n2", "s");
    let n1 = beating(lab.server.beats(), "n1", "s");
    let mut one = deployment("one", 1);
    let template = &mut one["spec"]["template"];
    template["metadata"]["annotations"] = json!({"edged.dev/singleton": "true"});
    template["spec"]["nodeSelector"] = json!({"first": "yes"});
    let label = json!({"metadata": {"labels": {"first": "yes"}}});
    patch(&lab, &format!("{NODES}/n1"), &label).await;
    lab.create(DEPLOYMENTS, &one).await;
    until(&lab, PODS, |pods| boards(pods) == ["n1"]).await;
    patch(&lab, &format!("{NODES}/n2"), &label).await;
    n1.abort();
    lab.server.inlet().gone("n1");
    until(&lab, &format!("{NODES}/n1"), |node| {
        node["spec"]["taints"].to_string().contains("NoExecute")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pods = lab.get(PODS).await.json();
    assert_eq!((pods["items"].as_array().unwrap().len(), boards(&pods)), (1, vec!["n1".into()]));
    // A person says that the board is off.
    let node = lab.get(&format!("{NODES}/n1")).await.json();
    let mut taints = node["spec"]["taints"].as_array().unwrap().clone();
    taints.push(json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown",
                       "effect": "NoExecute"}));
    patch(&lab, &format!("{NODES}/n1"), &json!({"spec": {"taints": taints}})).await;
    until(&lab, PODS, |pods| boards(pods) == ["n2"]).await;
    lab.end().await;
}
