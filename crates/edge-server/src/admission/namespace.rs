//! The life of a namespace: nothing is created in one that is not there or is going, some are
//! never deleted, and none goes while it holds anything.

use crate::api::{Api, Place, Unstamped, now_ms};
use edge_api::kinds::{self, Kind};
use edge_api::status::{Cause, Status};
use edge_api::strategy::Stamp;
use edge_api::{Object, meta, time};
use edge_core::controllers::root_ca;
use edge_store::{Expect, ListOptions, Op};
use serde_json::json;

/// Namespaces that stay.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// Refuses an object in a namespace that is missing or going.
pub(super) fn open(api: &Api, kind: &Kind, object: &Object) -> Result<(), Status> {
    let name = meta::namespace(object);
    let namespace = api.object(Place::new(kinds::NAMESPACE, "", name))?;
    if !meta::is_deleting(&namespace) {
        return Ok(());
    }
    let why =
        format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(kind, meta::name(object), &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}

/// What comes with a namespace: the ServiceAccount that its pods run as, and the authority by which
/// they know the API.
pub(super) fn furnish(api: &Api, namespace: &str) -> Result<Vec<Op>, Status> {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": "default", "namespace": namespace },
    });
    let authority = root_ca::object(namespace, &api.inner.root_ca);
    let mut ops = Vec::new();
    for (kind, mut object) in [(kinds::SERVICE_ACCOUNT, account), (kinds::CONFIG_MAP, authority)] {
        let key = kind.key(namespace, meta::name(&object));
        if api.entry(&key)?.is_some() {
            continue;
        }
        let now = time::format(now_ms());
        kind.prepare_create(&mut object, &Stamp { uid: api.uid(), now, random: api.random() })?;
        let (value, at) = Unstamped::write(&object)?.parts();
        ops.push(Op::Put { key, value, stamp: Some(at), expect: Expect::Any });
    }
    Ok(ops)
}

/// Refuses to delete a namespace that the cluster needs.
pub(super) fn may_delete(name: &str) -> Result<(), Status> {
    if IMMORTAL.contains(&name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden(kinds::NAMESPACE, name, why));
    }
    Ok(())
}

/// Refuses to let a namespace go that still holds something.
pub(super) fn may_end(api: &Api, namespace: &Object) -> Result<(), Status> {
    let held = namespace["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if held {
        return Ok(());
    }
    let name = meta::name(namespace);
    for kind in kinds::all().iter().filter(|kind| kind.namespaced) {
        let one = ListOptions { limit: 1, ..ListOptions::default() };
        let listing = api.store().list(&kind.key_prefix(Some(name)), one);
        let listing = listing.map_err(|error| Status::internal(error.to_string()))?;
        if !listing.entries.is_empty() {
            let why = format!("the namespace still holds {}", kind.resource());
            return Err(Status::conflict(kinds::NAMESPACE, name, &why));
        }
    }
    Ok(())
}
