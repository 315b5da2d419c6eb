//! The pod's conditions, with the kubelet's reasons and messages, and transition times that
//! move only when a status does.

use serde_json::{Map, Value, json};

use super::container_status::Shown;
use super::desired::Desired;
use super::observed::{ObservedPod, Task};
use super::phase::Phase;
use super::status::time;

/// Containers as shown: name and what the conditions need.
pub(super) struct Containers<'a> {
    pub(super) init: Vec<(&'a str, bool, Shown)>,
    pub(super) main: Vec<(&'a str, Shown)>,
}

struct Verdict {
    ok: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

fn yes() -> Verdict {
    Verdict { ok: true, reason: None, message: None }
}

fn no(reason: &'static str, message: Option<String>) -> Verdict {
    Verdict { ok: false, reason: Some(reason), message }
}

fn listed(prefix: &str, names: &[&str]) -> Option<String> {
    Some(format!("{prefix}: [{}]", names.join(" ")))
}

fn initialized(containers: &Containers<'_>, phase: Phase) -> Verdict {
    if phase == Phase::Succeeded {
        return Verdict { ok: true, reason: Some("PodCompleted"), message: None };
    }
    if containers.main.iter().any(|(_, shown)| shown.started) {
        return yes();
    }
    let incomplete: Vec<&str> = containers
        .init
        .iter()
        .filter(|(_, sidecar, shown)| if *sidecar { !shown.started } else { !shown.ready })
        .map(|(name, ..)| *name)
        .collect();
    if incomplete.is_empty() {
        return yes();
    }
    no("ContainersNotInitialized", listed("containers with incomplete status", &incomplete))
}

fn containers_ready(containers: &Containers<'_>, phase: Phase) -> Verdict {
    match phase {
        Phase::Succeeded => return no("PodCompleted", None),
        Phase::Failed => return no("PodFailed", None),
        Phase::Pending | Phase::Running => {}
    }
    let sidecars = containers.init.iter().filter(|(_, sidecar, _)| *sidecar);
    let unready: Vec<&str> = sidecars
        .map(|(name, _, shown)| (*name, shown))
        .chain(containers.main.iter().map(|(name, shown)| (*name, shown)))
        .filter(|(_, shown)| !shown.ready)
        .map(|(name, _)| name)
        .collect();
    if unready.is_empty() {
        return yes();
    }
    no("ContainersNotReady", listed("containers with unready status", &unready))
}

fn pod_ready(desired: &Desired, all_ready: &Verdict, before: &[Value]) -> Verdict {
    if !all_ready.ok {
        let reason = all_ready.reason.unwrap_or("ContainersNotReady");
        return no(reason, all_ready.message.clone());
    }
    let gates = desired.spec().readiness_gates.as_deref().unwrap_or_default();
    let failed: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            let found = before.iter().find(|c| c["type"] == kind.as_str());
            match found.map(|c| c["status"].as_str().unwrap_or_default()) {
                Some("True") => None,
                Some(other) => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {other}"
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
            }
        })
        .collect();
    if failed.is_empty() { yes() } else { no("ReadinessGatesNotReady", Some(failed.join(", "))) }
}

/// All conditions: ours, then those that others have set.
pub(super) fn conditions(
    desired: &Desired,
    observed: &ObservedPod,
    containers: &Containers<'_>,
    phase: Phase,
    before: &[Value],
    now_ms: i64,
) -> Vec<Value> {
    let sandbox = observed.sandbox.task == Task::Done && !observed.sandbox.removing;
    let sandbox = Verdict { ok: sandbox, reason: None, message: None };
    let all_ready = containers_ready(containers, phase);
    let ready = pod_ready(desired, &all_ready, before);
    let ours = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(containers, phase)),
        ("Ready", ready),
        ("ContainersReady", all_ready),
        ("PodScheduled", yes()),
    ];
    let mut out: Vec<Value> =
        ours.iter().map(|(kind, verdict)| condition(kind, verdict, before, now_ms)).collect();
    let foreign = |c: &&Value| ours.iter().all(|(kind, _)| c["type"] != *kind);
    out.extend(before.iter().filter(foreign).cloned());
    out
}

fn condition(kind: &str, verdict: &Verdict, before: &[Value], now_ms: i64) -> Value {
    let status = if verdict.ok { "True" } else { "False" };
    let old = before.iter().find(|c| c["type"] == kind && c["status"] == status);
    let since = old.and_then(|c| c["lastTransitionTime"].as_str()).map(str::to_owned);
    let mut out = Map::new();
    out.insert("lastTransitionTime".into(), json!(since.unwrap_or_else(|| time(now_ms))));
    if let Some(message) = &verdict.message {
        out.insert("message".into(), json!(message));
    }
    if let Some(reason) = verdict.reason {
        out.insert("reason".into(), json!(reason));
    }
    out.insert("status".into(), json!(status));
    out.insert("type".into(), json!(kind));
    Value::Object(out)
}
