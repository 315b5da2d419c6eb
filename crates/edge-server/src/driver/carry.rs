//! Carries plans out: independent actions at the same time, so that the log groups them into
//! one flush; actions on one object in their order. What fails is dropped: the next round sees
//! the world as it is then and plans again.

use edge_api::kinds::{self, Kind};
use edge_api::status::{Reason, Status};
use edge_api::{Object, meta};
use edge_core::controllers::replicaset;
use edge_core::plan::Action;
use futures_util::stream::{self, StreamExt};
use serde_json::json;

use super::feed::is_partial;
use super::record::Recorder;
use crate::api::{Api, DeleteOptions, ListOptions, Place, Propagation, WriteOptions};
use crate::auth::Identity;

/// Writes under way at once. The log flushes whatever has gathered, so more costs little.
const AT_ONCE: usize = 64;

/// Actions on one object, in their order.
struct Lane {
    of: Option<String>,
    actions: Vec<Action>,
}

/// Does what `actions` say, in the name of the controller `source`. Whether anything is other than
/// before: a write may be refused, or say what is stored already.
pub(super) async fn out(
    api: &Api,
    source: &'static str,
    actions: Vec<Action>,
    recorder: &Recorder,
) -> bool {
    let who = Identity::system(source);
    let mut writes = Vec::new();
    for action in actions {
        match action {
            Action::Event { .. } => recorder.record(action),
            other => writes.push(other),
        }
    }
    let work = lanes(writes).into_iter().map(|lane| follow(api, &who, source, lane, recorder));
    let changes = stream::iter(work).buffer_unordered(AT_ONCE);
    changes.fold(false, async |any, changed| any || changed).await
}

fn lanes(actions: Vec<Action>) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for action in actions {
        let of = subject(&action);
        let known = lanes.iter_mut().find(|lane| of.is_some() && lane.of == of);
        match known {
            Some(lane) => lane.actions.push(action),
            None => lanes.push(Lane { of, actions: vec![action] }),
        }
    }
    lanes
}

/// What an action must wait for: other actions on the same thing. Creations wait for nothing.
fn subject(action: &Action) -> Option<String> {
    match action {
        Action::Create { .. } | Action::Event { .. } => None,
        Action::Update { kind, object, .. } if *kind == kinds::NAMESPACE => {
            Some(format!("namespace {}", meta::name(object)))
        }
        Action::DeleteAll { namespace, .. } => Some(format!("namespace {namespace}")),
        Action::Update { object, .. } => Some(meta::uid(object).to_owned()),
        Action::Delete { uid, .. } | Action::Bind { uid, .. } => Some(uid.clone()),
    }
}

/// Whether anything was changed.
async fn follow(
    api: &Api,
    who: &Identity,
    source: &'static str,
    lane: Lane,
    recorder: &Recorder,
) -> bool {
    let mut changed = false;
    // Our own write moved the object on: the next one in the lane builds on it.
    let mut version: Option<String> = None;
    for action in lane.actions {
        let done = match action {
            Action::Update { kind, mut object, sub } => {
                if let Some(version) = &version {
                    meta::set(&mut object, "resourceVersion", version.clone());
                }
                let before = meta::resource_version(&object).to_owned();
                update(api, who, kind, object, sub).await.map(|next| {
                    let moved = next != before;
                    version = Some(next);
                    moved
                })
            }
            Action::Create { kind, object } => {
                create(api, who, kind, object, recorder).await.map(|()| true)
            }
            other => act(api, who, other).await.map(|()| true),
        };
        match done {
            Ok(moved) => changed |= moved,
            Err(error) => {
                complain(source, &error);
                return changed;
            }
        }
    }
    changed
}

/// Conflicts and things that are gone are the ordinary course of a busy cluster.
fn complain(source: &str, error: &Status) {
    match error.reason {
        Reason::Conflict | Reason::NotFound | Reason::AlreadyExists => {
            tracing::debug!("{source}: {}", error.message);
        }
        _ => tracing::warn!("{source}: {}", error.message),
    }
}

