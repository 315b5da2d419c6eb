//! Cases of the node controller: conditions, taints, and when nobody is given up.

use std::sync::Arc;

use super::*;
use crate::liveness::Liveness;

const NOW: i64 = 1_800_000_000_000;
const ROUND: Round = Round { now_ms: NOW, seed: 0 };

fn node(name: &str, ready: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {}, "status": {"conditions": [
            {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory",
             "lastHeartbeatTime": "2026-01-02T00:00:00Z",
             "lastTransitionTime": "2026-01-02T00:00:00Z"},
            {"type": "Ready", "status": ready, "reason": "KubeletReady",
             "lastHeartbeatTime": "2026-01-02T00:00:00Z",
             "lastTransitionTime": "2026-01-02T00:00:00Z"}]}})
}

fn stands(view: &mut View, name: &str, standing: Standing, crashed: bool) {
    let liveness = Liveness { standing, crashed, ..Liveness::default() };
    view.liveness.insert(name.into(), liveness);
}

fn view(nodes: &[Object], lost: &[&str]) -> View {
    let mut view = View::default();
    for node in nodes {
        let name = meta::name(node);
        let standing = if lost.contains(&name) { Standing::Lost } else { Standing::Alive };
        stands(&mut view, name, standing, false);
        view.put(kinds::NODE, Arc::new(node.clone()));
    }
    view
}

/// Carries plans out until there is none.
fn settle(view: &mut View) {
    for _ in 0..5 {
        let plan = plan(view, &ROUND);
        if plan.is_empty() {
            return;
        }
        for action in plan.actions {
            let Action::Update { kind, object, sub } = action else { continue };
            let mut stored =
                view.get(kind, "", meta::name(&object)).expect("a node").as_ref().clone();
            let part = if sub == "status" { "status" } else { "spec" };
            stored[part] = object[part].clone();
            view.put(kind, Arc::new(stored));
        }
    }
    panic!("it never settles");
}

fn taints(view: &View, name: &str) -> Vec<String> {
    let node = view.get(kinds::NODE, "", name).expect("a node");
    let word = |taint: &Value| {
        format!("{}:{}", pair(taint).0.replace("node.kubernetes.io/", ""), pair(taint).1)
    };
    taint::of(node).iter().map(word).collect()
}

