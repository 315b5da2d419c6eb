//! Deleting an object in the phases that Kubernetes has: a pod that runs gets time to end, an
//! object with finalizers stays until they are gone, and everything else goes at once.

use super::options::{DeleteOptions, Propagation};
use super::update::RETRIES;
use super::wire::Unstamped;
use super::{Api, CommitError, Place, Written, now_ms, read_object, tried, written};
use crate::admission;
use crate::auth::Identity;
use bytes::Bytes;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use edge_api::{Object, meta, time};
use edge_store::{Expect, Op, Revision};
use serde_json::json;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Seconds a pod gets when it does not say.
const POD_GRACE: i64 = 30;

/// The outcome of a delete.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; this is its last state.
    Gone(Written),
    /// The object is marked and goes later.
    Pending(Written),
}

/// What a delete does to the object as it is.
enum Step {
    /// It is on its way already; nothing changes.
    Nothing,
    /// It is marked.
    Mark(Object),
    /// It goes now.
    Remove(Object),
}

impl Api {
    /// Deletes an object, or begins to.
    pub async fn delete(
        &self,
        who: &Identity,
        place: Place<'_>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let _ending = match place.kind == kinds::NAMESPACE {
            true => Some(self.inner.namespaces.clone().write_owned().await),
            false => None,
        };
        for _ in 0..RETRIES {
            let entry = self.writable(place)?;
            let old = read_object(&entry.value)?;
            check(place, &old, options)?;
            admission::delete(who, place)?;
            let expect = Expect::Revision(entry.revision);
            let (object, removed) = match step(place.kind, &old, options) {
                Step::Nothing => {
                    let bytes = entry.value.clone();
                    let outcome = Written { object: old, bytes, warnings: Vec::new() };
                    return Ok(Deleted::Pending(outcome));
                }
                Step::Mark(object) => (object, false),
                Step::Remove(object) => (object, true),
            };
            let outcome = if options.dry_run {
                return tried(object, Vec::new()).map(if removed {
                    Deleted::Gone
                } else {
                    Deleted::Pending
                });
            } else if removed {
                self.commit_delete(place.key(), &object, expect, Vec::new()).await
            } else {
                self.commit(place.key(), &object, expect, Vec::new()).await
            };
            match outcome {
                Ok((revision, bytes)) => {
                    let outcome = written(object, revision, bytes, Vec::new());
                    return Ok(if removed {
                        Deleted::Gone(outcome)
                    } else {
                        Deleted::Pending(outcome)
                    });
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::Status(status)) => return Err(status),
            }
        }
        Err(Status::modified(place.kind, place.name))
    }

    /// Proposes that an object goes, with the state that watchers see last.
    pub(super) async fn commit_delete(
        &self,
        key: String,
        last: &Object,
        expect: Expect,
        mut also: Vec<Op>,
    ) -> Result<(Revision, Bytes), CommitError> {
        let written = Unstamped::write(last).map_err(CommitError::Status)?;
        let (bytes, at) = written.parts();
        also.insert(0, Op::Delete { key, last: bytes, stamp: Some(at), expect });
        let revision = self.propose(also).await?;
        Ok((revision, written.at(revision)))
    }
}

fn check(place: Place<'_>, old: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let (have_uid, have_revision) = (meta::uid(old), meta::resource_version(old));
    if let Some(want) = options.uid.as_deref().filter(|want| *want != have_uid) {
        return Err(Status::precondition(place.kind, place.name, "UID", want, have_uid));
    }
    if let Some(want) = options.resource_version.as_deref().filter(|want| *want != have_revision) {
        let what = "ResourceVersion";
        return Err(Status::precondition(place.kind, place.name, what, want, have_revision));
    }
    Ok(())
}

