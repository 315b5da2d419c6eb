//! Old ReplicaSets are kept for `rollout undo`, but not for ever (`cleanupDeployment`).

use edge_api::{Object, kinds, meta};

use super::replicasets::{Sets, replicas, revision};
use crate::plan::{Action, Plan};
use crate::workload::number;

/// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
pub(super) fn trim(deployment: &Object, sets: &Sets, plan: &mut Plan) {
    let limit = usize::try_from(number(&deployment["spec"]["revisionHistoryLimit"], 10));
    let mut empty: Vec<&Object> = sets.old.iter().filter(|set| !meta::is_deleting(set)).collect();
    let Some(excess) = empty.len().checked_sub(limit.unwrap_or(usize::MAX)) else { return };
    empty.sort_by_key(|set| revision(set));
    for set in empty.into_iter().take(excess) {
        let unused = replicas(set) == 0
            && number(&set["status"]["replicas"], 0) == 0
            && number(&set["status"]["observedGeneration"], 0) >= meta::generation(set);
        if unused {
            plan.push(Action::delete(kinds::REPLICA_SET, set));
        }
    }
}
