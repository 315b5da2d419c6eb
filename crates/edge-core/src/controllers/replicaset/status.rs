//! What a ReplicaSet reports of its pods (`replica_set_utils.go`).

use edge_api::{Object, meta};
use serde_json::{Value, json};

use crate::plan::Plan;
use crate::workload::{Availability, availability, is_ready, number};

/// The set with its new status, or nothing when the status is right already.
pub(super) fn status(
    set: &Object,
    active: &[&Object],
    now_ms: i64,
    plan: &mut Plan,
) -> Option<Object> {
    let template = set["spec"]["template"]["metadata"]["labels"].as_object();
    let min_ready = number(&set["spec"]["minReadySeconds"], 0);
    let labelled = |pod: &Object| {
        template.is_none_or(|labels| {
            labels.iter().all(|(key, value)| pod["metadata"]["labels"].get(key) == Some(value))
        })
    };
    let mut available = 0;
    for pod in active {
        match availability(pod, min_ready, now_ms) {
            Availability::Yes => available += 1,
            Availability::At(due) => plan.wake(due),
            Availability::No => {}
        }
    }
    let mut new = json!({
        "replicas": active.len(),
        "observedGeneration": meta::generation(set),
    });
    for (field, count) in [
        ("fullyLabeledReplicas", active.iter().filter(|pod| labelled(pod)).count()),
        ("readyReplicas", active.iter().filter(|pod| is_ready(pod)).count()),
        ("availableReplicas", available),
    ] {
        // Zero is left out on the wire, as Kubernetes' omitempty does.
        if count > 0 {
            new[field] = json!(count);
        }
    }
    if let Some(conditions) = set["status"].get("conditions") {
        new["conditions"] = conditions.clone();
    }
    let same = set["status"] == new || (set["status"] == Value::Null && active.is_empty());
    if same && set["status"] != Value::Null {
        return None;
    }
    let mut changed = set.clone();
    changed["status"] = new;
    Some(changed)
}
