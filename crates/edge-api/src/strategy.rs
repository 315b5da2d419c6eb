//! What happens to an object between a client and the store: who may write which part. Metadata
//! that the system owns is stamped or kept, status and spec are kept apart, and the generation
//! counts changes of the spec. Ids, times and chance come from the caller.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::status::Status;
use crate::{Object, meta, names};

/// What the system gives a new object.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// a fresh uid
    pub uid: String,
    /// now, as `time::format` writes it
    pub now: String,
    /// 64 random bits, for generated names
    pub random: u64,
}

/// Metadata that only the system writes.
const OWNED: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "selfLink",
];

/// Prepares an object that a client sent to be created.
pub(crate) fn create(kind: &Kind, object: &mut Object, stamp: &Stamp) -> Result<(), Status> {
    if !matches!(meta::resource_version(object), "" | "0") {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(message));
    }
    for field in OWNED.into_iter().chain(["resourceVersion"]) {
        meta::remove(object, field);
    }
    if meta::name(object).is_empty() && !meta::generate_name(object).is_empty() {
        let suffix = names::suffix(stamp.random);
        let name = names::generated(meta::generate_name(object), &suffix);
        meta::set(object, "name", name);
    }
    if !kind.namespaced {
        meta::remove(object, "namespace");
    }
    meta::set(object, "uid", stamp.uid.as_str());
    meta::set(object, "creationTimestamp", stamp.now.as_str());
    if kind.counts_generation {
        meta::set(object, "generation", 1);
    }
    (kind.rules.create)(object);
    Ok(())
}

/// Prepares an object that is to replace another.
pub(crate) fn update(kind: &Kind, new: &mut Object, old: &Object) {
    keep_metadata(new, old);
    if kind.has_status() {
        copy(new, old, "status");
    }
    (kind.rules.update)(new, old);
    if kind.counts_generation {
        let changed = (kind.rules.changed)(new, old);
        meta::set(new, "generation", meta::generation(old) + i64::from(changed));
    }
}

/// Prepares an object of which only the status is to be replaced.
pub(crate) fn status_update(kind: &Kind, new: &mut Object, old: &Object) {
    keep_metadata(new, old);
    let status = new.get_mut("status").map(Value::take);
    let metadata = new.get_mut("metadata").map(Value::take);
    let mut kept = old.clone();
    if let Some(metadata) = metadata {
        kept["metadata"] = metadata;
    }
    match status {
        Some(status) => kept["status"] = status,
        None => {
            kept.as_object_mut().map(|map| map.remove("status"));
        }
    }
    // A status writer touches annotations and finalizers at most.
    for field in kind.rules.status_keeps {
        match old["metadata"].get(field) {
            Some(value) => meta::set(&mut kept, field, value.clone()),
            None => {
                meta::remove(&mut kept, field);
            }
        }
    }
    *new = kept;
}

/// Carries over the metadata that a client cannot change, and fills in what it may leave out.
fn keep_metadata(new: &mut Object, old: &Object) {
    for field in OWNED {
        match old["metadata"].get(field) {
            Some(value) => meta::set(new, field, value.clone()),
            None => {
                meta::remove(new, field);
            }
        }
    }
    for field in ["name", "namespace", "uid", "generateName"] {
        let missing = new["metadata"][field].as_str().unwrap_or_default().is_empty();
        if let (true, Some(value)) = (missing, old["metadata"].get(field)) {
            meta::set(new, field, value.clone());
        }
    }
    // The revision is the store's to say; a precondition was looked at before.
    match old["metadata"].get("resourceVersion") {
        Some(value) => meta::set(new, "resourceVersion", value.clone()),
        None => {
            meta::remove(new, "resourceVersion");
        }
    }
}

fn copy(new: &mut Object, old: &Object, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => {
            new.as_object_mut().map(|map| map.remove(field));
        }
    }
}

/// For kinds that need nothing more when they are made.
pub(crate) fn keep(_: &mut Object) {}

/// For kinds that need nothing more when they change.
pub(crate) fn keep_both(_: &mut Object, _: &Object) {}

/// The spec changed.
pub(crate) fn spec_changed(new: &Object, old: &Object) -> bool {
    new["spec"] != old["spec"]
}

/// The spec or the annotations changed: rollouts are marked by annotation.
pub(crate) fn deployment_changed(new: &Object, old: &Object) -> bool {
    spec_changed(new, old) || new["metadata"]["annotations"] != old["metadata"]["annotations"]
}

/// Anything but metadata changed, or the labels did.
pub(crate) fn slice_changed(new: &Object, old: &Object) -> bool {
    let rest = |object: &Object| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        map.remove("metadata");
        map
    };
    rest(new) != rest(old) || new["metadata"]["labels"] != old["metadata"]["labels"]
}

/// A new workload has no status.
pub(crate) fn clear_status(object: &mut Object) {
    object["status"] = Value::Object(Map::new());
}

/// A new pod waits, and has its quality of service.
pub(crate) fn create_pod(pod: &mut Object) {
    pod["status"] = json!({"phase": "Pending", "qosClass": crate::pod::qos_class(pod)});
}

/// A new Service has no load balancer.
pub(crate) fn create_service(service: &mut Object) {
    service["status"] = json!({"loadBalancer": {}});
}

/// A new namespace is active, and holds on until its content is gone.
pub(crate) fn create_namespace(namespace: &mut Object) {
    namespace["status"] = json!({"phase": "Active"});
    meta::ensure(namespace, "spec").insert("finalizers".to_string(), json!(["kubernetes"]));
}

/// A namespace's own finalizers change only through `/finalize`.
pub(crate) fn update_namespace(new: &mut Object, old: &Object) {
    copy(new, old, "spec");
}

#[cfg(test)]
mod tests;
