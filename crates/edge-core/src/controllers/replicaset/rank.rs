//! Which pods to delete first (`ActivePodsWithRanks` in `pkg/controller/controller_utils.go`):
//! the ones whose loss costs least.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use edge_api::{Object, kinds, meta};

use crate::view::{Round, View};
use crate::workload::{is_active, is_ready, ready_since, restarts};

/// The annotation by which people say what a pod's deletion costs.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Pods of `set`, the least useful first.
pub(super) fn least_useful<'a>(
    view: &View,
    set: &Object,
    pods: &[&'a Object],
    round: &Round,
) -> Vec<&'a Object> {
    let crowd = crowd(view, set);
    let mut pods = pods.to_vec();
    pods.sort_by_cached_key(|pod| {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let phase = match pod["status"]["phase"].as_str() {
            Some("Running") => 2,
            Some("Unknown") => 1,
            _ => 0,
        };
        let cost = meta::annotation(pod, COST).and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
        (
            !node.is_empty(),
            phase,
            is_ready(pod),
            cost,
            Reverse(crowd.get(node).copied().unwrap_or(0)),
            // Times are compared by their logarithm, so that pods of about one age are equal
            // and the choice among them is spread.
            age_class(ready_since(pod), round.now_ms),
            Reverse(restarts(pod)),
            age_class(meta::created_ms(pod), round.now_ms),
            meta::uid(pod).to_owned(),
        )
    });
    pods
}

/// Small for a young pod: young ones go first. Zero for one with no time at all.
fn age_class(since_ms: Option<i64>, now_ms: i64) -> u32 {
    since_ms.map_or(0, |since| (now_ms - since).max(1).unsigned_abs().ilog2() + 1)
}

/// node → how many active pods of the same owner's family run there: thin out the crowd.
fn crowd(view: &View, set: &Object) -> BTreeMap<String, usize> {
    let family = meta::controller(set).map(|owner| owner.uid.to_owned());
    let mut counts = BTreeMap::new();
    let namespace = meta::namespace(set);
    for sibling in view.within(kinds::REPLICA_SET, namespace) {
        let related = meta::uid(sibling) == meta::uid(set)
            || (family.is_some()
                && meta::controller(sibling).map(|owner| owner.uid.to_owned()) == family);
        if !related {
            continue;
        }
        for pod in view.owned(kinds::POD, namespace, meta::uid(sibling)) {
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|_| is_active(pod)) {
                *counts.entry(node.to_owned()).or_default() += 1;
            }
        }
    }
    counts
}
