//! Which addresses stand behind a Service (`pkg/controller/endpointslice`): an EndpointSlice for
//! those who watch slices, and an Endpoints object of the same name for older clients.

use std::collections::BTreeMap;

use edge_api::selector::LabelSelector;
use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use crate::liveness::Standing;
use crate::plan::{Action, Plan};
use crate::view::{Round, View};
use crate::workload::{is_finished, is_ready};

/// The label by which a slice names its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The label by which a slice names its maker.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// The label of Endpoints that are made here, and go when their Service does.
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER: &str = "endpoint-controller";

/// Addresses in one slice, as Kubernetes' default has it.
const MOST_IN_SLICE: usize = 100;

/// Plans slices and Endpoints for every Service with a selector.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    for service in view.list(kinds::SERVICE) {
        let selector = &service["spec"]["selector"];
        let external = service["spec"]["type"] == "ExternalName";
        if meta::is_deleting(service) || external || !has_entries(selector) {
            continue;
        }
        let members = members(view, service);
        slices(view, service, &members, &mut plan);
        endpoints(view, service, &members, &mut plan);
    }
    orphans(view, &mut plan);
    plan
}

/// Endpoints of ours whose Service is gone; somebody else's are left to them.
fn orphans(view: &View, plan: &mut Plan) {
    let made = view.list(kinds::ENDPOINTS).filter(|endpoints| {
        meta::label(endpoints, ENDPOINTS_MANAGED_BY) == Some(ENDPOINTS_MANAGER)
            && !meta::is_deleting(endpoints)
    });
    for endpoints in made {
        let (namespace, name) = (meta::namespace(endpoints), meta::name(endpoints));
        if view.get(kinds::SERVICE, namespace, name).is_none() {
            plan.push(Action::delete(kinds::ENDPOINTS, endpoints));
        }
    }
}

fn has_entries(selector: &Value) -> bool {
    selector.as_object().is_some_and(|labels| !labels.is_empty())
}

/// One pod behind a Service.
struct Member<'a> {
    pod: &'a Object,
    address: &'a str,
    ready: bool,
    serving: bool,
    terminating: bool,
    ports: Vec<Value>,
}

fn members<'a>(view: &'a View, service: &Object) -> Vec<Member<'a>> {
    let selector = LabelSelector::from_labels(&service["spec"]["selector"]);
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let pods = view.within(kinds::POD, meta::namespace(service));
    let mut found: Vec<Member<'a>> = pods
        .filter(|pod| selector.matches(pod) && !is_finished(pod))
        .filter_map(|pod| {
            let address = pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty())?;
            let reachable = reachable(view, pod);
            let (serving, terminating) = (is_ready(pod) && reachable, meta::is_deleting(pod));
            let ready = reachable && (publish || (serving && !terminating));
            Some(Member { pod, address, ready, serving, terminating, ports: ports(service, pod) })
        })
        .collect();
    found.sort_by(|a, b| meta::name(a.pod).cmp(meta::name(b.pod)));
    found
}

/// Whether the pod's board may be there: not silent, and not removed.
fn reachable(view: &View, pod: &Object) -> bool {
    let Some(node) = pod["spec"]["nodeName"].as_str() else { return true };
    view.standing(node) < Standing::Silent && !view.departed.contains_key(node)
}

/// The Service's ports as this pod has them; a named target port may differ from pod to pod.
fn ports(service: &Object, pod: &Object) -> Vec<Value> {
    let list = service["spec"]["ports"].as_array();
    let found = list.into_iter().flatten().filter_map(|port| {
        let target = match &port["targetPort"] {
            Value::String(name) => named_port(pod, name, &port["protocol"])?,
            Value::Number(number) => number.as_i64()?,
            _ => port["port"].as_i64()?,
        };
        let mut entry = json!({
            "name": port["name"].as_str().unwrap_or_default(),
            "port": target,
            "protocol": port["protocol"].as_str().unwrap_or("TCP"),
        });
        if let Some(application) = port.get("appProtocol") {
            entry["appProtocol"] = application.clone();
        }
        Some(entry)
    });
    found.collect()
}

