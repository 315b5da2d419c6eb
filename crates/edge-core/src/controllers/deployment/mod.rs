//! A Deployment moves its pods from one template to the next (`pkg/controller/deployment`): a
//! ReplicaSet for each template, scaled up and down within what `strategy` allows.

mod history;
mod proportional;
mod replicasets;
mod rolling;
mod status;

#[cfg(test)]
mod tests;

use edge_api::{Object, kinds, meta};

use super::singleton::makes_singletons;
use crate::plan::{Action, Plan};
use crate::view::{Round, View};
use crate::workload::{is_finished, number};
use replicasets::Sets;

/// The component's name in events.
pub const SOURCE: &str = "deployment-controller";

/// The annotation with a rollout's number.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// The annotation in which a ReplicaSet remembers how many replicas its Deployment wanted.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

/// The annotation in which it remembers how many there may be with the surge.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// The label that tells the pods of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Plans for every Deployment.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    for deployment in view.list(kinds::DEPLOYMENT) {
        one(view, deployment, round, &mut plan);
    }
    plan
}

/// How many replicas, as a Deployment's spec has it.
fn wanted(deployment: &Object) -> i64 {
    number(&deployment["spec"]["replicas"], 1)
}

fn one(view: &View, known: &Object, round: &Round, plan: &mut Plan) {
    let Some(mut sets) = Sets::find(view, known, plan) else { return };
    let mut deployment = known.clone();
    if meta::is_deleting(&deployment) {
        status::report(known, &deployment, &sets, round, plan);
        return;
    }
    let paused = deployment["spec"]["paused"] == true;
    status::note_pause(&mut deployment, paused, round);
    if paused || proportional::is_scaling(&deployment, &sets) {
        if !paused {
            sets.adjust_revisions(&mut deployment, plan);
        }
        proportional::scale(&deployment, &mut sets, plan);
        if paused {
            history::trim(&deployment, &sets, plan);
        }
    } else if deployment["spec"]["strategy"]["type"] == "Recreate" || singleton(view, known, &sets)
    {
        recreate(view, &mut deployment, &mut sets, round, plan);
    } else {
        rolling_update(&mut deployment, &mut sets, round, plan);
    }
    status::report(known, &deployment, &sets, round, plan);
}

fn rolling_update(deployment: &mut Object, sets: &mut Sets, round: &Round, plan: &mut Plan) {
    if !sets.ensure_new(deployment, round, plan) {
        return;
    }
    rolling::scale_new(deployment, sets, plan);
    rolling::scale_old(deployment, sets, plan);
    if status::is_complete(deployment, sets) {
        history::trim(deployment, sets, plan);
    }
}

fn recreate(view: &View, deployment: &mut Object, sets: &mut Sets, round: &Round, plan: &mut Plan) {
    sets.adjust_revisions(deployment, plan);
    let mut scaled = false;
    for at in 0..sets.old.len() {
        if number(&sets.old[at]["spec"]["replicas"], 0) > 0 {
            sets.scale_old_to(deployment, at, 0, plan);
            scaled = true;
        }
    }
    if scaled || old_pods_run(view, sets) || !sets.ensure_new(deployment, round, plan) {
        return;
    }
    sets.scale_new_to(deployment, wanted(deployment), plan);
    if status::is_complete(deployment, sets) {
        history::trim(deployment, sets, plan);
    }
}

/// Whether there may be only one: then the old one ends before the new one is made, whatever the
/// strategy says.
fn singleton(view: &View, deployment: &Object, sets: &Sets) -> bool {
    makes_singletons(deployment)
        || sets.old.iter().any(makes_singletons) && old_pods_run(view, sets)
}

/// Whether any pod of an earlier template may still run: also one that is on its way out.
fn old_pods_run(view: &View, sets: &Sets) -> bool {
    sets.old.iter().any(|set| {
        let pods = view.owned(kinds::POD, meta::namespace(set), meta::uid(set));
        pods.iter().any(|pod| !is_finished(pod))
    })
}

/// An event about the Deployment.
fn say(deployment: &Object, reason: &'static str, message: String) -> Action {
    Action::event(SOURCE, deployment, reason, message)
}
