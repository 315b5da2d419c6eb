//! The pod's status as the API shall show it, as raw JSON in the shape the kubelet reports.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::conditions::{Containers, conditions};
use super::container_status::{changes_at, container_status};
use super::desired::Desired;
use super::observed::ObservedPod;
use super::phase::{self, Phase};
use super::plan::verdict;
use super::qos::qos_class;

pub(super) use edge_api::time::format as time;

/// True for a pod whose containers never start again.
pub(super) fn leaving(desired: &Desired, observed: &ObservedPod, now_ms: i64) -> bool {
    desired.deleted()
        || observed.orphan
        || desired.finished()
        || verdict(desired, observed, now_ms).is_some()
}

fn shown_phase(desired: &Desired, observed: &ObservedPod, failed: bool) -> Phase {
    let phase = if failed { Phase::Failed } else { phase::of(desired, observed) };
    let terminal = matches!(phase, Phase::Succeeded | Phase::Failed);
    if terminal && !desired.finished() && observed.any_running() {
        // Not before the last container has ended: others take the pod's place then.
        let ran = observed.containers.values().any(|seen| !seen.runs.is_empty());
        return if ran { Phase::Running } else { Phase::Pending };
    }
    phase
}

/// The status to report. `observed.reported` is the one before it.
pub fn status(desired: &Desired, observed: &ObservedPod, now_ms: i64) -> Value {
    let failed = verdict(desired, observed, now_ms);
    let phase = shown_phase(desired, observed, failed.is_some());
    let init = desired.init().iter().map(|c| {
        let shown = container_status(desired, observed, c, true, now_ms);
        (c.name.as_str(), desired.is_sidecar(c), shown)
    });
    let main = desired
        .main()
        .iter()
        .map(|c| (c.name.as_str(), container_status(desired, observed, c, false, now_ms)));
    let containers = Containers { init: init.collect(), main: main.collect() };
    let none = Vec::new();
    let before = observed.reported["conditions"].as_array().unwrap_or(&none);
    let mut out = Map::new();
    let conditions = conditions(desired, observed, &containers, phase, before, now_ms);
    out.insert("conditions".into(), Value::Array(conditions));
    let main = containers.main.into_iter().map(|(_, shown)| shown.status).collect();
    out.insert("containerStatuses".into(), Value::Array(main));
    if !containers.init.is_empty() {
        let init = containers.init.into_iter().map(|(_, _, shown)| shown.status).collect();
        out.insert("initContainerStatuses".into(), Value::Array(init));
    }
    addresses(desired, observed, &mut out);
    out.insert("phase".into(), json!(phase.as_str()));
    out.insert("qosClass".into(), json!(qos_class(desired.spec())));
    reasons(observed, failed.as_ref().map(|v| (&v.reason, &v.message)), &mut out);
    if let Some(start) = observed.reported["startTime"].as_str() {
        out.insert("startTime".into(), json!(start));
    } else if let Some(start) = observed.start_time_ms {
        out.insert("startTime".into(), json!(time(start)));
    }
    Value::Object(out)
}

fn addresses(desired: &Desired, observed: &ObservedPod, out: &mut Map<String, Value>) {
    let list =
        |ips: &[String]| -> Vec<Value> { ips.iter().map(|ip| json!({ "ip": ip })).collect() };
    if let Some(first) = observed.host_ips.first() {
        out.insert("hostIP".into(), json!(first));
        out.insert("hostIPs".into(), json!(list(&observed.host_ips)));
    }
    let ips = if desired.host_network() && !observed.ips.is_empty() {
        &observed.host_ips
    } else {
        &observed.ips
    };
    if let Some(first) = ips.first() {
        out.insert("podIP".into(), json!(first));
        out.insert("podIPs".into(), json!(list(ips)));
    } else if let Some(ip) = observed.reported["podIP"].as_str() {
        out.insert("podIP".into(), json!(ip));
        out.insert("podIPs".into(), observed.reported["podIPs"].clone());
    }
}

fn reasons(
    observed: &ObservedPod,
    verdict: Option<(&String, &String)>,
    out: &mut Map<String, Value>,
) {
    if let Some((reason, message)) = verdict {
        out.insert("message".into(), json!(message));
        out.insert("reason".into(), json!(reason));
        return;
    }
    if matches!(observed.reported["phase"].as_str(), Some("Failed" | "Succeeded")) {
        for key in ["message", "reason"] {
            if let Some(text) = observed.reported[key].as_str() {
                out.insert(key.into(), json!(text));
            }
        }
    }
}

/// Waiting reasons by container, for events about what has just begun to wait.
pub fn waiting_reasons(status: &Value) -> BTreeMap<String, (String, String)> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().filter_map(|key| status[*key].as_array()).flatten();
    all.filter_map(|c| {
        let waiting = &c["state"]["waiting"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        waiting["reason"].as_str()?;
        Some((text(&c["name"]), (text(&waiting["reason"]), text(&waiting["message"]))))
    })
    .collect()
}

/// When the status changes though nothing happens.
pub(super) fn next_change(observed: &ObservedPod, now_ms: i64) -> Option<i64> {
    observed.containers.values().filter_map(|seen| changes_at(seen, now_ms)).min()
}
