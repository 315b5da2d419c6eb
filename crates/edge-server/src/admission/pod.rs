//! What every pod gets: a ServiceAccount and what comes with it, a priority, and patience with a
//! board that is out of sight.

use super::account;
use crate::api::Api;
use edge_api::kinds;
use edge_api::status::Status;
use edge_api::{Object, meta};
use serde_json::json;

/// The priority classes that every cluster has.
const CLASSES: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Completes a new pod.
pub(super) fn complete(api: &Api, pod: &mut Object) -> Result<(), Status> {
    if !pod["spec"].is_object() {
        return Ok(());
    }
    account::complete(api, pod)?;
    priority(pod)?;
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        tolerate(pod, taint, api.inner.nodes.default_toleration_seconds);
    }
    Ok(())
}

fn priority(pod: &mut Object) -> Result<(), Status> {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let value = match class.as_str() {
        "" => 0,
        class => match CLASSES.iter().find(|(name, _)| *name == class) {
            Some((_, value)) => *value,
            None => {
                let why = format!("no PriorityClass with name {class} was found");
                return Err(Status::forbidden(kinds::POD, meta::name(pod), &why));
            }
        },
    };
    let given = pod["spec"]["priority"].as_i64();
    if given.is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name",
            given.unwrap_or(0)
        );
        return Err(Status::forbidden(kinds::POD, meta::name(pod), &why));
    }
    pod["spec"]["priority"] = json!(value);
    if pod["spec"]["preemptionPolicy"].is_null() {
        pod["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    Ok(())
}

/// `DefaultTolerationSeconds`: what a pod does not say about a taint, the cluster says.
fn tolerate(pod: &mut Object, taint: &str, seconds: i64) {
    let spec = meta::ensure(pod, "spec");
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let told = list.iter().any(|toleration| {
        let text = |field: &str| toleration[field].as_str().unwrap_or_default();
        matches!(text("effect"), "" | "NoExecute")
            && (text("key") == taint || (text("key").is_empty() && text("operator") == "Exists"))
    });
    if !told {
        list.push(json!({
            "key": taint,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_added_once() {
        let mut pod = json!({"spec": {}});
        tolerate(&mut pod, "node.kubernetes.io/not-ready", 0);
        tolerate(&mut pod, "node.kubernetes.io/not-ready", 0);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        tolerate(&mut pod, "node.kubernetes.io/not-ready", 0);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn priorities_come_from_known_classes() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {}});
        priority(&mut pod).unwrap();
        assert_eq!(pod["spec"]["priority"], 0);
        let mut pod = json!({"spec": {"priorityClassName": "system-node-critical"}});
        priority(&mut pod).unwrap();
        assert_eq!(pod["spec"]["priority"], 2_000_001_000);
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "mine"}});
        let words = priority(&mut pod).unwrap_err().message;
        assert_eq!(words, "pods \"a\" is forbidden: no PriorityClass with name mine was found");
    }
}
