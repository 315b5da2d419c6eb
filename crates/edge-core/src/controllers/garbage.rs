//! What follows an owner's end (`pkg/controller/garbagecollector`): things whose owners are all
//! gone go as well; an owner that is deleted in the foreground waits for what blocks it; one that
//! is deleted with orphaning first lets go of what it owned.

use std::collections::BTreeMap;

use edge_api::kinds::Kind;
use edge_api::{Object, meta};
use serde_json::{Value, json};

use crate::plan::{Action, MOST_ACTIONS, Plan};
use crate::view::{Round, View};

/// The finalizer of a foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";

/// The finalizer of a deletion that orphans.
pub const ORPHAN: &str = "orphan";

/// uid → the object.
type ByUid<'a> = BTreeMap<&'a str, &'a Object>;

/// Collects what is owned by nothing that lives, and finishes foreground and orphan deletions.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    let known: ByUid<'_> = view
        .all()
        .map(|(_, o)| (meta::uid(o), o.as_ref()))
        .filter(|(u, _)| !u.is_empty())
        .collect();
    let mut dependents: BTreeMap<&str, Vec<(&'static Kind, &Object)>> = BTreeMap::new();
    for (kind, object) in view.all() {
        for owner in meta::owner_references(object) {
            dependents.entry(owner.uid).or_default().push((kind, object));
        }
        if plan.actions.len() < MOST_ACTIONS && is_garbage(view, &known, object) {
            plan.push(Action::delete(kind, object));
        }
    }
    for (kind, object) in view.all().filter(|(_, o)| meta::is_deleting(o)) {
        let owned = dependents.get(meta::uid(object)).map_or(&[][..], Vec::as_slice);
        if meta::has_finalizer(object, FOREGROUND) {
            foreground(kind, object, owned, &mut plan);
        } else if meta::has_finalizer(object, ORPHAN) {
            orphan(kind, object, owned, &mut plan);
        }
    }
    plan
}

/// Owned, by nothing that is still there. An owner of a kind that is not served is taken to live.
fn is_garbage(view: &View, known: &ByUid<'_>, object: &Object) -> bool {
    if meta::is_deleting(object) {
        return false;
    }
    let mut owners = meta::owner_references(object).peekable();
    owners.peek().is_some()
        && owners.all(|owner| {
            let (group, version) = edge_api::kinds::split_api_version(owner.api_version);
            let Some(kind) = edge_api::kinds::by_kind(group, version, owner.kind) else {
                return false;
            };
            let namespace = if kind.namespaced { meta::namespace(object) } else { "" };
            let same_name = view.get(kind, namespace, owner.name);
            !known.contains_key(owner.uid) && same_name.is_none_or(|o| meta::uid(o) != owner.uid)
        })
}

fn foreground(
    kind: &'static Kind,
    object: &Object,
    owned: &[(&'static Kind, &Object)],
    plan: &mut Plan,
) {
    let uid = meta::uid(object);
    for (kind, dependent) in owned.iter().filter(|(_, d)| !meta::is_deleting(d)) {
        let others = meta::owner_references(dependent).any(|owner| owner.uid != uid);
        if others {
            plan.push(Action::update(kind, disowned(dependent, uid)));
        } else {
            plan.push(in_foreground(kind, dependent, uid));
        }
    }
    let blocked = owned.iter().any(|(_, dependent)| {
        meta::owner_references(dependent).any(|owner| owner.uid == uid && owner.block_deletion)
    });
    if !blocked {
        let mut object = object.clone();
        meta::remove_finalizer(&mut object, FOREGROUND);
        plan.push(Action::update(kind, object));
    }
}

/// Deletes a dependent of an owner that waits: what blocks the owner waits for its own in turn.
fn in_foreground(kind: &'static Kind, dependent: &Object, owner: &str) -> Action {
    let blocks = meta::owner_references(dependent).any(|o| o.uid == owner && o.block_deletion);
    let mut action = Action::delete(kind, dependent);
    if let Action::Delete { foreground, .. } = &mut action {
        *foreground = blocks;
    }
    action
}

fn orphan(
    kind: &'static Kind,
    object: &Object,
    owned: &[(&'static Kind, &Object)],
    plan: &mut Plan,
) {
    for (kind, dependent) in owned {
        plan.push(Action::update(kind, disowned(dependent, meta::uid(object))));
    }
    if owned.is_empty() {
        let mut object = object.clone();
        meta::remove_finalizer(&mut object, ORPHAN);
        plan.push(Action::update(kind, object));
    }
}

/// The object without its reference to the owner `uid`.
fn disowned(object: &Object, uid: &str) -> Object {
    let mut object = object.clone();
    let left: Vec<Value> = object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["uid"] != uid)
        .cloned()
        .collect();
    if left.is_empty() {
        meta::remove(&mut object, "ownerReferences");
    } else {
        meta::set(&mut object, "ownerReferences", json!(left));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_api::kinds;
    use std::sync::Arc;

    const ROUND: Round = Round { now_ms: 0, seed: 0 };

    fn owner(finalizers: &[&str], deleting: bool) -> Object {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "rs", "namespace": "a", "uid": "u1", "finalizers": finalizers}});
        if deleting {
            meta::set(&mut object, "deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        object
    }

    fn pod() -> Object {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a",
            "uid": "u2", "ownerReferences": [meta::controller_reference(&owner(&[], false))]}})
    }

    fn view(objects: &[(&'static Kind, Object)]) -> View {
        let mut view = View::default();
        for (kind, object) in objects {
            view.put(kind, Arc::new(object.clone()));
        }
        view
    }

    #[test]
    fn what_nobody_owns_any_more_goes() {
        assert!(
            plan(&view(&[(kinds::REPLICA_SET, owner(&[], false)), (kinds::POD, pod())]), &ROUND)
                .is_empty()
        );
        let orphaned = plan(&view(&[(kinds::POD, pod())]), &ROUND);
        assert!(matches!(&orphaned.actions[..], [Action::Delete { name, .. }] if name == "p"));
    }

    #[test]
    fn an_owner_with_the_same_name_is_another_owner() {
        let mut other = owner(&[], false);
        meta::set(&mut other, "uid", "u9");
        let plan = plan(&view(&[(kinds::REPLICA_SET, other), (kinds::POD, pod())]), &ROUND);
        assert_eq!(plan.actions.len(), 1);
    }

    #[test]
    fn foreground_waits_for_what_blocks() {
        let rs = owner(&[FOREGROUND], true);
        let first = plan(&view(&[(kinds::REPLICA_SET, rs.clone()), (kinds::POD, pod())]), &ROUND);
        let [Action::Delete { name, foreground: true, .. }] = &first.actions[..] else {
            panic!("{first:?}")
        };
        assert_eq!(name, "p");
        let last = plan(&view(&[(kinds::REPLICA_SET, rs)]), &ROUND);
        let [Action::Update { object, .. }] = &last.actions[..] else { panic!("{last:?}") };
        assert!(!meta::has_finalizer(object, FOREGROUND));
    }

    #[test]
    fn orphaning_lets_go_first() {
        let rs = owner(&[ORPHAN], true);
        let first = plan(&view(&[(kinds::REPLICA_SET, rs.clone()), (kinds::POD, pod())]), &ROUND);
        let [Action::Update { object, .. }] = &first.actions[..] else { panic!("{first:?}") };
        assert!(meta::owner_references(object).next().is_none());
        let last = plan(&view(&[(kinds::REPLICA_SET, rs), (kinds::POD, object.clone())]), &ROUND);
        assert!(matches!(&last.actions[..], [Action::Update { .. }]));
    }
}
