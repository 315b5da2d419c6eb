//! What of a pod may change once it exists: images, its deadline, more tolerations, fewer gates.

use serde_json::{Value, json};

use super::{container, list, pod, text};
use crate::field::{Errors, Path};

const ONLY: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Compares the new spec of a pod with the old one.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    if new == old {
        return;
    }
    let at = Path::new("spec");
    for field in ["containers", "initContainers"] {
        let (items, before) = (list(&new[field]), list(&old[field]));
        if items.len() != before.len() {
            let detail = "pod updates may not add or remove containers";
            errors.forbidden(&at.child(field), detail);
            return;
        }
        for (index, item) in items.iter().enumerate() {
            container::image(item, &at.child(field).index(index), errors);
        }
    }
    deadline(new, old, &at.child("activeDeadlineSeconds"), errors);
    tolerations(new, old, &at.child("tolerations"), errors);
    let mut allowed = new.clone();
    for field in ["containers", "initContainers"] {
        let images = list(&old[field]).iter().map(|item| item["image"].clone());
        let items = allowed.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        for (item, image) in items.zip(images) {
            item["image"] = image;
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations"] {
        keep(&mut allowed, old, field);
    }
    if gates_only_fall(new, old) {
        keep(&mut allowed, old, "schedulingGates");
    }
    let grace = "terminationGracePeriodSeconds";
    if new[grace] == json!(1) && old[grace].as_i64().is_some_and(|seconds| seconds < 0) {
        keep(&mut allowed, old, grace);
    }
    if allowed != *old {
        errors.forbidden(&at, &format!("{ONLY}; changed: {}", changed(&allowed, old).join(", ")));
    }
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => map.insert(field.to_string(), value.clone()),
        None => map.remove(field),
    };
}

/// The fields of a spec that are not the same.
fn changed(new: &Value, old: &Value) -> Vec<String> {
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let mut all = keys(new);
    all.extend(keys(old));
    all.sort();
    all.dedup();
    all.retain(|key| new[key.as_str()] != old[key.as_str()]);
    all
}

fn deadline(new: &Value, old: &Value, at: &Path<'_>, errors: &mut Errors) {
    let field = "activeDeadlineSeconds";
    match (new[field].as_i64(), old[field].as_i64()) {
        (Some(new), old) => {
            pod::deadline(new, at, errors);
            if old.is_some_and(|old| new > old) {
                errors.invalid(at, new, "must be less than or equal to previous value");
            }
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(at, Value::Null, detail);
        }
        (None, None) => {}
    }
}

fn tolerations(new: &Value, old: &Value, at: &Path<'_>, errors: &mut Errors) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        bare.as_object_mut().map(|map| map.remove("tolerationSeconds"));
        bare
    };
    let now: Vec<Value> = list(&new["tolerations"]).iter().map(bare).collect();
    if list(&old["tolerations"]).iter().any(|toleration| !now.contains(&bare(toleration))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(at, detail);
    }
}

fn gates_only_fall(new: &Value, old: &Value) -> bool {
    let before = list(&old["schedulingGates"]);
    let known = |gate: &Value| before.iter().any(|old| text(&old["name"]) == text(&gate["name"]));
    list(&new["schedulingGates"]).iter().all(known)
}
