//! What a request must pass besides its kind's own rules: checks and additions that look at other
//! objects, such as the namespace something is created in or the addresses that are taken.

mod account;
mod families;
mod ingress;
mod namespace;
mod node;
mod node_ports;
mod pod;
mod service;

use crate::api::{Api, Place};
use crate::auth::{self, Identity};
use crate::join::KEY_ANNOTATION;
use edge_api::field::FieldError;
use edge_api::kinds::{self, Kind};
use edge_api::status::Status;
use edge_api::{Object, meta};
use edge_store::Op;
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

/// What admission adds to a write. It is held until the write is done.
#[derive(Default)]
pub(crate) struct Admitted {
    /// What must be written together with the object.
    pub(crate) also: Vec<Op>,
    /// Complaints that belong with those of the kind's validation.
    pub(crate) errors: Vec<FieldError>,
    _staying: Option<OwnedRwLockReadGuard<()>>,
    _ending: Option<OwnedRwLockWriteGuard<()>>,
    _allocating: Option<OwnedMutexGuard<()>>,
}

/// Admits a new object, adding to it what the cluster decides.
pub(crate) async fn create(
    api: &Api,
    who: &Identity,
    kind: &'static Kind,
    object: &mut Object,
) -> Result<Admitted, Status> {
    let mut admitted = Admitted::default();
    if kind.namespaced {
        admitted._staying = Some(api.inner.namespaces.clone().read_owned().await);
        namespace::open(api, kind, object)?;
    }
    if kind == kinds::POD {
        pod::complete(api, object)?;
    } else if kind == kinds::SERVICE {
        admitted._allocating = Some(api.inner.allocation.clone().lock_owned().await);
        admitted.errors = service::allocate(api, object, None)?;
    } else if kind == kinds::INGRESS {
        ingress::complete(api, object)?;
    } else if kind == kinds::NAMESPACE {
        admitted.also = namespace::furnish(api, meta::name(object))?;
    } else if kind == kinds::EVENT {
        admitted.also = api.expired_events();
    } else if gives(kind) {
        auth::may_grant(api, who, kind, object, None)?;
    } else if kind == kinds::NODE {
        own_node(who, meta::name(object))?;
        own_key(who, object, None)?;
        admitted._allocating = Some(api.inner.allocation.clone().lock_owned().await);
        node::complete(api, object, None)?;
    }
    Ok(admitted)
}

/// Admits a change.
pub(crate) async fn update(
    api: &Api,
    who: &Identity,
    place: Place<'_>,
    new: &mut Object,
    old: &Object,
) -> Result<Admitted, Status> {
    let mut admitted = Admitted::default();
    let kind = place.kind;
    // What is as it was needs nothing, and is not judged anew: rules become stricter.
    let same = || new["spec"] == old["spec"];
    if kind == kinds::SERVICE && place.sub.is_empty() && !same() {
        admitted._allocating = Some(api.inner.allocation.clone().lock_owned().await);
        admitted.errors = service::allocate(api, new, Some(old))?;
    } else if kind == kinds::NAMESPACE && meta::is_deleting(new) {
        admitted._ending = Some(api.inner.namespaces.clone().write_owned().await);
        namespace::may_end(api, new)?;
    } else if kind == kinds::EVENT {
        admitted.also = api.expired_events();
    } else if gives(kind) {
        auth::may_grant(api, who, kind, new, Some(old))?;
    } else if kind == kinds::NODE {
        own_node(who, place.name)?;
        own_key(who, new, Some(old))?;
        if place.sub.is_empty() {
            admitted._allocating = Some(api.inner.allocation.clone().lock_owned().await);
            node::complete(api, new, Some(old))?;
        }
    }
    Ok(admitted)
}

/// Whether objects of this kind let somebody do something.
fn gives(kind: &Kind) -> bool {
    [kinds::ROLE, kinds::ROLE_BINDING, kinds::CLUSTER_ROLE, kinds::CLUSTER_ROLE_BINDING]
        .contains(&kind)
}

/// Admits a delete.
pub(crate) fn delete(who: &Identity, place: Place<'_>) -> Result<(), Status> {
    if place.kind == kinds::NAMESPACE {
        namespace::may_delete(place.name)?;
    } else if place.kind == kinds::NODE {
        own_node(who, place.name)?;
    }
    Ok(())
}

/// Whose a board is, is not for the board to say: a Node that it makes carries the key that it has
/// proven, and keeps it.
fn own_key(who: &Identity, new: &mut Object, old: Option<&Object>) -> Result<(), Status> {
    if who.node().is_none() {
        return Ok(());
    }
    let key = match old {
        Some(old) => meta::annotation(old, KEY_ANNOTATION).map(str::to_owned),
        None => who.key.as_ref().map(|key| key.as_str().to_owned()),
    };
    match key {
        Some(key) => meta::set_annotation(new, KEY_ANNOTATION, &key),
        None if meta::annotation(new, KEY_ANNOTATION).is_some() => {
            let why = format!("the annotation {KEY_ANNOTATION} is not for a board to set");
            return Err(Status::forbidden(kinds::NODE, meta::name(new), &why));
        }
        None => {}
    }
    Ok(())
}

/// An agent sees to its own Node only.
fn own_node(who: &Identity, name: &str) -> Result<(), Status> {
    match who.node() {
        Some(board) if board != name => {
            let why = format!("node \"{board}\" is not allowed to modify node \"{name}\"");
            Err(Status::forbidden(kinds::NODE, name, &why))
        }
        _ => Ok(()),
    }
}
