//! Rows of workloads, nodes, events and the kinds that hold data.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, Column, NAME, Table, age, containers_text, count, list, name, number, or, selector_text,
    since, text, wide,
};
use crate::{Object, meta, pod};

const PLAIN_COLUMNS: &[Column] = &[NAME, AGE];

/// The table of a kind without columns of its own.
pub(crate) const PLAIN: Table = Table { columns: PLAIN_COLUMNS, cells: plain };

fn plain(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

const CONTAINERS: Column = wide("Containers", "The names of the containers.");
const IMAGES: Column = wide("Images", "The images of the containers.");
const SELECTOR: Column = wide("Selector", "The labels of its pods.");

const DEPLOYMENT_COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many pods are ready, of how many."),
    number("Up-to-date", "How many pods are of the newest template."),
    number("Available", "How many pods have been ready for long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// The table of Deployments.
pub(crate) const DEPLOYMENT: Table = Table { columns: DEPLOYMENT_COLUMNS, cells: deployment };

fn deployment(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let (ready, desired) = (count(&status["readyReplicas"]), count(&spec["replicas"]));
    vec![
        name(object),
        json!(format!("{ready}/{desired}")),
        json!(count(&status["updatedReplicas"])),
        json!(count(&status["availableReplicas"])),
        age(object, now),
        json!(containers_text(&spec["template"], "name")),
        json!(containers_text(&spec["template"], "image")),
        json!(selector_text(&spec["selector"])),
    ]
}

const REPLICA_SET_COLUMNS: &[Column] = &[
    NAME,
    number("Desired", "How many pods there should be."),
    number("Current", "How many pods there are."),
    number("Ready", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// The table of ReplicaSets.
pub(crate) const REPLICA_SET: Table = Table { columns: REPLICA_SET_COLUMNS, cells: replica_set };

fn replica_set(object: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    vec![
        name(object),
        json!(count(&spec["replicas"])),
        json!(count(&status["replicas"])),
        json!(count(&status["readyReplicas"])),
        age(object, now),
        json!(containers_text(&spec["template"], "name")),
        json!(containers_text(&spec["template"], "image")),
        json!(selector_text(&spec["selector"])),
    ]
}

const NODE_COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Whether the node takes pods."),
    text("Roles", "What the node is for."),
    AGE,
    text("Version", "The version of its agent."),
    wide("Internal-IP", "Its address inside the cluster."),
    wide("External-IP", "Its address outside of the cluster."),
    wide("OS-Image", "Its operating system."),
    wide("Kernel-Version", "Its kernel."),
    wide("Container-Runtime", "What runs its containers."),
];

/// The table of Nodes.
pub(crate) const NODE: Table = Table { columns: NODE_COLUMNS, cells: node };

fn node(node: &Object, now: Timestamp) -> Vec<Value> {
    let mut status = match pod::condition(node, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = list(&node["status"]["addresses"]).iter().find(|entry| entry["type"] == kind);
        found.map_or("<none>", |entry| or(&entry["address"], "<none>"))
    };
    let info = &node["status"]["nodeInfo"];
    vec![
        name(node),
        json!(status),
        json!(roles(node)),
        age(node, now),
        json!(or(&info["kubeletVersion"], "")),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(or(&info["osImage"], "<unknown>")),
        json!(or(&info["kernelVersion"], "<unknown>")),
        json!(or(&info["containerRuntimeVersion"], "<unknown>")),
    ]
}

/// A node's roles, from its labels: `node-role.kubernetes.io/<role>`.
fn roles(node: &Object) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in meta::labels(node).into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => continue,
        };
        if !role.is_empty() {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    roles.dedup();
    super::or_none(roles.join(","))
}

const NAMESPACE_COLUMNS: &[Column] =
    &[NAME, text("Status", "Whether it is in use or going away."), AGE];

/// The table of Namespaces.
pub(crate) const NAMESPACE: Table = Table { columns: NAMESPACE_COLUMNS, cells: namespace };

fn namespace(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), json!(or(&object["status"]["phase"], "")), age(object, now)]
}

const DATA: Column = number("Data", "How many entries it has.");

fn entries(object: &Object, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}

/// The table of ConfigMaps.
pub(crate) const CONFIG_MAP: Table = Table { columns: &[NAME, DATA, AGE], cells: config_map };

fn config_map(object: &Object, now: Timestamp) -> Vec<Value> {
    let entries = entries(object, "data") + entries(object, "binaryData");
    vec![name(object), json!(entries), age(object, now)]
}

const SECRET_COLUMNS: &[Column] = &[NAME, text("Type", "What kind of secret it is."), DATA, AGE];

/// The table of Secrets.
pub(crate) const SECRET: Table = Table { columns: SECRET_COLUMNS, cells: secret };

fn secret(object: &Object, now: Timestamp) -> Vec<Value> {
    let kind = or(&object["type"], "");
    vec![name(object), json!(kind), json!(entries(object, "data")), age(object, now)]
}

const ACCOUNT_COLUMNS: &[Column] = &[NAME, number("Secrets", "How many secrets it has."), AGE];

/// The table of ServiceAccounts.
pub(crate) const SERVICE_ACCOUNT: Table = Table { columns: ACCOUNT_COLUMNS, cells: account };

fn account(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), json!(list(&object["secrets"]).len()), age(object, now)]
}

const LEASE_COLUMNS: &[Column] = &[NAME, text("Holder", "Who holds it."), AGE];

/// The table of Leases.
pub(crate) const LEASE: Table = Table { columns: LEASE_COLUMNS, cells: lease };

fn lease(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), json!(or(&object["spec"]["holderIdentity"], "")), age(object, now)]
}

const EVENT_COLUMNS: &[Column] = &[
    text("Last Seen", "When it happened last."),
    text("Type", "Normal or Warning."),
    text("Reason", "Why, in one word."),
    text("Object", "What it is about."),
    wide("Subobject", "Which part of the object."),
    wide("Source", "Who reports it."),
    text("Message", "What happened."),
    wide("First Seen", "When it happened first."),
    Column { ty: "integer", ..wide("Count", "How often it happened.") },
    Column { priority: 1, ..NAME },
];

/// The table of Events.
pub(crate) const EVENT: Table = Table { columns: EVENT_COLUMNS, cells: event };

fn event(event: &Object, now: Timestamp) -> Vec<Value> {
    let set = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let (first, last) = (&event["firstTimestamp"], &event["lastTimestamp"]);
    let first = since(if set(first) { first } else { &event["eventTime"] }, now);
    let mut seen = if set(last) { since(last, now) } else { first.clone() };
    let mut times = count(&event["count"]).max(1);
    if event["series"].is_object() {
        seen = since(&event["series"]["lastObservedTime"], now);
        times = count(&event["series"]["count"]);
    }
    let about = &event["involvedObject"];
    let kind = or(&about["kind"], "").to_ascii_lowercase();
    let target = match or(&about["name"], "") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let (source, host) = (&event["source"]["component"], &event["source"]["host"]);
    let mut source = or(source, or(&event["reportingComponent"], "")).to_string();
    let host = or(host, or(&event["reportingInstance"], ""));
    if !host.is_empty() {
        source.push_str(&format!(", {host}"));
    }
    vec![
        json!(seen),
        json!(or(&event["type"], "")),
        json!(or(&event["reason"], "")),
        json!(target),
        json!(or(&about["fieldPath"], "")),
        json!(source),
        json!(or(&event["message"], "").trim()),
        json!(first),
        json!(times),
        name(event),
    ]
}