fn named_port(pod: &Object, name: &str, protocol: &Value) -> Option<i64> {
    let protocol = protocol.as_str().unwrap_or("TCP");
    let list = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    // A sidecar's ports count as well: an init container that stays.
    let sidecars = list("initContainers").filter(|c| c["restartPolicy"] == "Always");
    let containers = list("containers").chain(sidecars);
    let mut ports = containers.filter_map(|c| c["ports"].as_array()).flatten();
    ports
        .find(|p| p["name"] == name && p["protocol"].as_str().unwrap_or("TCP") == protocol)
        .and_then(|p| p["containerPort"].as_i64())
}

fn target_ref(pod: &Object) -> Value {
    json!({"kind": "Pod", "namespace": meta::namespace(pod), "name": meta::name(pod),
           "uid": meta::uid(pod)})
}

/// Members with the same ports share a slice, up to its size.
fn slices(view: &View, service: &Object, members: &[Member<'_>], plan: &mut Plan) {
    let mut groups: BTreeMap<String, Vec<&Member<'_>>> = BTreeMap::new();
    for member in members {
        groups.entry(json!(member.ports).to_string()).or_default().push(member);
    }
    let mut wanted: Vec<(Value, Vec<Value>)> = Vec::new();
    for group in groups.values() {
        for part in group.chunks(MOST_IN_SLICE) {
            // None of them has the port that the Service names: as if there were none at all.
            let ports = part.first().map(|member| &member.ports).filter(|ports| !ports.is_empty());
            let ports = json!(ports);
            wanted.push((ports, part.iter().map(|member| endpoint(service, member)).collect()));
        }
    }
    if wanted.is_empty() {
        wanted.push((Value::Null, Vec::new()));
    }
    let known = view.within(kinds::ENDPOINT_SLICE, meta::namespace(service));
    let mut known: Vec<&Object> = known
        .filter(|slice| meta::label(slice, SERVICE_LABEL) == Some(meta::name(service)))
        .filter(|slice| meta::label(slice, MANAGED_BY) == Some(MANAGER))
        .map(AsRef::as_ref)
        .collect();
    for (ports, endpoints) in wanted {
        let bare = |slice: &Object| slice["ports"].as_array().is_none_or(Vec::is_empty);
        let alike = |slice: &&Object| slice["ports"] == ports || ports.is_null() && bare(slice);
        let same = known.iter().position(alike);
        let at = same.or_else(|| (!known.is_empty()).then_some(0));
        match at.map(|at| known.remove(at)) {
            Some(slice) => update_slice(slice, service, ports, endpoints, plan),
            None => plan.push(Action::Create {
                kind: kinds::ENDPOINT_SLICE,
                object: new_slice(service, &ports, &endpoints),
            }),
        }
    }
    for slice in known.into_iter().filter(|slice| !meta::is_deleting(slice)) {
        plan.push(Action::delete(kinds::ENDPOINT_SLICE, slice));
    }
}

fn endpoint(service: &Object, member: &Member<'_>) -> Value {
    let mut entry = json!({
        "addresses": [member.address],
        "conditions": {"ready": member.ready, "serving": member.serving,
                       "terminating": member.terminating},
        "targetRef": target_ref(member.pod),
    });
    if let Some(node) = member.pod["spec"]["nodeName"].as_str() {
        entry["nodeName"] = json!(node);
    }
    // A name below the Service's, for pods that say so.
    let spec = &member.pod["spec"];
    let hostname = spec["hostname"].as_str().filter(|hostname| !hostname.is_empty());
    if let Some(hostname) = hostname.filter(|_| spec["subdomain"] == meta::name(service)) {
        entry["hostname"] = json!(hostname);
    }
    entry
}

fn slice_labels(service: &Object) -> Value {
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(SERVICE_LABEL.into(), json!(meta::name(service)));
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    if service["spec"]["clusterIP"] == "None" {
        labels.insert("service.kubernetes.io/headless".into(), json!(""));
    }
    Value::Object(labels)
}

fn new_slice(service: &Object, ports: &Value, endpoints: &[Value]) -> Object {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", meta::name(service)),
            "namespace": meta::namespace(service),
            "labels": slice_labels(service),
            "ownerReferences": [meta::controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    })
}

