//! Creating an object: the whole pipeline from a client's body to an answer.

use super::intake::{self, Body};
use super::options::WriteOptions;
use super::{Api, CommitError, LEADER_LEASE, Place, Written, now_ms, tried, written};
use crate::admission;
use crate::auth::Identity;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use edge_api::strategy::Stamp;
use edge_api::{Object, meta, time};
use edge_store::Expect;

/// How often a generated name is drawn anew when it is taken.
const NAME_TRIES: u32 = 8;

impl Api {
    /// Creates an object in a namespace (empty for cluster-wide kinds).
    pub async fn create(
        &self,
        who: &Identity,
        kind: &'static Kind,
        namespace: &str,
        object: Object,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.create_from(who, kind, namespace, object.into(), options).await
    }

    pub(crate) async fn create_from(
        &self,
        who: &Identity,
        kind: &'static Kind,
        namespace: &str,
        mut body: Body,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let warnings = intake::decode(kind, &mut body, options.field_validation)?;
        let mut object = body.object;
        intake::check_namespace(kind, &mut object, namespace)?;
        let generated = meta::name(&object).is_empty();
        if generated && meta::generate_name(&object).is_empty() {
            return Err(no_name(kind));
        }
        if kind == kinds::LEASE && (namespace, meta::name(&object)) == LEADER_LEASE {
            return Err(Status::already_exists(kind, meta::name(&object)));
        }
        kind.default(&mut object);
        let mut tries = if generated { NAME_TRIES } else { 1 };
        loop {
            tries -= 1;
            let mut object = object.clone();
            let stamp =
                Stamp { uid: self.uid(), now: time::format(now_ms()), random: self.random() };
            kind.prepare_create(&mut object, &stamp)?;
            if generated {
                // Some defaults come from the name.
                kind.default(&mut object);
            }
            match self.create_named(who, kind, object, warnings.clone(), options).await {
                Err(status) if tries > 0 && taken(&status) => {}
                outcome => return outcome,
            }
        }
    }

    async fn create_named(
        &self,
        who: &Identity,
        kind: &'static Kind,
        mut object: Object,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let admitted = admission::create(self, who, kind, &mut object).await?;
        let name = meta::name(&object).to_owned();
        let mut errors = kind.validate(&object, None);
        errors.extend(admitted.errors);
        if !errors.is_empty() {
            return Err(Status::invalid(kind, &name, &errors));
        }
        let namespace = meta::namespace(&object).to_owned();
        let key = Place::new(kind, &namespace, &name).key();
        if options.dry_run {
            return match self.entry(&key)? {
                Some(_) => Err(Status::already_exists(kind, &name)),
                None => tried(object, warnings),
            };
        }
        match self.commit(key, &object, Expect::Absent, admitted.also).await {
            Ok((revision, bytes)) => Ok(written(object, revision, bytes, warnings)),
            Err(CommitError::Conflict) => Err(Status::already_exists(kind, &name)),
            Err(CommitError::Status(status)) => Err(status),
        }
    }
}

fn taken(status: &Status) -> bool {
    status.reason == edge_api::status::Reason::AlreadyExists
}

fn no_name(kind: &Kind) -> Status {
    let mut errors = edge_api::field::Errors::new();
    let metadata = edge_api::field::Path::new("metadata");
    errors.required(&metadata.child("name"), "name or generateName is required");
    Status::invalid(kind, "", &errors.into_vec())
}
