//! A ReplicaSet keeps as many pods as it says (`pkg/controller/replicaset/replica_set.go`):
//! it adopts what fits, lets go of what does not, makes what is missing and deletes what is
//! too much, the least useful first.

mod claim;
mod rank;
mod status;

#[cfg(test)]
mod tests;

use edge_api::selector::LabelSelector;
use edge_api::{Object, kinds, meta};

use super::singleton::{is_singleton, makes_singletons};
use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};
use crate::workload::{is_active, is_finished, number, pod_from};

/// The component's name in events.
pub const SOURCE: &str = "replicaset-controller";

/// Plans for every ReplicaSet.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    for set in view.list(kinds::REPLICA_SET) {
        one(view, set, round, &mut plan);
        if plan.actions.len() >= MOST_ACTIONS {
            break;
        }
    }
    plan
}

fn one(view: &View, set: &Object, round: &Round, plan: &mut Plan) {
    // A selector that selects all would adopt the whole namespace; validation refuses it.
    let Ok(selector) = LabelSelector::from_object(&set["spec"]["selector"]) else { return };
    let claimed = claim::claim(view, set, &selector, plan);
    let active: Vec<&Object> = claimed.iter().copied().filter(|pod| is_active(pod)).collect();
    if !meta::is_deleting(set) && namespace_lives(view, set) {
        scale(view, set, &claimed, &active, round, plan);
    }
    if let Some(changed) = status::status(set, &active, round.now_ms, plan) {
        plan.push(Action::status(kinds::REPLICA_SET, changed));
    }
}

/// In a namespace on its way out nothing can be made, so nothing is tried.
fn namespace_lives(view: &View, object: &Object) -> bool {
    view.get(kinds::NAMESPACE, "", meta::namespace(object)).is_none_or(|n| !meta::is_deleting(n))
}

fn scale(
    view: &View,
    set: &Object,
    claimed: &[&Object],
    active: &[&Object],
    round: &Round,
    plan: &mut Plan,
) {
    let want = usize::try_from(number(&set["spec"]["replicas"], 1)).unwrap_or(0);
    // A singleton that is on its way out may run for as long as it is there.
    let held = if makes_singletons(set) || claimed.iter().any(|pod| is_singleton(pod)) {
        claimed.iter().filter(|pod| !is_finished(pod)).count()
    } else {
        active.len()
    };
    if held < want {
        let missing = (want - held).min(MOST_ACTIONS);
        let pod = pod_from(&set["spec"]["template"], set);
        for _ in 0..missing {
            plan.push(Action::Create { kind: kinds::POD, object: pod.clone() });
        }
    } else if active.len() > want {
        let excess = (active.len() - want).min(MOST_ACTIONS);
        for pod in rank::least_useful(view, set, active, round).into_iter().take(excess) {
            let text = format!("Deleted pod: {}", meta::name(pod));
            plan.push(Action::delete(kinds::POD, pod));
            plan.push(Action::event(SOURCE, set, "SuccessfulDelete", text));
        }
    }
}