#[test]
fn a_lost_board_turns_unknown_in_kubernetes_words() {
    let mut view = view(&[node("n1", "True"), node("n2", "True")], &["n1"]);
    let events: Vec<String> = plan(&view, &ROUND)
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Event { reason, message, .. } => Some(format!("{reason}: {message}")),
            _ => None,
        })
        .collect();
    assert_eq!(events, ["NodeNotReady: Node n1 status is now: NodeNotReady"]);
    settle(&mut view);
    let node = view.get(kinds::NODE, "", "n1").expect("a node");
    for kind in ["Ready", "MemoryPressure"] {
        let condition = condition(node, kind).expect(kind);
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "NodeStatusUnknown");
        assert_eq!(condition["message"], "Kubelet stopped posting node status.");
        assert_eq!(condition["lastTransitionTime"], time::format(NOW));
        assert_eq!(condition["lastHeartbeatTime"], "2026-01-02T00:00:00Z");
    }
    let never = condition(node, "PIDPressure").expect("made");
    assert_eq!(never["reason"], "NodeStatusNeverUpdated");
    assert_eq!(never["message"], "Kubelet never posted node status.");
    assert_eq!(never["lastHeartbeatTime"], "2026-01-01T00:00:00Z");
    assert_eq!(taints(&view, "n1"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    assert_eq!(taint::of(node)[1]["timeAdded"], time::format(NOW));
    assert!(taints(&view, "n2").is_empty());
}

#[test]
fn what_a_board_says_becomes_taints_and_goes_again() {
    let pressed = |kind: &str| {
        let mut node = node("n1", "True");
        let list = node["status"]["conditions"].as_array_mut().expect("a list");
        list.retain(|c| c["type"] != kind);
        list.push(json!({"type": kind, "status": "True"}));
        node
    };
    let cordoned = || {
        let mut node = node("n1", "True");
        node["spec"]["unschedulable"] = json!(true);
        node
    };
    let cases: Vec<(Object, &[&str])> = vec![
        (node("n1", "True"), &[]),
        (node("n1", "False"), &["not-ready:NoSchedule", "not-ready:NoExecute"]),
        (node("n1", "Unknown"), &["unreachable:NoSchedule", "unreachable:NoExecute"]),
        (pressed("MemoryPressure"), &["memory-pressure:NoSchedule"]),
        (pressed("DiskPressure"), &["disk-pressure:NoSchedule"]),
        (pressed("PIDPressure"), &["pid-pressure:NoSchedule"]),
        (pressed("NetworkUnavailable"), &["network-unavailable:NoSchedule"]),
        (cordoned(), &["unschedulable:NoSchedule"]),
    ];
    for (mut said, want) in cases {
        said["spec"]["taints"] = json!([{"key": "mine", "effect": "NoExecute"}]);
        let mut view = view(&[said, node("n2", "True")], &[]);
        settle(&mut view);
        assert_eq!(taints(&view, "n1")[1..], *want);
        // Well again: what we put on goes, what people put on stays.
        let mut well = node("n1", "True");
        let now = view.get(kinds::NODE, "", "n1").expect("a node");
        well["spec"]["taints"] = now["spec"]["taints"].clone();
        view.put(kinds::NODE, Arc::new(well));
        settle(&mut view);
        assert_eq!(taints(&view, "n1"), ["mine:NoExecute"]);
    }
}

#[test]
fn not_ready_and_unreachable_replace_each_other() {
    let mut view = view(&[node("n1", "False"), node("n2", "True")], &[]);
    settle(&mut view);
    stands(&mut view, "n1", Standing::Lost, false);
    settle(&mut view);
    assert_eq!(taints(&view, "n1"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
}

#[test]
fn silence_alone_moves_nothing() {
    for standing in [Standing::Unheard, Standing::Alive, Standing::Stopping, Standing::Silent] {
        let mut view = view(&[node("n1", "True")], &[]);
        stands(&mut view, "n1", standing, false);
        assert!(plan(&view, &ROUND).is_empty(), "{standing:?}");
    }
    assert!(plan(&view(&[node("n1", "True")], &[]), &ROUND).is_empty());
}

/// Whether the board `n1` is given up when these are lost.
fn given_up(count: usize, lost: &[&str], crashed: &[&str], leader: Option<&str>) -> bool {
    let nodes: Vec<Object> = (1..=count).map(|n| node(&format!("n{n}"), "True")).collect();
    let mut view = view(&nodes, lost);
    view.leader = leader.map(str::to_owned);
    for name in crashed {
        stands(&mut view, name, Standing::Lost, true);
    }
    settle(&mut view);
    taints(&view, "n1").contains(&"unreachable:NoExecute".to_owned())
}

#[test]
fn most_boards_lost_at_once_are_not_given_up() {
    // (boards, lost in silence, crashed, leader, is n1 given up)
    type Case<'a> = (usize, &'a [&'a str], &'a [&'a str], Option<&'a str>, bool);
    let cases: &[Case<'_>] = &[
        (2, &["n1"], &[], Some("n2"), true),
        (3, &["n1"], &[], Some("n3"), true),
        (3, &["n1", "n2"], &[], Some("n3"), false),
        (3, &["n1"], &["n2"], Some("n3"), true),
        (3, &[], &["n1", "n2"], Some("n3"), true),
        (3, &["n1", "n2", "n3"], &[], None, false),
        (1, &["n1"], &[], None, false),
        (5, &["n1", "n2"], &[], Some("n5"), true),
        (5, &["n1", "n2", "n3"], &[], Some("n5"), false),
        (6, &["n1", "n2", "n3"], &[], Some("n6"), true),
    ];
    for (count, lost, crashed, leader, want) in cases {
        let got = given_up(*count, lost, crashed, *leader);
        assert_eq!(got, *want, "{count} {lost:?} {crashed:?} {leader:?}");
    }
}

#[test]
fn evictions_are_called_off_when_everybody_is_lost() {
    let nodes = [node("n1", "True"), node("n2", "True"), node("n3", "True")];
    let mut view = view(&nodes, &["n1"]);
    view.leader = Some("n3".into());
    settle(&mut view);
    assert!(taints(&view, "n1").contains(&"unreachable:NoExecute".to_owned()));
    stands(&mut view, "n2", Standing::Lost, false);
    settle(&mut view);
    for name in ["n1", "n2"] {
        assert_eq!(taints(&view, name), ["unreachable:NoSchedule"], "{name}");
    }
}

#[test]
fn a_zone_partly_gone_keeps_what_was_given_up_before() {
    let nodes: Vec<Object> = (1..=5).map(|n| node(&format!("n{n}"), "True")).collect();
    let mut view = view(&nodes, &["n1"]);
    settle(&mut view);
    for name in ["n2", "n3"] {
        stands(&mut view, name, Standing::Lost, false);
    }
    settle(&mut view);
    let out = |name| taints(&view, name).contains(&"unreachable:NoExecute".to_owned());
    assert_eq!((out("n1"), out("n2"), out("n3")), (true, false, false));
}

#[test]
fn excluded_boards_and_other_zones_do_not_count() {
    let mut nodes: Vec<Object> = (1..=5).map(|n| node(&format!("n{n}"), "True")).collect();
    meta::set_label(&mut nodes[1], "node.kubernetes.io/exclude-disruption", "");
    let mut first = view(&nodes, &["n1", "n2", "n3"]);
    settle(&mut first);
    assert!(taints(&first, "n1").contains(&"unreachable:NoExecute".to_owned()));
    let mut nodes: Vec<Object> = (1..=5).map(|n| node(&format!("n{n}"), "True")).collect();
    meta::set_label(&mut nodes[0], "topology.kubernetes.io/zone", "shed");
    let mut second = view(&nodes, &["n1", "n2", "n3"]);
    settle(&mut second);
    assert!(taints(&second, "n1").contains(&"unreachable:NoExecute".to_owned()));
}

#[test]
fn servers_that_run_no_pods_do_not_count() {
    let mut nodes: Vec<Object> = (1..=5).map(|n| node(&format!("n{n}"), "True")).collect();
    for server in &mut nodes[2..] {
        server["status"] = json!({});
    }
    let mut view = view(&nodes, &["n1", "n3", "n4", "n5"]);
    settle(&mut view);
    assert!(taints(&view, "n1").contains(&"unreachable:NoExecute".to_owned()));
}

/// The Node of a board that went off in order.
fn off(name: &str) -> Object {
    let mut node = node(name, "True");
    let list = node["status"]["conditions"].as_array_mut().expect("a list");
    list.retain(|c| c["type"] != "Ready");
    list.push(off_condition(NOW));
    node
}

#[test]
fn a_board_that_goes_off_takes_no_pods_and_keeps_those_it_has_until_it_is_lost() {
    let mut view = view(&[off("n1"), node("n2", "True")], &[]);
    stands(&mut view, "n1", Standing::Silent, false);
    let said = |a: &Action| matches!(a, Action::Event { reason: "NodeNotReady", .. });
    assert_eq!(plan(&view, &ROUND).actions.iter().filter(|a| said(a)).count(), 1);
    settle(&mut view);
    assert_eq!(taints(&view, "n1"), ["not-ready:NoSchedule"]);
    // A leader that never heard it knows as much.
    stands(&mut view, "n1", Standing::Unheard, false);
    assert!(plan(&view, &ROUND).is_empty());
    stands(&mut view, "n1", Standing::Lost, false);
    settle(&mut view);
    assert_eq!(taints(&view, "n1"), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    // Another reason to be not ready drives pods out, as ever.
    let mut broken = off("n1");
    broken["status"]["conditions"][1]["message"] = json!("runtime network not ready");
    view.put(kinds::NODE, Arc::new(broken));
    stands(&mut view, "n1", Standing::Alive, false);
    settle(&mut view);
    assert_eq!(taints(&view, "n1"), ["not-ready:NoSchedule", "not-ready:NoExecute"]);
}

#[test]
fn a_board_that_goes_off_does_not_speak_against_our_link() {
    let nodes = [node("n1", "True"), off("n2"), node("n3", "True")];
    let mut view = view(&nodes, &["n1"]);
    view.leader = Some("n3".into());
    settle(&mut view);
    assert!(taints(&view, "n1").contains(&"unreachable:NoExecute".to_owned()));
}
