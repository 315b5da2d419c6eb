//! The arithmetic of a rolling update (`pkg/controller/deployment/rolling.go`): never more pods
//! than replicas + maxSurge, never fewer available ones than replicas − maxUnavailable.

use edge_api::Object;

use super::replicasets::{Sets, bounds, replicas};
use super::wanted;
use crate::plan::Plan;
use crate::workload::number;

/// How many replicas the new set should have (`NewRSNewReplicas`), when all sets together have
/// `total` and the new one has `current`.
pub(super) fn new_replicas(deployment: &Object, total: i64, current: i64) -> i64 {
    let want = wanted(deployment);
    if deployment["spec"]["strategy"]["type"] == "Recreate" {
        return want;
    }
    let most = want + bounds(deployment).0;
    if total >= most {
        return current;
    }
    current + (most - total).min(want - current).max(0)
}

/// Scales the new set towards what is wanted.
pub(super) fn scale_new(deployment: &Object, sets: &mut Sets, plan: &mut Plan) {
    let Some(set) = &sets.new else { return };
    let (current, want) = (replicas(set), wanted(deployment));
    let count = if current > want { want } else { new_replicas(deployment, sets.total(), current) };
    if count != current {
        sets.scale_new_to(deployment, count, plan);
    }
}

/// Scales old sets down as far as enough pods stay available: unhealthy pods go first, for
/// nothing is lost with them (`reconcileOldReplicaSets`).
pub(super) fn scale_old(deployment: &Object, sets: &mut Sets, plan: &mut Plan) {
    let old_total: i64 = sets.old.iter().map(replicas).sum();
    let Some(new) = &sets.new else { return };
    if old_total == 0 {
        return;
    }
    let least = wanted(deployment) - bounds(deployment).1;
    let new_unavailable = replicas(new) - number(&new["status"]["availableReplicas"], 0);
    let mut spare = sets.total() - least - new_unavailable;
    if spare <= 0 {
        return;
    }
    for at in 0..sets.old.len() {
        let current = replicas(&sets.old[at]);
        let unhealthy = current - number(&sets.old[at]["status"]["availableReplicas"], 0);
        let drop = unhealthy.clamp(0, spare);
        if current > 0 && drop > 0 {
            sets.scale_old_to(deployment, at, current - drop, plan);
            spare -= drop;
        }
    }
    let mut available = sets.available() - least;
    for at in 0..sets.old.len() {
        let current = replicas(&sets.old[at]);
        let drop = current.min(available);
        if current > 0 && drop > 0 {
            sets.scale_old_to(deployment, at, current - drop, plan);
            available -= drop;
        }
    }
}
