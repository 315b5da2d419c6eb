//! Defaults of Services and of the objects that hold their endpoints. Addresses and node ports are
//! allocated by the server, not here.

use serde_json::{Value, json};

use super::{fill, fill_zero, items, object};
use crate::Object;

/// How long a client sticks to an endpoint: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// `Service`
pub(crate) fn service(service: &mut Object) {
    object(service, "spec");
    let spec = &mut service["spec"];
    fill_zero(spec, "sessionAffinity", "None");
    match spec["sessionAffinity"].as_str() {
        Some("ClientIP") => {
            object(spec, "sessionAffinityConfig");
            let config = &mut spec["sessionAffinityConfig"];
            object(config, "clientIP");
            fill(&mut config["clientIP"], "timeoutSeconds", AFFINITY_SECONDS);
        }
        Some("None") => {
            spec.as_object_mut().map(|spec| spec.remove("sessionAffinityConfig"));
        }
        _ => {}
    }
    fill_zero(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        fill_zero(port, "protocol", "TCP");
        let number = port["port"].clone();
        fill_zero(port, "targetPort", number);
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_string();
    let external = spec["externalIPs"].as_array().is_some_and(|list| !list.is_empty());
    let node_ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if node_ports || (kind == "ClusterIP" && external) {
        fill_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if node_ports || kind == "ClusterIP" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    object(service, "status");
    fill(&mut service["status"], "loadBalancer", json!({}));
}

/// `Endpoints`
pub(crate) fn endpoints(endpoints: &mut Object) {
    for subset in items(endpoints, "subsets") {
        items(subset, "ports").for_each(|port| fill_zero(port, "protocol", "TCP"));
    }
}

/// `EndpointSlice`
pub(crate) fn endpoint_slice(slice: &mut Object) {
    fill(slice, "endpoints", Value::Array(Vec::new()));
    for port in items(slice, "ports") {
        fill(port, "name", "");
        fill(port, "protocol", "TCP");
    }
}
