//! What `describe` says about an object, in `kubectl`'s layout. Pure: everything it needs is read
//! before, so that whole pages can be tested.

mod containers;
mod data;
mod generic;
mod ingress;
mod node;
mod paper;
mod pod;
mod policy;
mod service;
mod volumes;
mod workload;

use edge_api::{Object, meta};
use jiff::Timestamp;
pub(crate) use paper::Paper;

/// An object and what is told along with it.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    pub(crate) object: Object,
    /// Its events, oldest first; none were looked for when this is `None`.
    pub(crate) events: Option<Vec<Object>>,
    /// A Deployment's ReplicaSets.
    pub(crate) replica_sets: Vec<Object>,
    /// A node's pods, or those that a ReplicaSet owns.
    pub(crate) pods: Vec<Object>,
    /// A Service's EndpointSlices.
    pub(crate) slices: Vec<Object>,
    /// A node's lease.
    pub(crate) lease: Object,
}

/// The page about an object.
pub(crate) fn page(subject: &Subject, now: Timestamp) -> String {
    let mut paper = Paper::new(now);
    let object = &subject.object;
    match object["kind"].as_str().unwrap_or("") {
        "Pod" => pod::write(object, &mut paper),
        "Node" => node::write(subject, &mut paper),
        "Deployment" => workload::deployment(subject, &mut paper),
        "ReplicaSet" => workload::replica_set(subject, &mut paper),
        "Service" => service::write(subject, &mut paper),
        "Ingress" => ingress::write(object, &mut paper),
        "NetworkPolicy" => policy::write(object, &mut paper),
        "ConfigMap" => data::config_map(object, &mut paper),
        "Secret" => data::secret(object, &mut paper),
        "Namespace" => data::namespace(object, &mut paper),
        _ => generic::write(object, &mut paper),
    }
    if let Some(events) = &subject.events {
        paper.events(events);
    }
    paper.finish()
}

/// The part about a pod template alone, for `rollout history`.
pub(crate) fn template(template: &Object) -> String {
    let mut paper = Paper::new(Timestamp::UNIX_EPOCH);
    workload::template(template, &mut paper);
    paper.finish()
}

/// Name, namespace, labels and annotations, as most pages begin.
fn heading(object: &Object, paper: &mut Paper) {
    paper.line(0, format!("Name:\t{}", meta::name(object)));
    let namespace = meta::namespace(object);
    if !namespace.is_empty() {
        paper.line(0, format!("Namespace:\t{namespace}"));
    }
}

/// A text, or `<none>`.
fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// The text of a value; nothing for null.
fn text(value: &Object) -> String {
    match value {
        Object::Null => String::new(),
        Object::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The items of a list; none when it is not one.
fn items(value: &Object) -> &[Object] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
