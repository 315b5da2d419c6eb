//! What controllers ask of pods and of the objects that make them, in Kubernetes' terms
//! (`k8s.io/kubernetes/pkg/api/v1/pod`, `pkg/controller/controller_utils.go`).

use edge_api::{Object, meta, time};
use serde_json::{Value, json};

/// A pod that counts: neither finished nor on its way out.
pub fn is_active(pod: &Object) -> bool {
    !is_finished(pod) && !meta::is_deleting(pod)
}

/// A pod that will run no more.
pub fn is_finished(pod: &Object) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// The condition `kind` of an object's status.
pub fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

/// Whether a pod's Ready condition is true.
pub fn is_ready(pod: &Object) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

/// When a pod became Ready, in Unix milliseconds.
pub fn ready_since(pod: &Object) -> Option<i64> {
    let ready = condition(pod, "Ready").filter(|c| c["status"] == "True")?;
    time::parse(ready["lastTransitionTime"].as_str()?)
}

/// Whether a pod has been Ready for `min_ready_seconds`; if not yet, when it will have been.
pub fn availability(pod: &Object, min_ready_seconds: i64, now_ms: i64) -> Availability {
    if !is_ready(pod) {
        return Availability::No;
    }
    let since = ready_since(pod).unwrap_or(0);
    let due = since.saturating_add(min_ready_seconds.saturating_mul(1000));
    if min_ready_seconds == 0 || due <= now_ms { Availability::Yes } else { Availability::At(due) }
}

/// See [`availability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Available.
    Yes,
    /// Ready, and available at this time if it stays so (Unix milliseconds).
    At(i64),
    /// Not ready.
    No,
}

/// A whole number in an object, or what stands for it when it is missing.
pub fn number(value: &Value, otherwise: i64) -> i64 {
    value.as_i64().unwrap_or(otherwise)
}

/// Restarts of all containers of a pod.
pub fn restarts(pod: &Object) -> i64 {
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses.into_iter().flatten().map(|s| number(&s["restartCount"], 0)).max().unwrap_or(0)
}

/// Sets a condition the way Kubernetes does: an unchanged one is left alone, and the transition
/// time moves only with the status. Says whether anything changed.
pub fn set_condition(status: &mut Value, new: Condition<'_>, now_ms: i64, updates: bool) -> bool {
    let list = conditions(status);
    let now = time::format(now_ms);
    let mut value = json!({
        "type": new.kind, "status": new.status, "reason": new.reason, "message": new.message,
        "lastTransitionTime": now,
    });
    if updates {
        value["lastUpdateTime"] = json!(now);
    }
    let Some(old) = list.iter_mut().find(|c| c["type"] == new.kind) else {
        list.push(value);
        return true;
    };
    if old["status"] == new.status && old["reason"] == new.reason {
        return false;
    }
    if old["status"] == new.status {
        value["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    *old = value;
    true
}

/// Takes a condition away.
pub fn remove_condition(status: &mut Value, kind: &str) {
    conditions(status).retain(|c| c["type"] != kind);
}

fn conditions(status: &mut Value) -> &mut Vec<Value> {
    if !status.is_object() {
        *status = json!({});
    }
    let slot = &mut status["conditions"];
    if !slot.is_array() {
        *slot = json!([]);
    }
    slot.as_array_mut().expect("invariant: it was made an array above")
}

/// A condition to set.
#[derive(Debug, Clone, Copy)]
pub struct Condition<'a> {
    /// `type`
    pub kind: &'a str,
    /// `True`, `False` or `Unknown`
    pub status: &'a str,
    /// one word
    pub reason: &'a str,
    /// a sentence
    pub message: &'a str,
}

/// A short stable hash of a pod template, spelled as Kubernetes spells its own: FNV-1a (32 bit)
/// of the JSON with sorted keys, in letters that make no words.
pub fn template_hash(template: &Value, collisions: i64) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash: u32 = 0x811c_9dc5;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    eat(template.to_string().as_bytes());
    if collisions > 0 {
        eat(collisions.to_string().as_bytes());
    }
    let letter = |c: char| char::from(ALPHABET[c as usize % ALPHABET.len()]);
    hash.to_string().chars().map(letter).collect()
}

/// The name prefix of the pods that `owner` makes: `web-5d4f-`, or the bare name where the dash
/// would make it too long.
pub fn pod_prefix(owner: &str) -> String {
    let prefix = format!("{owner}-");
    if edge_api::names::dns1123_subdomain(&format!("{prefix}x")).is_empty() {
        prefix
    } else {
        owner.to_owned()
    }
}

/// A pod from a template, owned by `owner`.
pub fn pod_from(template: &Value, owner: &Object) -> Object {
    let mut metadata = serde_json::Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata.insert(field.into(), value.clone());
        }
    }
    metadata.insert("generateName".into(), json!(pod_prefix(meta::name(owner))));
    metadata.insert("namespace".into(), json!(meta::namespace(owner)));
    metadata.insert("ownerReferences".into(), json!([meta::controller_reference(owner)]));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": Value::Object(metadata), "spec": template["spec"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_stable_and_tells_templates_apart() {
        let a = template_hash(&json!({"spec": {"a": 1}}), 0);
        assert_eq!(a, template_hash(&json!({"spec": {"a": 1}}), 0));
        assert_ne!(a, template_hash(&json!({"spec": {"a": 2}}), 0));
        assert_ne!(a, template_hash(&json!({"spec": {"a": 1}}), 1));
        assert!(a.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{a}");
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut status = json!({});
        let at = |reason| Condition { kind: "Ready", status: "True", reason, message: "" };
        assert!(set_condition(&mut status, at("A"), 1000, false));
        assert!(!set_condition(&mut status, at("A"), 2000, false));
        assert!(set_condition(&mut status, at("B"), 3000, false));
        assert_eq!(status["conditions"][0]["lastTransitionTime"], time::format(1000));
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let pod = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": time::format(10_000)}]}});
        assert_eq!(availability(&pod, 0, 10_000), Availability::Yes);
        assert_eq!(availability(&pod, 5, 14_000), Availability::At(15_000));
        assert_eq!(availability(&pod, 5, 15_000), Availability::Yes);
        assert_eq!(availability(&json!({}), 0, 0), Availability::No);
    }
}
