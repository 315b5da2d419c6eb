//! Roles and bindings as the store has them, for `edge_core::rbac` to decide by; those that every
//! cluster has; and the check that nobody gives away more than they have.

use super::Identity;
use crate::api::{Api, Place, WriteOptions, read_object};
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use edge_api::{Object, meta};
use edge_core::rbac::{self, Policy, Rule, Subject, What};
use edge_store::ListOptions;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::sync::Arc;

/// The store's roles and bindings.
pub(super) struct Stored<'a>(pub(super) &'a Api);

impl Stored<'_> {
    fn list(&self, kind: &'static Kind, namespace: &str) -> Vec<Arc<Object>> {
        let prefix = kind.key_prefix(Some(namespace));
        let listing = self.0.store().list(&prefix, ListOptions::default());
        let entries = listing.map(|listing| listing.entries).unwrap_or_default();
        let read = entries.iter().filter_map(|entry| read_object(&entry.value).ok());
        read.map(Arc::new).collect()
    }

    fn one(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0.object(Place::new(kind, namespace, name)).ok().map(Arc::new)
    }
}

impl Policy for Stored<'_> {
    fn cluster_role_bindings(&self) -> Vec<Arc<Object>> {
        self.list(kinds::CLUSTER_ROLE_BINDING, "")
    }

    fn role_bindings(&self, namespace: &str) -> Vec<Arc<Object>> {
        self.list(kinds::ROLE_BINDING, namespace)
    }

    fn cluster_role(&self, name: &str) -> Option<Arc<Object>> {
        self.one(kinds::CLUSTER_ROLE, "", name)
    }

    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.one(kinds::ROLE, namespace, name)
    }
}

fn subject(who: &Identity) -> Subject<'_> {
    Subject { user: &who.user, groups: &who.groups }
}

/// Whether a binding allows `who` to do `what`; administrators need none.
pub(super) fn allows(api: &Api, who: &Identity, what: &What<'_>) -> bool {
    who.in_group("system:masters") || rbac::allows(&Stored(api), &subject(who), what)
}

/// All rules that hold for `who` in a namespace.
pub(super) fn rules(api: &Api, who: &Identity, namespace: &str) -> Vec<Rule> {
    rbac::rules(&Stored(api), &subject(who), namespace)
}

/// Makes the roles and bindings that every cluster has, and mends those that are meant to be kept
/// as they are. Independent writes at the same time: the log groups them.
pub(crate) async fn furnish(api: &Api) -> Result<(), Status> {
    let who = Identity::system("apiserver");
    let roles = rbac::cluster_roles().into_iter().map(|role| (kinds::CLUSTER_ROLE, role));
    let bindings = rbac::cluster_role_bindings();
    let bindings = bindings.into_iter().map(|one| (kinds::CLUSTER_ROLE_BINDING, one));
    let all: Vec<_> = roles.chain(bindings).collect();
    try_join_all(all.into_iter().map(|(kind, want)| ensure(api, &who, kind, want))).await?;
    Ok(())
}

async fn ensure(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    want: Object,
) -> Result<(), Status> {
    let name = meta::name(&want).to_owned();
    let place = Place::new(kind, "", &name);
    let options = WriteOptions::default();
    let mut have = match api.object(place) {
        Ok(have) => have,
        Err(status) if status.is_not_found() => {
            return api.create(who, kind, "", want, &options).await.map(drop);
        }
        Err(status) => return Err(status),
    };
    let keep = meta::annotation(&have, "rbac.authorization.kubernetes.io/autoupdate");
    // The rules of a role that is made of others are the controller's to write.
    let fields: &[&str] = match want["aggregationRule"].is_object() {
        true => &["aggregationRule"],
        false => &["rules", "roleRef", "subjects"],
    };
    let same = |field: &&&str| have[**field] == want[**field];
    if keep != Some("true") || fields.iter().all(|field| same(&field)) {
        return Ok(());
    }
    for field in fields.iter().filter(|field| !want[**field].is_null()) {
        have[*field] = want[*field].clone();
    }
    api.update(who, place, have, &options).await.map(drop)
}

/// Refuses to let `who` make or change a role or a binding that gives more than they have.
pub(crate) fn may_grant(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    new: &Object,
    old: Option<&Object>,
) -> Result<(), Status> {
    let of_roles = kind == kinds::ROLE || kind == kinds::CLUSTER_ROLE;
    let fields: &[&str] = match of_roles {
        true => &["rules", "aggregationRule"],
        false => &["roleRef", "subjects"],
    };
    let unchanged = old.is_some_and(|old| fields.iter().all(|f| new[*f] == old[*f]));
    if who.in_group("system:masters") || unchanged {
        return Ok(());
    }
    let namespace = meta::namespace(new);
    let (verb, resource, name) = match of_roles {
        true => ("escalate", kind.plural, meta::name(new)),
        false => {
            let of = if new["roleRef"]["kind"] == "Role" { "roles" } else { "clusterroles" };
            ("bind", of, new["roleRef"]["name"].as_str().unwrap_or_default())
        }
    };
    let (group, sub) = (kind.group, "");
    let what = What::Resource { verb, group, resource, sub, namespace, name };
    if allows(api, who, &what) {
        return Ok(());
    }
    let wanted = match of_roles {
        // Whatever gets the label becomes part of it.
        true if new["aggregationRule"].is_object() => vec![everything()],
        true => Rule::all_of(new),
        false => rbac::of_role(&Stored(api), new, namespace),
    };
    let missing = rbac::uncovered(&rules(api, who, namespace), &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        who.groups,
        missing.join("\n")
    );
    Err(Status::forbidden(kind, meta::name(new), &why))
}

fn everything() -> Rule {
    let all: Value = json!({
        "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "nonResourceURLs": ["*"],
    });
    Rule::of(&all)
}
