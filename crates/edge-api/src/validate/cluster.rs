//! Namespaces, Nodes, Events and Leases, and what of a status is checked.

use super::{NOT_NEGATIVE, entries, list, placement, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;

/// For kinds whose metadata is all there is to check.
pub(crate) fn nothing(_: &Object, _: Option<&Object>, _: &mut Errors) {}

/// `Namespace`
pub(crate) fn namespace(namespace: &Object, _: Option<&Object>, errors: &mut Errors) {
    let at = Path::new("spec");
    let at = at.child("finalizers");
    for (index, finalizer) in list(&namespace["spec"]["finalizers"]).iter().enumerate() {
        let (at, name) = (at.index(index), text(finalizer));
        errors.each(&at, name, names::qualified_name(name));
        if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&at, name, detail);
        }
    }
}

/// `Node`
pub(crate) fn node(node: &Object, old: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&node["spec"], Path::new("spec"));
    placement::taints(&spec["taints"], &at.child("taints"), errors);
    if old.is_none() {
        node_status(node, errors);
    }
    let Some(old) = old.map(|old| &old["spec"]) else { return };
    for (field, word) in [("podCIDR", "podCIDR"), ("providerID", "providerID")] {
        let before = text(&old[field]);
        if !before.is_empty() && spec[field] != old[field] {
            let detail = format!("node updates may not change {word} except from \"\" to valid");
            let at = if field == "podCIDR" { at.child("podCIDRs") } else { at.child(field) };
            errors.forbidden(&at, &detail);
        }
    }
}

/// The amounts that a node reports.
pub(crate) fn node_status(node: &Object, errors: &mut Errors) {
    let at = Path::new("status");
    for field in ["capacity", "allocatable"] {
        for (name, amount) in entries(&node["status"][field]) {
            if Quantity::read(amount).is_ok_and(|amount| amount.sign() < 0) {
                errors.invalid(&at.child(field).key(name), amount.clone(), NOT_NEGATIVE);
            }
        }
    }
}

/// A status that nobody checks further.
pub(crate) fn any_status(_: &Object, _: &mut Errors) {}

/// The counts that a workload reports: none is negative, and parts do not exceed the whole.
pub(crate) fn workload_status(object: &Object, errors: &mut Errors) {
    let (status, at) = (&object["status"], Path::new("status"));
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let fields = [
        "replicas",
        "fullyLabeledReplicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "observedGeneration",
    ];
    for field in fields {
        super::not_negative(errors, &at.child(field), &status[field]);
    }
    let above = "cannot be greater than status.replicas";
    for field in ["fullyLabeledReplicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        if count(field) > count("replicas") {
            errors.invalid(&at.child(field), count(field), above);
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.invalid(&at.child("availableReplicas"), count("availableReplicas"), detail);
    }
}

/// `Event`
pub(crate) fn event(event: &Object, _: Option<&Object>, errors: &mut Errors) {
    let about = text(&event["involvedObject"]["namespace"]);
    let namespace = text(&event["metadata"]["namespace"]);
    // What happens to cluster-scoped objects is kept in the default namespace.
    let fits = about == namespace || (about.is_empty() && namespace == "default");
    if !fits {
        let at = Path::new("involvedObject");
        errors.invalid(&at.child("namespace"), about, "does not match event.namespace");
    }
}

/// `Lease`
pub(crate) fn lease(lease: &Object, _: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&lease["spec"], Path::new("spec"));
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
        errors.invalid(&at.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    super::not_negative(errors, &at.child("leaseTransitions"), &spec["leaseTransitions"]);
    if spec["holderIdentity"] == "" {
        errors.invalid(&at.child("holderIdentity"), "", "must not be empty");
    }
}