fn update_slice(
    slice: &Object,
    service: &Object,
    ports: Value,
    endpoints: Vec<Value>,
    plan: &mut Plan,
) {
    let mut changed = slice.clone();
    meta::set(&mut changed, "labels", slice_labels(service));
    // An empty list is kept as it is: null and [] mean the same here.
    let no_endpoints =
        endpoints.is_empty() && slice["endpoints"].as_array().is_none_or(Vec::is_empty);
    if !no_endpoints {
        changed["endpoints"] = json!(endpoints);
    }
    if !(ports.is_null() && slice["ports"].as_array().is_none_or(Vec::is_empty)) {
        changed["ports"] = ports;
    }
    if changed != *slice {
        plan.push(Action::update(kinds::ENDPOINT_SLICE, changed));
    }
}

/// The Endpoints object: one subset for members with the same ports.
fn endpoints(view: &View, service: &Object, members: &[Member<'_>], plan: &mut Plan) {
    let mut subsets: BTreeMap<String, (Vec<Value>, Vec<Value>, &Member<'_>)> = BTreeMap::new();
    // A pod without any of the ports is in no subset, but for a Service that has none either.
    let portless = service["spec"]["ports"].as_array().is_none_or(Vec::is_empty);
    let members = members.iter().filter(|m| !m.terminating && (portless || !m.ports.is_empty()));
    for member in members {
        let key = json!(member.ports).to_string();
        let entry = subsets.entry(key).or_insert_with(|| (Vec::new(), Vec::new(), member));
        let mut address = json!({"ip": member.address, "targetRef": target_ref(member.pod)});
        if let Some(node) = member.pod["spec"]["nodeName"].as_str() {
            address["nodeName"] = json!(node);
        }
        if member.ready { entry.0.push(address) } else { entry.1.push(address) }
    }
    let subsets: Vec<Value> = subsets.into_values().map(subset).collect();
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    let known = view.get(kinds::ENDPOINTS, namespace, name);
    let have = known.and_then(|e| e["subsets"].as_array()).cloned().unwrap_or_default();
    let ours =
        known.is_some_and(|e| meta::label(e, ENDPOINTS_MANAGED_BY) == Some(ENDPOINTS_MANAGER));
    if ours && have == subsets {
        return;
    }
    let mut object = known.map_or_else(
        || {
            json!({"apiVersion": "v1", "kind": "Endpoints",
                  "metadata": {"name": name, "namespace": namespace}})
        },
        |known| known.as_ref().clone(),
    );
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert(ENDPOINTS_MANAGED_BY.into(), json!(ENDPOINTS_MANAGER));
    meta::set(&mut object, "labels", labels);
    object["subsets"] = json!(subsets);
    plan.push(match known {
        Some(_) => Action::update(kinds::ENDPOINTS, object),
        None => Action::Create { kind: kinds::ENDPOINTS, object },
    });
}

fn subset((ready, unready, member): (Vec<Value>, Vec<Value>, &Member<'_>)) -> Value {
    let mut subset = json!({});
    if !ready.is_empty() {
        subset["addresses"] = json!(ready);
    }
    if !unready.is_empty() {
        subset["notReadyAddresses"] = json!(unready);
    }
    let ports = member.ports.iter().map(|port| {
        let mut port = port.clone();
        if port["name"] == "" {
            port.as_object_mut().map(|fields| fields.remove("name"));
        }
        port
    });
    let ports: Vec<Value> = ports.collect();
    if !ports.is_empty() {
        subset["ports"] = json!(ports);
    }
    subset
}

#[cfg(test)]
#[path = "endpoints/tests.rs"]
mod tests;
