//! `pods/binding` and `pods/eviction`: giving a pod its board, and taking it away in the polite
//! way.

use super::delete::Deleted;
use super::intake::Body;
use super::options::{DeleteOptions, WriteOptions};
use super::{Api, Place, Written, now_ms};
use crate::auth::Identity;
use edge_api::kinds;
use edge_api::status::Status;
use edge_api::{Object, meta, time};
use serde_json::json;

impl Api {
    /// Binds a pod to a board, as a Binding says. The Binding may name the pod's uid.
    pub async fn bind(
        &self,
        who: &Identity,
        namespace: &str,
        name: &str,
        binding: &Object,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let kind = binding["target"]["kind"].as_str().unwrap_or_default();
        if node.is_empty() || !matches!(kind, "" | "Node") {
            return Err(Status::bad_request("target must be a Node, with its name"));
        }
        let place = Place::new(kinds::POD, namespace, name).subresource("binding");
        self.change(who, place, options, |old| {
            check(old, name, binding)?;
            let mut pod = old.clone();
            pod["spec"]["nodeName"] = json!(node);
            for (key, value) in meta::annotations(binding).into_iter().flatten() {
                meta::set_annotation(&mut pod, key, value.as_str().unwrap_or_default());
            }
            set_scheduled(&mut pod);
            Ok(Body::from(pod))
        })
        .await
    }

    /// Evicts a pod: a delete with the options that the Eviction carries.
    pub(crate) async fn evict(
        &self,
        who: &Identity,
        place: Place<'_>,
        eviction: &Object,
        dry_run: bool,
    ) -> Result<Deleted, Status> {
        let mut options = DeleteOptions { dry_run, ..DeleteOptions::default() };
        options.merge(&eviction["deleteOptions"])?;
        self.delete(who, Place { sub: "", ..place }, &options).await
    }
}

fn check(pod: &Object, name: &str, binding: &Object) -> Result<(), Status> {
    let conflict = |why: String| {
        let mut status = Status::conflict(kinds::POD, name, &why);
        status.message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {why}");
        status
    };
    let (want, have) = (meta::uid(binding), meta::uid(pod));
    if !want.is_empty() && want != have {
        return Err(Status::precondition(kinds::POD, name, "UID", want, have));
    }
    if meta::is_deleting(pod) {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    match pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        Some(node) => Err(conflict(format!("pod {name} is already assigned to node \"{node}\""))),
        None => Ok(()),
    }
}

fn set_scheduled(pod: &mut Object) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": time::format(now_ms()),
    });
    let status = meta::ensure(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    match conditions.as_array_mut() {
        Some(list) => {
            list.retain(|other| other["type"] != "PodScheduled");
            list.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}
