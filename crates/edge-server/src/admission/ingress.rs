//! What a new Ingress gets that names no class: the cluster's default one (as Kubernetes'
//! `DefaultIngressClass` has it). Without a default class it stays as it is.

use crate::api::{Api, read_object};
use edge_api::Object;
use edge_api::kinds;
use edge_api::status::Status;
use edge_core::ingress;
use edge_store::ListOptions;
use serde_json::json;

/// Completes a new Ingress.
pub(super) fn complete(api: &Api, object: &mut Object) -> Result<(), Status> {
    if ingress::named(object).is_some() || !object["spec"].is_object() {
        return Ok(());
    }
    let prefix = kinds::INGRESS_CLASS.key_prefix(None);
    let listing = api.store().list(&prefix, ListOptions::default()).map_err(Status::internal)?;
    let classes = listing.entries.iter().map(|entry| read_object(&entry.value));
    let classes = classes.collect::<Result<Vec<Object>, _>>()?;
    if let Some(class) = ingress::default_of(&classes) {
        object["spec"]["ingressClassName"] = json!(class);
    }
    Ok(())
}
