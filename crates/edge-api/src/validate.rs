//! Validation: what Kubernetes refuses, with the path, the type and the words it refuses it with.
//! An object comes here decoded and with its defaults, so types are right and nulls are gone.

use serde_json::Value;

use crate::Object;
use crate::field::{Errors, FieldError, Path};
use crate::kinds::Kind;

mod access;
mod cluster;
mod container;
mod data;
mod endpoints;
mod env;
mod ingress;
mod meta;
mod placement;
mod pod;
mod pod_update;
mod policy;
mod probe;
mod resources;
mod service;
mod service_addresses;
mod volume;
mod workload;

pub(crate) use access::{cluster_role, cluster_role_binding, role, role_binding};
pub(crate) use cluster::{
    any_status, event, lease, namespace, node, node_status, nothing, workload_status,
};
pub(crate) use data::{config_map, secret};
pub(crate) use endpoints::{endpoint_slice, endpoints};
pub(crate) use ingress::{ingress, ingress_class, ingress_status};
pub(crate) use pod::pod;
pub(crate) use policy::network_policy;
pub(crate) use service::service;
pub(crate) use workload::{deployment, replica_set};

impl Kind {
    /// What is wrong with an object, as a new one (`None`) or as the replacement of an old one.
    pub fn validate(&self, object: &Object, old: Option<&Object>) -> Vec<FieldError> {
        let mut errors = Errors::new();
        meta::object_meta(self, object, &mut errors);
        if let Some(old) = old {
            meta::update(object, old, &mut errors);
        }
        (self.rules.validate)(object, old, &mut errors);
        errors.into_vec()
    }

    /// What is wrong with a change of the status alone.
    pub fn validate_status(&self, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = Errors::new();
        meta::object_meta(self, object, &mut errors);
        meta::update(object, old, &mut errors);
        (self.rules.validate_status)(object, &mut errors);
        errors.into_vec()
    }
}

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const IMMUTABLE: &str = "field is immutable";

/// Text at a value; missing reads as empty.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list; missing reads as empty.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a map; missing reads as empty.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A needed text; says whether it is there.
fn needs(errors: &mut Errors, at: &Path<'_>, value: &Value) -> bool {
    let there = !text(value).is_empty();
    if !there {
        errors.required(at, "");
    }
    there
}

/// A text that must be one of these when it is there.
fn one_of(errors: &mut Errors, at: &Path<'_>, value: &Value, allowed: &[&str]) {
    let found = text(value);
    if !found.is_empty() && !allowed.contains(&found) {
        errors.not_supported(at, found, allowed);
    }
}

/// A needed text that must be one of these.
fn needs_one_of(errors: &mut Errors, at: &Path<'_>, value: &Value, allowed: &[&str]) {
    if needs(errors, at, value) {
        one_of(errors, at, value, allowed);
    }
}

/// A number that may not be below zero.
fn not_negative(errors: &mut Errors, at: &Path<'_>, value: &Value) {
    if let Some(number) = value.as_i64().filter(|number| *number < 0) {
        errors.invalid(at, number, NOT_NEGATIVE);
    }
}

/// A value that may not change.
fn immutable(errors: &mut Errors, at: &Path<'_>, new: &Value, old: &Value) {
    if new != old {
        errors.invalid(at, new.clone(), IMMUTABLE);
    }
}

#[cfg(test)]
mod tests;
