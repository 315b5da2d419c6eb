//! Reading and writing `metadata` of a raw object. Missing text reads as empty, since that is what
//! Kubernetes means by leaving it out.

use serde_json::{Map, Value, json};

use crate::{Object, time};

fn text<'a>(object: &'a Object, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.name`
pub fn name(object: &Object) -> &str {
    text(object, "name")
}

/// `metadata.namespace`; empty for cluster-scoped objects.
pub fn namespace(object: &Object) -> &str {
    text(object, "namespace")
}

/// `metadata.generateName`
pub fn generate_name(object: &Object) -> &str {
    text(object, "generateName")
}

/// `metadata.uid`
pub fn uid(object: &Object) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`; empty when the object was never stored.
pub fn resource_version(object: &Object) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.resourceVersion` as the store's revision; 0 when there is none.
pub fn revision(object: &Object) -> u64 {
    resource_version(object).parse().unwrap_or(0)
}

/// `metadata.generation`; 0 for kinds that have none.
pub fn generation(object: &Object) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or(0)
}

/// `metadata.labels`
pub fn labels(object: &Object) -> Option<&Map<String, Value>> {
    object["metadata"]["labels"].as_object()
}

/// One label's value.
pub fn label<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.annotations`
pub fn annotations(object: &Object) -> Option<&Map<String, Value>> {
    object["metadata"]["annotations"].as_object()
}

/// One annotation's value.
pub fn annotation<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.creationTimestamp` as text.
pub fn creation_timestamp(object: &Object) -> &str {
    text(object, "creationTimestamp")
}

/// When the object was made, in milliseconds since the epoch.
pub fn created_ms(object: &Object) -> Option<i64> {
    time::parse(creation_timestamp(object))
}

/// `metadata.deletionTimestamp`, when the object is being deleted.
pub fn deletion_timestamp(object: &Object) -> Option<&str> {
    object["metadata"]["deletionTimestamp"].as_str()
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Object) -> bool {
    deletion_timestamp(object).is_some()
}

/// `metadata.deletionGracePeriodSeconds`
pub fn deletion_grace_seconds(object: &Object) -> Option<i64> {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64()
}

/// `metadata.finalizers`
pub fn finalizers(object: &Object) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a finalizer is on the object.
pub fn has_finalizer(object: &Object, name: &str) -> bool {
    finalizers(object).any(|finalizer| finalizer == name)
}

/// One of an object's owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `apps/v1`
    pub api_version: &'a str,
    /// `ReplicaSet`
    pub kind: &'a str,
    /// the owner's name
    pub name: &'a str,
    /// the owner's uid
    pub uid: &'a str,
    /// whether this owner manages the object
    pub controller: bool,
    /// whether a foreground deletion of the owner waits for the object
    pub block_deletion: bool,
}

/// `metadata.ownerReferences`
pub fn owner_references(object: &Object) -> impl Iterator<Item = Owner<'_>> {
    let list = object["metadata"]["ownerReferences"].as_array();
    list.into_iter().flatten().map(|owner| {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        Owner {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            uid: text("uid"),
            controller: owner["controller"] == true,
            block_deletion: owner["blockOwnerDeletion"] == true,
        }
    })
}

/// The owner that manages the object, if one does.
pub fn controller(object: &Object) -> Option<Owner<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

/// An owner reference to a controller, as controllers put it on what they make.
pub fn controller_reference(owner: &Object) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner),
           "uid": uid(owner), "controller": true, "blockOwnerDeletion": true})
}

/// The JSON object at a field of a JSON object; makes it when it is missing or null.
pub fn ensure<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let child = &mut object[field];
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut().expect("invariant: it was made an object above")
}

/// Sets a field of `metadata`.
pub fn set(object: &mut Object, field: &str, value: impl Into<Value>) {
    ensure(object, "metadata").insert(field.to_string(), value.into());
}

/// Takes a field of `metadata` away, and returns it.
pub fn remove(object: &mut Object, field: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(field)
}

/// Sets a label.
pub fn set_label(object: &mut Object, key: &str, value: &str) {
    ensure(object, "metadata");
    ensure(&mut object["metadata"], "labels").insert(key.to_string(), json!(value));
}

/// Sets an annotation.
pub fn set_annotation(object: &mut Object, key: &str, value: &str) {
    ensure(object, "metadata");
    ensure(&mut object["metadata"], "annotations").insert(key.to_string(), json!(value));
}

/// Takes a finalizer away; says whether it was there. The last one takes the list with it.
pub fn remove_finalizer(object: &mut Object, name: &str) -> bool {
    let list = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("finalizers"));
    let Some(list) = list.and_then(Value::as_array_mut) else { return false };
    let before = list.len();
    list.retain(|finalizer| finalizer != name);
    let (removed, empty) = (list.len() < before, list.is_empty());
    if empty {
        remove(object, "finalizers");
    }
    removed
}

/// Adds a finalizer unless it is there already.
pub fn add_finalizer(object: &mut Object, name: &str) {
    if has_finalizer(object, name) {
        return;
    }
    let list = ensure(object, "metadata").entry("finalizers").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(json!(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let object = json!({"metadata": {
            "name": "web", "namespace": "default", "uid": "u", "resourceVersion": "42",
            "labels": {"app": "web"}, "finalizers": ["a"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "2",
                 "controller": true}]}});
        assert_eq!((name(&object), namespace(&object), revision(&object)), ("web", "default", 42));
        assert_eq!(label(&object, "app"), Some("web"));
        assert_eq!(annotation(&object, "app"), None);
        assert_eq!(controller(&object).map(|owner| owner.uid), Some("2"));
        assert!(has_finalizer(&object, "a") && !is_deleting(&object));
        assert_eq!(name(&json!({})), "");
        assert_eq!(finalizers(&json!({})).count(), 0);
    }

    #[test]
    fn writes_make_what_is_missing() {
        let mut object = json!({});
        set_label(&mut object, "app", "web");
        add_finalizer(&mut object, "a");
        add_finalizer(&mut object, "a");
        set(&mut object, "name", "web");
        assert_eq!(
            object,
            json!({"metadata": {"labels": {"app": "web"}, "finalizers": ["a"], "name": "web"}})
        );
        assert!(remove_finalizer(&mut object, "a"));
        assert!(!remove_finalizer(&mut object, "a"));
        assert_eq!(object["metadata"].get("finalizers"), None);
    }
}
