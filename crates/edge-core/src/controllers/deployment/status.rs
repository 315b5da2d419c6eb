//! What a Deployment reports: counts, and the Available and Progressing conditions
//! (`sync.go`, `progress.go`).

use edge_api::{Object, kinds, meta, time};
use serde_json::{Value, json};

use super::replicasets::{Sets, bounds};
use super::wanted;
use crate::plan::{Action, Plan};
use crate::view::Round;
use crate::workload::{Condition, condition, number, set_condition};

/// `progressDeadlineSeconds` that means "no deadline".
const NO_DEADLINE: i64 = i32::MAX as i64;

fn sum(sets: &Sets, field: &str) -> i64 {
    sets.all().map(|set| number(&set["status"][field], 0)).sum()
}

fn of_new(sets: &Sets, field: &str) -> i64 {
    sets.new.as_ref().map_or(0, |set| number(&set["status"][field], 0))
}

/// All replicas are of today's template and available, and no others are left
/// (`DeploymentComplete`).
pub(super) fn is_complete(deployment: &Object, sets: &Sets) -> bool {
    let want = wanted(deployment);
    of_new(sets, "replicas") == want
        && sum(sets, "replicas") == want
        && sum(sets, "availableReplicas") == want
        && number(&deployment["status"]["observedGeneration"], 0) >= meta::generation(deployment)
}

/// Says in the Progressing condition that a rollout was paused or goes on.
pub(super) fn note_pause(deployment: &mut Object, paused: bool, round: &Round) {
    if deployment["spec"].get("progressDeadlineSeconds").is_none_or(Value::is_null) {
        return;
    }
    let known = condition(deployment, "Progressing").map(|c| c["reason"].clone());
    let (reason, message) = match (&known, paused) {
        (Some(reason), _) if reason == "ProgressDeadlineExceeded" => return,
        (Some(reason), true) if reason != "DeploymentPaused" => {
            ("DeploymentPaused", "Deployment is paused")
        }
        (Some(reason), false) if reason == "DeploymentPaused" => {
            ("DeploymentResumed", "Deployment is resumed")
        }
        _ => return,
    };
    let condition = Condition { kind: "Progressing", status: "Unknown", reason, message };
    set_condition(&mut deployment["status"], condition, round.now_ms, true);
}

/// Plans the status if it is not what the API has (`known`). `deployment` may carry conditions
/// set earlier in the round.
pub(super) fn report(
    known: &Object,
    deployment: &Object,
    sets: &Sets,
    round: &Round,
    plan: &mut Plan,
) {
    let old = &deployment["status"];
    let mut new = json!({"observedGeneration": meta::generation(deployment)});
    let available = sum(sets, "availableReplicas");
    for (field, count) in [
        ("replicas", sum(sets, "replicas")),
        ("updatedReplicas", of_new(sets, "replicas")),
        ("readyReplicas", sum(sets, "readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (sets.total() - available).max(0)),
    ] {
        // Zero is left out on the wire, as Kubernetes' omitempty does.
        if count > 0 {
            new[field] = json!(count);
        }
    }
    for field in ["conditions", "collisionCount"] {
        if let Some(value) = old.get(field) {
            new[field] = value.clone();
        }
    }
    available_condition(deployment, available, &mut new, round);
    progressing_condition(deployment, sets, &mut new, round, plan);
    if known["status"] == new && meta::annotations(known) == meta::annotations(deployment) {
        return;
    }
    let mut changed = deployment.clone();
    changed["status"] = new;
    plan.push(Action::status(kinds::DEPLOYMENT, changed));
}

fn available_condition(deployment: &Object, available: i64, new: &mut Value, round: &Round) {
    let enough = available >= wanted(deployment) - bounds(deployment).1;
    let (status, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let condition = Condition { kind: "Available", status, reason, message };
    set_condition(new, condition, round.now_ms, true);
}

fn progressing_condition(
    deployment: &Object,
    sets: &Sets,
    new: &mut Value,
    round: &Round,
    plan: &mut Plan,
) {
    let deadline = number(&deployment["spec"]["progressDeadlineSeconds"], NO_DEADLINE);
    if deadline == NO_DEADLINE || deployment["spec"]["paused"] == true {
        return;
    }
    let known = condition(deployment, "Progressing").cloned();
    let reason_was = |reason: &str| known.as_ref().is_some_and(|c| c["reason"] == reason);
    let name = sets.new.as_ref().map(|set| meta::name(set).to_owned());
    let words = |text: &str| match &name {
        Some(name) => format!("ReplicaSet \"{name}\" {text}"),
        None => format!("Deployment \"{}\" {text}", meta::name(deployment)),
    };
    let now = round.now_ms;
    if is_complete_now(deployment, sets, new) {
        let message = words("has successfully progressed.");
        put(new, "True", "NewReplicaSetAvailable", &message, now);
    } else if has_progressed(&deployment["status"], new) && !reason_was("NewReplicaSetAvailable") {
        let message = words("is progressing.");
        progress(new, known.as_ref(), &message, now);
    } else if known.is_none() || reason_was("NewReplicaSetAvailable") && started(deployment, sets) {
        let message = words("is progressing.");
        put(new, "True", "ReplicaSetUpdated", &message, now);
    } else if !reason_was("NewReplicaSetAvailable") && !reason_was("ProgressDeadlineExceeded") {
        let since = known.as_ref().and_then(|c| time::parse(c["lastUpdateTime"].as_str()?));
        let due = since.unwrap_or(now) + deadline * 1000;
        if due <= now {
            let message = words("has timed out progressing.");
            put(new, "False", "ProgressDeadlineExceeded", &message, now);
        } else {
            plan.wake(due);
        }
    }
}

/// A finished rollout begins again when today's template has another set than then.
fn started(deployment: &Object, sets: &Sets) -> bool {
    let known = condition(deployment, "Progressing");
    let told = known.and_then(|c| c["message"].as_str()).unwrap_or_default();
    sets.new.as_ref().is_some_and(|set| !told.contains(&format!("\"{}\"", meta::name(set))))
}

fn is_complete_now(deployment: &Object, sets: &Sets, new: &Value) -> bool {
    let mut now = deployment.clone();
    now["status"] = new.clone();
    is_complete(&now, sets)
}

/// More updated, ready or available pods, or fewer old ones, than last time.
fn has_progressed(old: &Value, new: &Value) -> bool {
    let more = |field: &str| number(&new[field], 0) > number(&old[field], 0);
    let others = |s: &Value| number(&s["replicas"], 0) - number(&s["updatedReplicas"], 0);
    more("updatedReplicas")
        || more("readyReplicas")
        || more("availableReplicas")
        || others(new) < others(old)
}

fn put(status: &mut Value, value: &str, reason: &str, message: &str, now_ms: i64) {
    let kind = "Progressing";
    set_condition(status, Condition { kind, status: value, reason, message }, now_ms, true);
}

/// Moves the time of last progress on, which is what the deadline is counted from.
fn progress(status: &mut Value, known: Option<&Value>, message: &str, now_ms: i64) {
    put(status, "True", "ReplicaSetUpdated", message, now_ms);
    let was_true = known.is_some_and(|c| c["status"] == "True");
    let list = status["conditions"].as_array_mut().into_iter().flatten();
    for condition in list.filter(|c| c["type"] == "Progressing") {
        condition["lastUpdateTime"] = json!(time::format(now_ms));
        condition["message"] = json!(message);
        if let (true, Some(known)) = (was_true, known) {
            condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
        }
    }
}
