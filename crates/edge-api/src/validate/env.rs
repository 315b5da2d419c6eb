//! Environment variables of a container, and where they come from.

use serde_json::Value;

use super::{list, needs, text};
use crate::field::{Errors, Path};
use crate::names;

/// Fields of a pod that a variable may hold.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may hold.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const ONE_ONLY: &str = "may not have more than one field specified at a time";

/// `env`
pub(super) fn variables(env: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, variable) in list(env).iter().enumerate() {
        let at = at.index(index);
        let name = text(&variable["name"]);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.each(&at.child("name"), name, names::env_var_name(name));
        }
        if !variable["valueFrom"].is_null() {
            value_from(variable, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, at: &Path<'_>, errors: &mut Errors) {
    let source = &variable["valueFrom"];
    let mut count = 0;
    for field in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"] {
        let reference = &source[field];
        if reference.is_null() {
            continue;
        }
        count += 1;
        let at = at.child(field);
        match field {
            "fieldRef" => field_ref(reference, &FIELDS, &at, errors),
            "resourceFieldRef" => resource_ref(reference, &at, errors),
            _ => {
                needs(errors, &at.child("name"), &reference["name"]);
                let key = text(&reference["key"]);
                if key.is_empty() {
                    errors.required(&at.child("key"), "");
                } else {
                    errors.each(&at.child("key"), key, names::config_map_key(key));
                }
            }
        }
    }
    if count == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or \
                      `secretKeyRef`";
        errors.invalid(at, "", detail);
    } else if !text(&variable["value"]).is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(at, "", ONE_ONLY);
    }
}

/// A reference to a field of the pod, for a file.
pub(super) fn file_field(reference: &Value, at: &Path<'_>, errors: &mut Errors) {
    field_ref(reference, &FILE_FIELDS, at, errors);
}

fn field_ref(reference: &Value, allowed: &[&str], at: &Path<'_>, errors: &mut Errors) {
    needs(errors, &at.child("apiVersion"), &reference["apiVersion"]);
    if !needs(errors, &at.child("fieldPath"), &reference["fieldPath"]) {
        return;
    }
    let path = text(&reference["fieldPath"]);
    let at = at.child("fieldPath");
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        match map {
            "metadata.annotations" => {
                errors.each(&at, path, names::qualified_name(&key.to_ascii_lowercase()));
            }
            "metadata.labels" => errors.each(&at, path, names::qualified_name(key)),
            _ => errors.invalid(&at, path, "does not support subscript"),
        }
    } else if !allowed.contains(&path) {
        errors.not_supported(&at, path, allowed);
    }
}

/// A reference to a request or limit of a container.
pub(super) fn resource_ref(reference: &Value, at: &Path<'_>, errors: &mut Errors) {
    if needs(errors, &at.child("resource"), &reference["resource"]) {
        let resource = text(&reference["resource"]);
        let huge = ["limits.hugepages-", "requests.hugepages-"];
        let known =
            RESOURCES.contains(&resource) || huge.iter().any(|prefix| resource.starts_with(prefix));
        if !known {
            errors.not_supported(&at.child("resource"), resource, &RESOURCES);
        }
    }
}

/// `envFrom`
pub(super) fn sources(sources: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, source) in list(sources).iter().enumerate() {
        let at = at.index(index);
        let prefix = text(&source["prefix"]);
        if !prefix.is_empty() {
            errors.each(&at.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            if !source[field].is_null() {
                count += 1;
                needs(errors, &at.child(field).child("name"), &source[field]["name"]);
            }
        }
        match count {
            0 => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                errors.invalid(&at, "", detail);
            }
            1 => {}
            _ => errors.invalid(&at, "", ONE_ONLY),
        }
    }
}