async fn update(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    object: Object,
    sub: &'static str,
) -> Result<String, Status> {
    let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
    let place = Place::new(kind, &namespace, &name).subresource(sub);
    let partial = is_partial(kind, &name);
    let object = if partial { completed(api, place, object)? } else { object };
    let written = api.update(who, place, object, &WriteOptions::default()).await?;
    Ok(meta::resource_version(&written.object).to_owned())
}

/// The stored object with the ownership that was planned: the view holds only its metadata.
fn completed(api: &Api, place: Place<'_>, planned: Object) -> Result<Object, Status> {
    let mut stored = api.object(place)?;
    if meta::resource_version(&stored) != meta::resource_version(&planned) {
        return Err(Status::modified(place.kind, place.name));
    }
    for field in ["ownerReferences", "finalizers"] {
        match planned["metadata"].get(field) {
            Some(value) => meta::set(&mut stored, field, value.clone()),
            None => {
                meta::remove(&mut stored, field);
            }
        }
    }
    Ok(stored)
}

async fn act(api: &Api, who: &Identity, action: Action) -> Result<(), Status> {
    let options = WriteOptions::default();
    match action {
        Action::Delete { kind, namespace, name, uid, foreground, force } => {
            let place = Place::new(kind, &namespace, &name);
            let propagation = foreground.then_some(Propagation::Foreground);
            let options = DeleteOptions {
                uid: Some(uid),
                propagation,
                grace_period_seconds: force.then_some(0),
                ..DeleteOptions::default()
            };
            api.delete(who, place, &options).await.map(drop)
        }
        Action::DeleteAll { kind, namespace } => {
            let (which, how) = (ListOptions::default(), DeleteOptions::default());
            api.delete_collection(who, kind, &namespace, &which, &how).await.map(drop)
        }
        Action::Bind { namespace, name, uid, node } => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "namespace": namespace, "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            api.bind(who, &namespace, &name, &binding, &options).await.map(drop)
        }
        // Those have ways of their own.
        Action::Create { .. } | Action::Update { .. } | Action::Event { .. } => Ok(()),
    }
}

/// Creates, and tells of a pod under its owner, as only now its name is known.
async fn create(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    object: Object,
    recorder: &Recorder,
) -> Result<(), Status> {
    let namespace = meta::namespace(&object).to_owned();
    let told = if kind == kinds::POD { owner(&object) } else { None };
    let created = api.create(who, kind, &namespace, object, &WriteOptions::default()).await;
    let Some(owner) = told else { return created.map(drop) };
    recorder.record(match &created {
        Ok(written) => {
            let text = format!("Created pod: {}", meta::name(&written.object));
            Action::event(replicaset::SOURCE, &owner, "SuccessfulCreate", text)
        }
        Err(error) => {
            let text = format!("Error creating: {}", error.message);
            Action::warning(replicaset::SOURCE, &owner, "FailedCreate", text)
        }
    });
    created.map(drop)
}

/// As much of an object's controller as an event needs.
fn owner(object: &Object) -> Option<Object> {
    let owner = meta::controller(object)?;
    Some(json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "metadata": {"namespace": meta::namespace(object), "name": owner.name, "uid": owner.uid},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update_of(uid: &str) -> Action {
        Action::update(kinds::POD, json!({"metadata": {"uid": uid}}))
    }

    #[test]
    fn actions_on_one_object_keep_their_order_and_others_do_not_wait() {
        let create = Action::Create { kind: kinds::POD, object: json!({}) };
        let delete = Action::Delete {
            kind: kinds::POD,
            namespace: "a".into(),
            name: "x".into(),
            uid: "u1".into(),
            foreground: false,
            force: false,
        };
        let actions = vec![update_of("u1"), create.clone(), update_of("u2"), delete, create];
        let lanes = lanes(actions);
        let lengths: Vec<usize> = lanes.iter().map(|lane| lane.actions.len()).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
        assert!(matches!(lanes[0].actions[1], Action::Delete { .. }));
    }

    #[test]
    fn a_namespace_is_emptied_of_events_before_it_goes() {
        let namespace = json!({"metadata": {"name": "a", "uid": "u"}});
        let actions = vec![
            Action::DeleteAll { kind: kinds::EVENT, namespace: "a".into() },
            Action::update(kinds::NAMESPACE, namespace),
        ];
        assert_eq!(lanes(actions).len(), 1);
    }
}
