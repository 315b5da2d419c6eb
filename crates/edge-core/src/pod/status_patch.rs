//! The smallest strategic merge patch that turns one reported status into the next.

use serde_json::{Map, Value, json};

/// The patch for the status subresource, or `None` when nothing has changed. `uid` guards
/// against a pod of the same name that took this one's place.
pub fn status_patch(uid: &str, old: &Value, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let old_map = old.as_object().unwrap_or(&empty);
    let new_map = new.as_object().unwrap_or(&empty);
    let mut out = Map::new();
    for (key, value) in new_map {
        if old_map.get(key) == Some(value) {
            continue;
        }
        if key == "conditions" {
            out.insert(key.clone(), conditions(&old["conditions"], value));
        } else if LISTS.contains(&key.as_str()) && old_map.contains_key(key) {
            let mut list = vec![json!({ "$patch": "replace" })];
            list.extend(value.as_array().into_iter().flatten().cloned());
            out.insert(key.clone(), Value::Array(list));
        } else {
            out.insert(key.clone(), value.clone());
        }
    }
    for key in OWNED.iter().filter(|key| old_map.contains_key(**key)) {
        if !new_map.contains_key(*key) {
            out.insert((*key).to_owned(), Value::Null);
        }
    }
    if out.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": uid }, "status": out }))
}

/// Fields that are ours to take away.
const OWNED: [&str; 4] = ["message", "reason", "podIP", "podIPs"];
/// Lists that a merge by key would only add to.
const LISTS: [&str; 2] = ["podIPs", "hostIPs"];

/// Changed conditions only; what one no longer says is set to null, since a merge keeps it
/// otherwise.
fn conditions(old: &Value, new: &Value) -> Value {
    let none = Vec::new();
    let old = old.as_array().unwrap_or(&none);
    let changed = new.as_array().unwrap_or(&none).iter().filter(|c| !old.contains(c)).map(|c| {
        let mut out = c.clone();
        let before = old.iter().find(|o| o["type"] == c["type"]).and_then(Value::as_object);
        for key in before.into_iter().flat_map(Map::keys) {
            if c.get(key).is_none() {
                out[key.as_str()] = Value::Null;
            }
        }
        out
    });
    Value::Array(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_status_gives_no_patch() {
        let s =
            json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        assert_eq!(status_patch("u", &s, &s), None);
    }

    #[test]
    fn changes_only_and_nulls_for_what_went() {
        let old = json!({ "phase": "Pending", "hostIP": "1.1.1.1", "message": "x", "conditions": [
            { "type": "Ready", "status": "False", "reason": "r" },
            { "type": "PodScheduled", "status": "True" },
        ]});
        let new = json!({ "phase": "Running", "hostIP": "1.1.1.1", "conditions": [
            { "type": "Ready", "status": "True" },
            { "type": "PodScheduled", "status": "True" },
        ]});
        let want = json!({ "metadata": { "uid": "u" }, "status": { "phase": "Running",
            "message": null,
            "conditions": [{ "type": "Ready", "status": "True", "reason": null }] }});
        assert_eq!(status_patch("u", &old, &new), Some(want));
    }
}
