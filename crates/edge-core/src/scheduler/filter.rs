//! What rules a board out, in the words of Kubernetes' scheduler plug-ins.

use std::collections::BTreeSet;

use edge_api::selector::{LabelSelector, Operator, Requirement};
use edge_api::{Object, meta};
use serde_json::Value;

use super::resources::{Amounts, Board};
use crate::controllers::taint::{self, NOT_READY, UNREACHABLE, tolerates};
use crate::liveness::Standing;
use crate::workload::condition;

/// Why `pod` can't run on `board`; empty when it can.
pub(super) fn reasons(pod: &Object, wants: &Amounts, board: &Board<'_>) -> Vec<String> {
    let spec = &pod["spec"];
    if let Some(why) = unready(board) {
        return vec![why];
    }
    if let Some(taint) = pressed(spec, board.node) {
        return vec![taint];
    }
    if let Some(taint) = untolerated(spec, board.node) {
        return vec![taint];
    }
    if !affinity_allows(spec, board.node) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    if ports_clash(pod, board) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    let mut why = Vec::new();
    let most = board.allocatable.get("pods").copied().unwrap_or(i64::MAX);
    if i64::try_from(board.pods.len()).unwrap_or(i64::MAX) >= most {
        why.push("Too many pods".into());
    }
    for (name, amount) in wants {
        if *amount > board.free(name) {
            why.push(format!("Insufficient {name}"));
        }
    }
    why
}

/// A board that does not report Ready takes no pods, whatever they tolerate: nobody would start
/// them. Nor does one that has just fallen silent, though its Node still looks well.
fn unready(board: &Board<'_>) -> Option<String> {
    let key = if board.standing >= Standing::Silent {
        UNREACHABLE
    } else if condition(board.node, "Ready").is_none_or(|c| c["status"] != "True") {
        NOT_READY
    } else {
        return None;
    };
    Some(format!("node(s) had untolerated taint {{{key}: }}"))
}

/// A board under pressure takes only pods that tolerate the taint Kubernetes' node controller
/// would put on it (`nodeConditionToTaintKeyStatusMap`).
fn pressed(spec: &Value, node: &Object) -> Option<String> {
    let under = |kind: &str| condition(node, kind).is_some_and(|c| c["status"] == "True");
    let mut taints = [
        ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ]
    .into_iter();
    taints.find_map(|(kind, key)| {
        let taint = serde_json::json!({"key": key, "effect": "NoSchedule"});
        let held = under(kind) && !tolerates(spec, &taint);
        held.then(|| format!("node(s) had untolerated taint {{{key}: }}"))
    })
}

fn untolerated(spec: &Value, node: &Object) -> Option<String> {
    let unschedulable = serde_json::json!(
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if node["spec"]["unschedulable"] == true && !tolerates(spec, &unschedulable) {
        return Some("node(s) were unschedulable".into());
    }
    let hard = taint::of(node).iter().filter(|t| t["effect"] != "PreferNoSchedule");
    let mut against = hard.filter(|taint| !tolerates(spec, taint));
    against.next().map(|taint| {
        let text = |field: &str| taint[field].as_str().unwrap_or_default().to_owned();
        format!("node(s) had untolerated taint {{{}: {}}}", text("key"), text("value"))
    })
}

fn affinity_allows(spec: &Value, node: &Object) -> bool {
    let labels = LabelSelector::from_labels(&spec["nodeSelector"]);
    if spec["nodeSelector"].is_object() && !labels.matches(node) {
        return false;
    }
    let required =
        &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array() {
        Some(terms) => terms.iter().any(|term| term_matches(term, node)),
        None => true,
    }
}

/// A node selector term: all its expressions; one with none matches nothing.
pub(super) fn term_matches(term: &Value, node: &Object) -> bool {
    let list = |field: &str| term[field].as_array().cloned().unwrap_or_default();
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    labels.iter().all(|e| expression_matches(e, node))
        && fields.iter().all(|e| {
            let named =
                e["values"].as_array().is_some_and(|v| v.iter().any(|n| n == meta::name(node)));
            e["key"] == "metadata.name" && if e["operator"] == "NotIn" { !named } else { named }
        })
}

fn expression_matches(expression: &Value, node: &Object) -> bool {
    let key = expression["key"].as_str().unwrap_or_default();
    let values: BTreeSet<String> = expression["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(Into::into))
        .collect();
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let compare = |greater: bool| {
        let have = number(meta::label(node, key));
        let want = number(values.iter().next().map(String::as_str));
        have.zip(want).is_some_and(|(have, want)| if greater { have > want } else { have < want })
    };
    let operator = match expression["operator"].as_str() {
        Some("In") => Operator::In,
        Some("NotIn") => Operator::NotIn,
        Some("Exists") => Operator::Exists,
        Some("DoesNotExist") => Operator::DoesNotExist,
        Some("Gt") => return compare(true),
        Some("Lt") => return compare(false),
        _ => return false,
    };
    Requirement { key: key.to_owned(), operator, values }.matches(meta::labels(node))
}

/// Host ports of a pod as (port, protocol, address).
fn host_ports(pod: &Object) -> Vec<(i64, String, String)> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.filter_map(|c| c["ports"].as_array()).flatten();
    let wanted = ports.filter_map(|port| {
        let number = port["hostPort"].as_i64().filter(|n| *n > 0)?;
        let text = |field: &str, otherwise: &str| {
            port[field].as_str().filter(|t| !t.is_empty()).unwrap_or(otherwise).to_owned()
        };
        Some((number, text("protocol", "TCP"), text("hostIP", "0.0.0.0")))
    });
    wanted.collect()
}

fn ports_clash(pod: &Object, board: &Board<'_>) -> bool {
    let wanted = host_ports(pod);
    let any = |address: &str| address == "0.0.0.0";
    board.pods.iter().flat_map(|other| host_ports(other)).any(|(port, protocol, address)| {
        wanted.iter().any(|(p, proto, addr)| {
            *p == port && *proto == protocol && (*addr == address || any(addr) || any(&address))
        })
    })
}
