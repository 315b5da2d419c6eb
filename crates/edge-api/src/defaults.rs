//! Kubernetes' defaults: what the API server writes into an object where the author left something
//! out. Clients read these back (`kubectl diff`, controllers), so they are exactly those of
//! Kubernetes 1.33.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::{Object, meta};

mod ingress;
mod pod;
mod policy;
mod service;

pub(crate) use ingress::ingress_class;
pub use pod::image_tag;
pub(crate) use pod::{pod, template};
pub(crate) use policy::network_policy;
pub(crate) use service::{endpoint_slice, endpoints, service};

/// The object at a field, made when it is missing.
fn object<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    meta::ensure(value, field)
}

/// The items of a list, or none.
fn items<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A child that is there.
fn some<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    value.get_mut(field).filter(|child| child.is_object())
}

/// Sets a field that is missing.
fn fill(value: &mut Value, field: &str, default: impl Into<Value>) {
    let Some(map) = value.as_object_mut() else { return };
    if map.get(field).is_none_or(Value::is_null) {
        map.insert(field.to_string(), default.into());
    }
}

/// Sets a field that is missing or holds its type's zero, where Go cannot tell these apart.
fn fill_zero(value: &mut Value, field: &str, default: impl Into<Value>) {
    let Some(map) = value.as_object_mut() else { return };
    let zero = match map.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if zero {
        map.insert(field.to_string(), default.into());
    }
}

/// For kinds without defaults.
pub(crate) fn nothing(_: &mut Object) {}

/// `RoleBinding` and `ClusterRoleBinding`
pub(crate) fn role_binding(object: &mut Object) {
    let group = "rbac.authorization.k8s.io";
    if let Some(reference) = some(object, "roleRef") {
        fill_zero(reference, "apiGroup", group);
    }
    for subject in items(object, "subjects") {
        if subject["kind"] == "User" || subject["kind"] == "Group" {
            fill_zero(subject, "apiGroup", group);
        }
    }
}

/// `Deployment`
pub(crate) fn deployment(object: &mut Object) {
    replica_set(object);
    let spec = &mut object["spec"];
    let strategy = self::object(spec, "strategy");
    if strategy.get("type").and_then(Value::as_str).unwrap_or_default().is_empty() {
        strategy.insert("type".to_string(), json!("RollingUpdate"));
    }
    if strategy["type"] == "RollingUpdate" {
        let strategy = &mut spec["strategy"];
        self::object(strategy, "rollingUpdate");
        fill(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
        fill(&mut strategy["rollingUpdate"], "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

/// `ReplicaSet`
pub(crate) fn replica_set(object: &mut Object) {
    self::object(object, "spec");
    let spec = &mut object["spec"];
    fill(spec, "replicas", 1);
    self::object(spec, "template");
    template(&mut spec["template"]);
}

/// `Namespace`: the label by which selectors find it, and its phase.
pub(crate) fn namespace(object: &mut Object) {
    let name = meta::name(object).to_string();
    if !name.is_empty() {
        meta::set_label(object, "kubernetes.io/metadata.name", &name);
    }
    self::object(object, "status");
    fill_zero(&mut object["status"], "phase", "Active");
}

/// `Node`: everything it has can be allocated, until it says otherwise.
pub(crate) fn node(object: &mut Object) {
    let Some(status) = some(object, "status") else { return };
    if let Some(capacity) = status.get("capacity").cloned() {
        fill(status, "allocatable", capacity);
    }
}

/// `Secret`: a type, and `stringData` folded into `data`.
pub(crate) fn secret(object: &mut Object) {
    fill_zero(object, "type", "Opaque");
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    let data = self::object(object, "data");
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        data.insert(key, json!(encoded));
    }
}

#[cfg(test)]
mod tests;
