//! A namespace that is being deleted takes its content along, then goes itself
//! (`pkg/controller/namespace/deletion`): content first, the `kubernetes` finalizer last.

use edge_api::kinds::{self, Kind};
use edge_api::{Object, meta};
use serde_json::{Value, json};

use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};
use crate::workload::{Condition, set_condition};

/// The finalizer in `spec.finalizers` that this controller answers for.
const FINALIZER: &str = "kubernetes";

/// Empties namespaces that are on their way out, and lets go of empty ones.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    for namespace in view.list(kinds::NAMESPACE).filter(|n| meta::is_deleting(n)) {
        let content = content(view, meta::name(namespace));
        if content.is_empty() {
            release(namespace, &mut plan);
            continue;
        }
        for (kind, object) in content.iter().take(MOST_ACTIONS) {
            if !meta::is_deleting(object) {
                plan.push(Action::delete(kind, object));
            }
        }
        if let Some(object) = status(namespace, &content, round.now_ms) {
            plan.push(Action::status(kinds::NAMESPACE, object));
        }
    }
    plan
}

/// All objects in a namespace. Events go as well, but nothing waits for them to be told apart.
fn content<'a>(view: &'a View, namespace: &str) -> Vec<(&'static Kind, &'a Object)> {
    view.all()
        .filter(|(kind, object)| kind.namespaced && meta::namespace(object) == namespace)
        .map(|(kind, object)| (kind, object.as_ref()))
        .collect()
}

fn release(namespace: &Object, plan: &mut Plan) {
    let finalizers = namespace["spec"]["finalizers"].as_array();
    if !finalizers.is_some_and(|list| list.iter().any(|f| f == FINALIZER)) {
        return;
    }
    // Events are in no view: they are many, and no controller decides by them.
    let name = meta::name(namespace).to_owned();
    plan.push(Action::DeleteAll { kind: kinds::EVENT, namespace: name });
    let mut object = namespace.clone();
    if let Some(list) = object["spec"]["finalizers"].as_array_mut() {
        list.retain(|f| f != FINALIZER);
    }
    plan.push(Action::Update { kind: kinds::NAMESPACE, object, sub: "finalize" });
}

/// Says what is still there, in the words of Kubernetes' own conditions.
fn status(namespace: &Object, content: &[(&Kind, &Object)], now_ms: i64) -> Option<Object> {
    let mut counts: std::collections::BTreeMap<String, usize> = Default::default();
    let mut finalizers: std::collections::BTreeMap<&str, usize> = Default::default();
    for (kind, object) in content {
        *counts.entry(kind.resource()).or_default() += 1;
        for finalizer in meta::finalizers(object) {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let remaining: Vec<String> = counts
        .iter()
        .map(|(resource, n)| format!("{resource} has {n} resource instances"))
        .collect();
    let held: Vec<String> =
        finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let content = format!("Some resources are remaining: {}", remaining.join(", "));
    let holding =
        format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
    let mut object = namespace.clone();
    let mut changed = set(
        &mut object["status"],
        "NamespaceContentRemaining",
        "True",
        "SomeResourcesRemain",
        &content,
        now_ms,
    );
    if !held.is_empty() {
        changed |= set(
            &mut object["status"],
            "NamespaceFinalizersRemaining",
            "True",
            "SomeFinalizersRemain",
            &holding,
            now_ms,
        );
    }
    changed.then_some(object)
}

fn set(status: &mut Value, kind: &str, value: &str, reason: &str, message: &str, now: i64) -> bool {
    if status.is_null() {
        *status = json!({});
    }
    set_condition(status, Condition { kind, status: value, reason, message }, now, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const ROUND: Round = Round { now_ms: 0, seed: 0 };

    fn dying() -> Object {
        json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
               "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}})
    }

    #[test]
    fn content_goes_before_the_namespace() {
        let mut view = View::default();
        view.put(kinds::NAMESPACE, Arc::new(dying()));
        let pod = json!({"metadata": {"name": "x", "namespace": "a", "uid": "1"}});
        view.put(kinds::POD, Arc::new(pod));
        let first = plan(&view, &ROUND);
        assert!(matches!(&first.actions[0], Action::Delete { name, .. } if name == "x"));
        assert!(matches!(&first.actions[1], Action::Update { sub: "status", .. }));
        view.remove(kinds::POD, "a", "x", 1);
        let last = plan(&view, &ROUND);
        let [Action::DeleteAll { .. }, Action::Update { object, sub: "finalize", .. }] =
            &last.actions[..]
        else {
            panic!("{last:?}")
        };
        assert_eq!(object["spec"]["finalizers"], json!([]));
    }

    #[test]
    fn a_living_namespace_is_left_alone() {
        let mut view = View::default();
        view.put(kinds::NAMESPACE, Arc::new(json!({"metadata": {"name": "a"}})));
        let pod = json!({"metadata": {"name": "x", "namespace": "a", "uid": "1"}});
        view.put(kinds::POD, Arc::new(pod));
        assert!(plan(&view, &ROUND).is_empty());
    }
}
