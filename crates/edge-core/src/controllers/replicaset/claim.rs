//! Whose pod is it? (`pkg/controller/controller_ref_manager.go`): an orphan that fits is
//! adopted, a pod of ours that fits no more is released.

use edge_api::selector::LabelSelector;
use edge_api::{Object, kinds, meta};
use serde_json::json;

use crate::plan::{Action, Plan};
use crate::view::View;
use crate::workload::is_finished;

/// The pods that are `set`'s now. Adoptions and releases go into the plan; an adopted pod
/// counts at once, so that no replacement is made for it.
pub(super) fn claim<'a>(
    view: &'a View,
    set: &Object,
    selector: &LabelSelector,
    plan: &mut Plan,
) -> Vec<&'a Object> {
    let mut ours = Vec::new();
    for pod in view.within(kinds::POD, meta::namespace(set)) {
        let pod = pod.as_ref();
        let fits = selector.matches(pod);
        match meta::controller(pod) {
            Some(owner) if owner.uid != meta::uid(set) => {}
            Some(_) if fits => ours.push(pod),
            Some(_) if !meta::is_deleting(set) => {
                plan.push(Action::update(kinds::POD, released(pod, meta::uid(set))));
            }
            Some(_) => {}
            None if fits && adoptable(pod) && !meta::is_deleting(set) => {
                plan.push(Action::update(kinds::POD, adopted(pod, set)));
                ours.push(pod);
            }
            None => {}
        }
    }
    ours
}

fn adoptable(pod: &Object) -> bool {
    !meta::is_deleting(pod) && !is_finished(pod)
}

fn adopted(pod: &Object, set: &Object) -> Object {
    let mut pod = pod.clone();
    let mut owners = pod["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.push(meta::controller_reference(set));
    meta::set(&mut pod, "ownerReferences", json!(owners));
    pod
}

fn released(pod: &Object, uid: &str) -> Object {
    let mut pod = pod.clone();
    let mut owners = pod["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.retain(|owner| owner["uid"] != uid);
    if owners.is_empty() {
        meta::remove(&mut pod, "ownerReferences");
    } else {
        meta::set(&mut pod, "ownerReferences", json!(owners));
    }
    pod
}
