//! A pod's row: how many of its containers are ready, the one word that says how it is, and its
//! restarts. Follows the printer of the Kubernetes API server.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Table, age, count, human_duration, list, name, or, text, wide};
use crate::{Object, meta, pod, time};

const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many containers are ready, of how many."),
    text("Status", "How the pod is, as one word."),
    text("Restarts", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "The pod's address."),
    wide("Node", "The node it is on."),
    wide("Nominated Node", "The node where room is being made for it."),
    wide("Readiness Gates", "How many of its own conditions hold, of how many."),
];

/// The table of pods.
pub(crate) const POD: Table = Table { columns: COLUMNS, cells };

/// What the row says about the containers.
struct Summary {
    status: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart_ms: Option<i64>,
}

/// The word under STATUS: `Running`, `Init:0/1`, `CrashLoopBackOff`, `Completed`, `Terminating`.
pub fn status_word(pod: &Object) -> String {
    summary(pod).status
}

fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match summary.last_restart_ms {
        Some(ms) if summary.restarts != 0 => {
            let ago = human_duration(now.as_millisecond().saturating_sub(ms));
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let ip =
        if status["podIPs"].is_array() { &status["podIPs"][0]["ip"] } else { &status["podIP"] };
    vec![
        name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.status),
        json!(restarts),
        age(pod, now),
        json!(or(ip, "<none>")),
        json!(or(&spec["nodeName"], "<none>")),
        json!(or(&status["nominatedNodeName"], "<none>")),
        json!(gates(pod)),
    ]
}

fn gates(pod: &Object) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_string();
    }
    let holds = |gate: &&Value| {
        gate["conditionType"].as_str().is_some_and(|kind| pod::has_condition(pod, kind))
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn summary(pod: &Object) -> Summary {
    let status = &pod["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let gated = pod::condition(pod, "PodScheduled")
        .is_some_and(|condition| condition["reason"] == "SchedulingGated");
    let word = if gated { "SchedulingGated" } else { or(&status["reason"], phase) };
    let sidecars = pod::containers(pod, "initContainers").iter().filter(|c| pod::is_sidecar(c));
    let mut summary = Summary {
        status: word.to_string(),
        ready: 0,
        total: pod::containers(pod, "containers").len() + sidecars.count(),
        restarts: 0,
        last_restart_ms: None,
    };
    let initializing = init_containers(pod, &mut summary);
    if !initializing || pod::has_condition(pod, "Initialized") {
        main_containers(pod, &mut summary);
    }
    if meta::is_deleting(pod) {
        if status["reason"] == "NodeLost" {
            summary.status = "Unknown".to_string();
        } else if !pod::is_finished(pod) {
            summary.status = "Terminating".to_string();
        }
    }
    summary
}

fn count_restarts(summary: &mut Summary, container: &Value) {
    summary.restarts += count(&container["restartCount"]);
    let finished =
        container["lastState"]["terminated"]["finishedAt"].as_str().and_then(time::parse);
    summary.last_restart_ms = summary.last_restart_ms.max(finished);
}

/// `Signal:9` or `ExitCode:1`, for a container that ended without a reason.
fn ended(terminated: &Value) -> String {
    match count(&terminated["signal"]) {
        0 => format!("ExitCode:{}", count(&terminated["exitCode"])),
        signal => format!("Signal:{signal}"),
    }
}

/// Goes through the init containers; true while they are not done. What is left in `summary` are
/// the restarts that count once they are.
fn init_containers(pod: &Object, summary: &mut Summary) -> bool {
    let specs = pod::containers(pod, "initContainers");
    let sidecar =
        |name: &Value| specs.iter().any(|spec| spec["name"] == *name && pod::is_sidecar(spec));
    let mut sidecars = Summary { status: String::new(), ..*summary };
    let mut initializing = false;
    for (index, container) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        let state = &container["state"];
        let is_sidecar = sidecar(&container["name"]);
        count_restarts(summary, container);
        if is_sidecar {
            count_restarts(&mut sidecars, container);
        }
        let terminated = state["terminated"].is_object();
        if terminated && count(&state["terminated"]["exitCode"]) == 0 {
            continue;
        }
        if is_sidecar && container["started"] == true {
            summary.ready += usize::from(container["ready"] == true);
            continue;
        }
        let waiting = or(&state["waiting"]["reason"], "");
        summary.status = if terminated {
            let reason = or(&state["terminated"]["reason"], "");
            let ended = ended(&state["terminated"]);
            format!("Init:{}", if reason.is_empty() { &ended } else { reason })
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        initializing = true;
        break;
    }
    if !initializing || pod::has_condition(pod, "Initialized") {
        summary.restarts = sidecars.restarts;
        summary.last_restart_ms = sidecars.last_restart_ms;
    }
    initializing
}

fn main_containers(pod: &Object, summary: &mut Summary) {
    let mut running = false;
    for container in list(&pod["status"]["containerStatuses"]).iter().rev() {
        let state = &container["state"];
        count_restarts(summary, container);
        let waiting = or(&state["waiting"]["reason"], "");
        if !waiting.is_empty() {
            summary.status = waiting.to_string();
        } else if state["terminated"].is_object() {
            let reason = or(&state["terminated"]["reason"], "");
            summary.status = match reason {
                "" => ended(&state["terminated"]),
                reason => reason.to_string(),
            };
        } else if container["ready"] == true && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" && running {
        let word = if pod::is_ready(pod) { "Running" } else { "NotReady" };
        summary.status = word.to_string();
    }
}
