//! Metadata: names, labels, annotations, owners and finalizers, and what of it may change.

use serde_json::{Value, json};

use super::{entries, immutable, list, text};
use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::{Object, names};

/// All annotations together may have this many bytes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// `metadata` of an object of a kind.
pub(super) fn object_meta(kind: &Kind, object: &Object, errors: &mut Errors) {
    let metadata = &object["metadata"];
    let at = Path::new("metadata");
    let prefix = text(&metadata["generateName"]);
    if !prefix.is_empty() {
        // What follows the prefix is alphanumeric: a dash at its end is fine.
        let bad = (kind.rules.name)(&format!("{}a", prefix.strip_suffix('-').unwrap_or(prefix)));
        errors.each(&at.child("generateName"), prefix, bad);
    }
    match text(&metadata["name"]) {
        "" => errors.required(&at.child("name"), "name or generateName is required"),
        name => errors.each(&at.child("name"), name, (kind.rules.name)(name)),
    }
    let namespace = text(&metadata["namespace"]);
    if !kind.namespaced {
        if !namespace.is_empty() {
            errors.forbidden(&at.child("namespace"), "not allowed on this type");
        }
    } else if namespace.is_empty() {
        errors.required(&at.child("namespace"), "");
    } else {
        errors.each(&at.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    maps(metadata, &at, errors);
    owners(metadata, &at.child("ownerReferences"), errors);
    finalizers(metadata, &at.child("finalizers"), errors);
}

/// Labels and annotations, of an object or of a template.
pub(super) fn maps(metadata: &Value, at: &Path<'_>, errors: &mut Errors) {
    labels(&metadata["labels"], &at.child("labels"), errors);
    let at = at.child("annotations");
    let mut size = 0;
    for (key, value) in entries(&metadata["annotations"]) {
        size += key.len() + text(value).len();
        errors.each(&at, key.as_str(), names::qualified_name(&key.to_ascii_lowercase()));
    }
    if size > ANNOTATIONS_MAX {
        errors.too_long(&at, ANNOTATIONS_MAX);
    }
}

/// A map of labels.
pub(super) fn labels(labels: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (key, value) in entries(labels) {
        errors.each(at, key.as_str(), names::qualified_name(key));
        errors.each(at, text(value), names::label_value(text(value)));
    }
}

fn owners(metadata: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut controller: Option<&Value> = None;
    for owner in list(&metadata["ownerReferences"]) {
        let version = text(&owner["apiVersion"]);
        if version.is_empty() || version.ends_with('/') {
            errors.invalid(&at.child("apiVersion"), version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                errors.invalid(&at.child(field), "", "must not be empty");
            }
        }
        if text(&owner["kind"]) == "Event" && version == "v1" {
            errors.invalid(at, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {} and {}",
                    text(&first["name"]),
                    text(&owner["name"])
                );
                errors.invalid(at, metadata["ownerReferences"].clone(), &detail);
            }
            controller = Some(owner);
        }
    }
}

fn finalizers(metadata: &Value, at: &Path<'_>, errors: &mut Errors) {
    let all = list(&metadata["finalizers"]);
    for finalizer in all {
        errors.each(at, finalizer.clone(), names::qualified_name(text(finalizer)));
    }
    let has = |name: &str| all.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(at, metadata["finalizers"].clone(), detail);
    }
}

/// What of `metadata` may not change.
pub(super) fn update(object: &Object, old: &Object, errors: &mut Errors) {
    let (new, old) = (&object["metadata"], &old["metadata"]);
    let at = Path::new("metadata");
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        immutable(errors, &at.child(field), &new[field], &old[field]);
    }
    if old["deletionTimestamp"].is_null() {
        return;
    }
    let before = list(&old["finalizers"]);
    let added: Vec<&str> = list(&new["finalizers"])
        .iter()
        .filter(|finalizer| !before.contains(finalizer))
        .map(text)
        .collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            added.iter().map(|name| json!(name).to_string()).collect::<Vec<_>>().join(", ")
        );
        errors.forbidden(&at.child("finalizers"), &detail);
    }
}
