//! Endpoints that a person keeps for a Service without a selector, as EndpointSlices: those are
//! what boards read (`pkg/controller/endpointslicemirroring`).

use core::net::IpAddr;
use std::collections::BTreeMap;

use edge_api::{Object, kinds, meta};
use serde_json::{Map, Value, json};

use super::endpoints::SERVICE_LABEL;
use crate::plan::{Action, Plan};
use crate::view::{Round, View};

/// Who says that it makes such slices.
pub const SOURCE: &str = "endpointslice-mirroring-controller";

/// The label by which a slice names its maker.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

/// The label of Endpoints that are not mirrored: their owner writes slices as well.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";

/// The annotation of Endpoints by which older programs elected a leader.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Annotations that are about the Endpoints object alone.
const OWN_ANNOTATIONS: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];

/// Addresses that are mirrored, as upstream's default has it for a subset; ours is for a slice,
/// which may hold no more.
const MOST_IN_SLICE: usize = 1000;

/// Plans the slices of all such Endpoints, and takes away those whose reason is gone.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    let mut known: BTreeMap<(&str, &str), Vec<&Object>> = BTreeMap::new();
    for slice in view.list(kinds::ENDPOINT_SLICE) {
        if meta::label(slice, MANAGED_BY) == Some(MANAGER) && !meta::is_deleting(slice) {
            let of = meta::label(slice, SERVICE_LABEL).unwrap_or_default();
            known.entry((meta::namespace(slice), of)).or_default().push(slice);
        }
    }
    for endpoints in view.list(kinds::ENDPOINTS).filter(|e| is_mirrored(view, e)) {
        let at = (meta::namespace(endpoints), meta::name(endpoints));
        let mut there = known.remove(&at).unwrap_or_default();
        for wanted in slices(endpoints) {
            let same = there.iter().position(|slice| {
                slice["addressType"] == wanted["addressType"] && ports(slice) == ports(&wanted)
            });
            match same.map(|at| there.remove(at)) {
                Some(slice) => update(slice, &wanted, &mut plan),
                None => {
                    plan.push(Action::Create { kind: kinds::ENDPOINT_SLICE, object: wanted });
                }
            }
        }
        known.insert(at, there);
    }
    for slice in known.into_values().flatten() {
        plan.push(Action::delete(kinds::ENDPOINT_SLICE, slice));
    }
    plan
}

/// Whether slices are made of these Endpoints: their Service is there and selects no pods.
fn is_mirrored(view: &View, endpoints: &Object) -> bool {
    let (namespace, name) = (meta::namespace(endpoints), meta::name(endpoints));
    let Some(service) = view.get(kinds::SERVICE, namespace, name) else { return false };
    let selects = service["spec"]["selector"].as_object().is_some_and(|s| !s.is_empty());
    !selects
        && !meta::is_deleting(endpoints)
        && meta::label(endpoints, SKIP) != Some("true")
        && meta::annotation(endpoints, LEADER).is_none()
}

/// Ports, as text, and a family of addresses.
type Key<'a> = (String, &'a str);
/// Those ports, and the endpoints by address.
type Group = (Value, BTreeMap<String, Value>);

/// A slice for each set of ports and each family of addresses; an address counts as ready when any
/// subset with the same ports says so.
fn slices(endpoints: &Object) -> Vec<Object> {
    let mut groups: BTreeMap<Key<'_>, Group> = BTreeMap::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports: Vec<Value> = list(subset, "ports").map(port).collect();
        let ports = if ports.is_empty() { Value::Null } else { json!(ports) };
        let addresses = list(subset, "addresses").map(|address| (address, true));
        let unready = list(subset, "notReadyAddresses").map(|address| (address, false));
        for (address, ready) in addresses.chain(unready) {
            let Some(ip) = address["ip"].as_str() else { continue };
            let family = match ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            let key = (ports.to_string(), family);
            let group = groups.entry(key).or_insert_with(|| (ports.clone(), BTreeMap::new()));
            if group.1.len() >= MOST_IN_SLICE && !group.1.contains_key(ip) {
                continue;
            }
            let known = group.1.get(ip).is_some_and(|entry| entry["conditions"]["ready"] == true);
            if !known {
                group.1.insert(ip.to_owned(), endpoint(address, ip, ready));
            }
        }
    }
    let one = |((_, family), (ports, found)): (Key<'_>, Group)| {
        slice(endpoints, family, &ports, found.into_values().collect())
    };
    groups.into_iter().map(one).collect()
}

fn list<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object[field].as_array().into_iter().flatten()
}

fn port(port: &Value) -> Value {
    let mut entry = json!({
        "name": port["name"].as_str().unwrap_or_default(),
        "port": port["port"],
        "protocol": port["protocol"].as_str().unwrap_or("TCP"),
    });
    if let Some(application) = port.get("appProtocol") {
        entry["appProtocol"] = application.clone();
    }
    entry
}

fn endpoint(address: &Value, ip: &str, ready: bool) -> Value {
    let mut entry = json!({"addresses": [ip], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if let Some(value) = address.get(field).filter(|value| !value.is_null()) {
            entry[field] = value.clone();
        }
    }
    entry
}

fn slice(endpoints: &Object, family: &str, ports: &Value, found: Vec<Value>) -> Object {
    let mut labels = meta::labels(endpoints).cloned().unwrap_or_default();
    labels.insert(SERVICE_LABEL.into(), json!(meta::name(endpoints)));
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    let mut metadata = json!({
        "generateName": format!("{}-", meta::name(endpoints)),
        "namespace": meta::namespace(endpoints),
        "labels": labels,
        "ownerReferences": [meta::controller_reference(endpoints)],
    });
    let annotations: Map<String, Value> = meta::annotations(endpoints)
        .into_iter()
        .flatten()
        .filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": found,
        "ports": ports,
    })
}

/// A slice's ports; none and an empty list are the same.
fn ports(slice: &Object) -> &[Value] {
    slice["ports"].as_array().map_or(&[][..], Vec::as_slice)
}

fn update(slice: &Object, wanted: &Object, plan: &mut Plan) {
    let mut changed = slice.clone();
    changed["endpoints"] = wanted["endpoints"].clone();
    meta::set(&mut changed, "labels", wanted["metadata"]["labels"].clone());
    match wanted["metadata"].get("annotations") {
        Some(annotations) => meta::set(&mut changed, "annotations", annotations.clone()),
        None => {
            meta::remove(&mut changed, "annotations");
        }
    }
    if changed != *slice {
        plan.push(Action::update(kinds::ENDPOINT_SLICE, changed));
    }
}

#[cfg(test)]
#[path = "mirroring/tests.rs"]
mod tests;
