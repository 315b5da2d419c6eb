//! Updating an object or its status: optimistic concurrency, the kind's own rules, and the rule
//! that an update which changes nothing writes nothing.

use super::intake::{self, Body};
use super::options::WriteOptions;
use super::{Api, CommitError, Place, Written, read_object, tried, written};
use crate::admission;
use crate::auth::Identity;
use edge_api::status::Status;
use edge_api::{Object, meta};
use edge_store::{Entry, Expect};

/// How often a write that names no revision is tried again when somebody else was first.
pub(super) const RETRIES: u32 = 8;

/// An update that was checked against one state of the object.
enum Attempt {
    Done(Written),
    /// The object changed meanwhile.
    Stale,
}

impl Api {
    /// Replaces an object, or the part of it that the place's subresource names.
    pub async fn update(
        &self,
        who: &Identity,
        place: Place<'_>,
        object: Object,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.update_from(who, place, object.into(), options).await
    }

    pub(crate) async fn update_from(
        &self,
        who: &Identity,
        place: Place<'_>,
        mut body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let warnings = intake::decode(place.kind, &mut body, options.field_validation)?;
        check_place(place, &body.object)?;
        let pinned = !meta::resource_version(&body.object).is_empty();
        for _ in 0..RETRIES {
            let entry = self.writable(place)?;
            let new = body.object.clone();
            match self.attempt(who, place, &entry, new, warnings.clone(), options).await? {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Stale if pinned => break,
                Attempt::Stale => {}
            }
        }
        Err(Status::modified(place.kind, place.name))
    }

    /// Changes an object by a function of its current state, again if somebody else was first.
    pub(crate) async fn change(
        &self,
        who: &Identity,
        place: Place<'_>,
        options: &WriteOptions,
        mut edit: impl FnMut(&Object) -> Result<Body, Status>,
    ) -> Result<Written, Status> {
        for _ in 0..RETRIES {
            let entry = self.writable(place)?;
            let old = read_object(&entry.value)?;
            let mut body = edit(&old)?;
            let warnings = intake::decode(place.kind, &mut body, options.field_validation)?;
            check_place(place, &body.object)?;
            match self.attempt(who, place, &entry, body.object, warnings, options).await? {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Stale => {}
            }
        }
        Err(Status::modified(place.kind, place.name))
    }

    /// The object to be written, unless it is one that nobody may write.
    pub(super) fn writable(&self, place: Place<'_>) -> Result<Entry, Status> {
        if self.holds_lease(place) {
            let why = "it is held in memory by the leading board";
            return Err(Status::forbidden(place.kind, place.name, why));
        }
        self.entry(&place.key())?.ok_or_else(|| place.not_found())
    }

    async fn attempt(
        &self,
        who: &Identity,
        place: Place<'_>,
        entry: &Entry,
        mut new: Object,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Attempt, Status> {
        let kind = place.kind;
        let old = read_object(&entry.value)?;
        check_preconditions(place, &old, &new)?;
        kind.default(&mut new);
        match place.sub {
            "status" => kind.prepare_status_update(&mut new, &old),
            "finalize" => new = finalized(&old, &new),
            "binding" => {}
            _ => kind.prepare_update(&mut new, &old),
        }
        let admitted = admission::update(self, who, place, &mut new, &old).await?;
        let mut errors = match place.sub {
            "status" => kind.validate_status(&new, &old),
            // A binding sets what an update may not.
            "binding" => Vec::new(),
            _ => kind.validate(&new, Some(&old)),
        };
        errors.extend(admitted.errors);
        if !errors.is_empty() {
            return Err(Status::invalid(kind, place.name, &errors));
        }
        meta::set(&mut new, "resourceVersion", entry.revision.to_string());
        if new == old {
            let (object, bytes) = (old, entry.value.clone());
            return Ok(Attempt::Done(Written { object, bytes, warnings }));
        }
        if options.dry_run {
            return tried(new, warnings).map(Attempt::Done);
        }
        let ended = super::delete::ends_with_update(kind, &new);
        let expect = Expect::Revision(entry.revision);
        let outcome = if ended {
            self.commit_delete(place.key(), &new, expect, admitted.also).await
        } else {
            self.commit(place.key(), &new, expect, admitted.also).await
        };
        match outcome {
            Ok((revision, bytes)) => Ok(Attempt::Done(written(new, revision, bytes, warnings))),
            Err(CommitError::Conflict) => Ok(Attempt::Stale),
            Err(CommitError::Status(status)) => Err(status),
        }
    }
}

/// Checks the name and namespace in an object against the path's.
fn check_place(place: Place<'_>, object: &Object) -> Result<(), Status> {
    let name = meta::name(object);
    if name != place.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            place.name
        )));
    }
    let namespace = meta::namespace(object);
    if place.kind.namespaced && !namespace.is_empty() && namespace != place.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL \
             ({})",
            place.namespace
        )));
    }
    Ok(())
}

/// Checks the uid and revision that the caller's object carries.
fn check_preconditions(place: Place<'_>, old: &Object, new: &Object) -> Result<(), Status> {
    let (want, have) = (meta::uid(new), meta::uid(old));
    if !want.is_empty() && want != have {
        return Err(Status::precondition(place.kind, place.name, "UID", want, have));
    }
    let (want, have) = (meta::resource_version(new), meta::resource_version(old));
    if want.is_empty() || want == "0" || want == have {
        return Ok(());
    }
    if want.parse::<u64>().is_err() {
        let mut errors = edge_api::field::Errors::new();
        let metadata = edge_api::field::Path::new("metadata");
        errors.invalid(&metadata.child("resourceVersion"), want, "must be an unsigned integer");
        return Err(Status::invalid(place.kind, place.name, &errors.into_vec()));
    }
    Err(Status::modified(place.kind, place.name))
}

/// `/finalize` changes a Namespace's `spec.finalizers` and nothing else.
fn finalized(old: &Object, new: &Object) -> Object {
    let mut object = old.clone();
    match new["spec"].get("finalizers").filter(|list| !list.is_null()) {
        Some(list) => object["spec"]["finalizers"] = list.clone(),
        None => {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove("finalizers");
            }
        }
    }
    object
}