/// Decides what a delete does to an object.
fn step(kind: &Kind, old: &Object, options: &DeleteOptions) -> Step {
    let mut new = old.clone();
    match options.propagation {
        None => {}
        Some(policy) => {
            meta::remove_finalizer(&mut new, FOREGROUND);
            meta::remove_finalizer(&mut new, ORPHAN);
            match policy {
                Propagation::Background => {}
                Propagation::Foreground => meta::add_finalizer(&mut new, FOREGROUND),
                Propagation::Orphan => meta::add_finalizer(&mut new, ORPHAN),
            }
        }
    }
    let grace = if kind == kinds::POD { pod_grace(old, options) } else { 0 };
    if meta::is_deleting(old) {
        let had = meta::deletion_grace_seconds(old).unwrap_or(0);
        if grace < had {
            let end = meta::deletion_timestamp(old).and_then(time::parse).unwrap_or(now_ms());
            let end = if grace == 0 { end.min(now_ms()) } else { end - (had - grace) * 1000 };
            meta::set(&mut new, "deletionTimestamp", time::format(end));
            meta::set(&mut new, "deletionGracePeriodSeconds", grace);
        } else if had > 0 {
            return if new == *old { Step::Nothing } else { Step::Mark(new) };
        }
    } else if grace > 0 || holds(kind, &new) {
        meta::set(&mut new, "deletionTimestamp", time::format(now_ms() + grace * 1000));
        meta::set(&mut new, "deletionGracePeriodSeconds", grace);
        let generation = meta::generation(old);
        if generation > 0 {
            meta::set(&mut new, "generation", generation + 1);
        }
        if kind == kinds::NAMESPACE {
            meta::ensure(&mut new, "status").insert("phase".to_owned(), json!("Terminating"));
        }
    } else {
        return Step::Remove(new);
    }
    if grace == 0 && !holds(kind, &new) {
        Step::Remove(new)
    } else if new == *old {
        Step::Nothing
    } else {
        Step::Mark(new)
    }
}

/// How long a pod may take to end: nobody runs one that has no board or has ended by itself.
fn pod_grace(pod: &Object, options: &DeleteOptions) -> i64 {
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if !bound || matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return 0;
    }
    let own = || pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(POD_GRACE);
    let grace = options.grace_period_seconds.unwrap_or_else(own);
    if grace < 0 { 1 } else { grace }
}

/// Whether finalizers hold an object.
fn holds(kind: &Kind, object: &Object) -> bool {
    let spec = || object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    meta::finalizers(object).next().is_some() || (kind == kinds::NAMESPACE && spec())
}

/// Whether an update leaves an object that was only waiting for it to go.
pub(super) fn ends_with_update(kind: &Kind, new: &Object) -> bool {
    meta::is_deleting(new)
        && meta::deletion_grace_seconds(new).unwrap_or(0) == 0
        && !holds(kind, new)
}

/// Whether the answer to a finished delete is the object instead of a Status.
pub(crate) fn returns_object(kind: &Kind) -> bool {
    [kinds::POD, kinds::SERVICE, kinds::NAMESPACE, kinds::SERVICE_ACCOUNT].contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, phase: &str) -> Object {
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 10},
            "status": {"phase": phase},
        })
    }

    fn with_grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
    }

    #[test]
    fn pods_get_time_only_where_somebody_runs_them() {
        let plain = DeleteOptions::default();
        assert!(matches!(step(kinds::POD, &pod("", "Pending"), &plain), Step::Remove(_)));
        assert!(matches!(step(kinds::POD, &pod("n", "Succeeded"), &plain), Step::Remove(_)));
        assert!(matches!(step(kinds::POD, &pod("n", "Running"), &with_grace(0)), Step::Remove(_)));
        let Step::Mark(marked) = step(kinds::POD, &pod("n", "Running"), &plain) else {
            panic!("a running pod is marked")
        };
        assert_eq!(meta::deletion_grace_seconds(&marked), Some(10));
        assert_eq!(meta::generation(&marked), 2);
        assert!(matches!(step(kinds::POD, &marked, &plain), Step::Nothing));
        assert!(matches!(step(kinds::POD, &marked, &with_grace(60)), Step::Nothing));
        let Step::Mark(sooner) = step(kinds::POD, &marked, &with_grace(2)) else {
            panic!("a shorter grace is taken over")
        };
        assert_eq!(meta::deletion_grace_seconds(&sooner), Some(2));
        assert!(matches!(step(kinds::POD, &sooner, &with_grace(0)), Step::Remove(_)));
    }

    #[test]
    fn finalizers_hold_an_object() {
        let foreground = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        let object = json!({"metadata": {"name": "a"}});
        let Step::Mark(mut marked) = step(kinds::DEPLOYMENT, &object, &foreground) else {
            panic!("foreground deletion waits")
        };
        assert!(meta::has_finalizer(&marked, FOREGROUND));
        let plain = DeleteOptions::default();
        assert!(matches!(step(kinds::DEPLOYMENT, &marked, &plain), Step::Nothing));
        assert!(!ends_with_update(kinds::DEPLOYMENT, &marked));
        meta::remove_finalizer(&mut marked, FOREGROUND);
        assert!(ends_with_update(kinds::DEPLOYMENT, &marked));
        assert!(matches!(step(kinds::DEPLOYMENT, &object, &plain), Step::Remove(_)));
    }

    #[test]
    fn namespaces_wait_for_their_finalizer() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let Step::Mark(marked) = step(kinds::NAMESPACE, &object, &DeleteOptions::default()) else {
            panic!("a namespace waits")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
        assert!(!ends_with_update(kinds::NAMESPACE, &marked));
    }
}
