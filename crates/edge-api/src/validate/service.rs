//! Services: their type, their ports and their addresses.

use serde_json::{Value, json};

use super::service_addresses::addresses;
use super::{list, meta, needs_one_of, one_of, probe, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DAY_SECONDS: i64 = 86_400;
/// Where every board's agent answers.
const AGENT_PORT: i64 = 10250;
const BALANCED_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// `Service`
pub(crate) fn service(service: &Object, old: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&service["spec"], Path::new("spec"));
    // A spec that was taken once is not judged anew: rules become stricter, and a Service of before
    // must still lose its finalizers and get its labels.
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let kind = text(&spec["type"]);
    let headless = text(&spec["clusterIP"]) == "None";
    if kind != "ExternalName" && !headless && list(&spec["ports"]).is_empty() {
        errors.required(&at.child("ports"), "");
    }
    if kind == "LoadBalancer" {
        agents_port(spec, &at.child("ports"), errors);
    }
    match kind {
        "LoadBalancer" if headless => {
            let detail = "may not be set to 'None' for LoadBalancer services";
            errors.invalid(&at.child("clusterIPs").index(0), "None", detail);
        }
        "NodePort" if headless => {
            let detail = "may not be set to 'None' for NodePort services";
            errors.invalid(&at.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => external_name(spec, &at, errors),
        _ => {}
    }
    ports(spec, &at.child("ports"), errors);
    meta::labels(&spec["selector"], &at.child("selector"), errors);
    affinity(spec, &at, errors);
    addresses(spec, &at, errors);
    needs_one_of(errors, &at.child("type"), &spec["type"], &TYPES);
    traffic(spec, &at, errors);
    balancer(spec, &at, errors);
    if let Some(old) = old {
        update(spec, &old["spec"], &at, errors);
    }
}

fn agents_port(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, port) in list(&spec["ports"]).iter().enumerate() {
        if port["port"] == AGENT_PORT {
            let detail =
                format!("may not expose port {AGENT_PORT} externally since it is used by kubelet");
            errors.invalid(&at.index(index), AGENT_PORT, &detail);
        }
    }
}

fn external_name(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let has = |field: &str| !matches!(&spec[field], Value::Null) && spec[field] != "";
    let addressed = has("clusterIP") || !list(&spec["clusterIPs"]).is_empty();
    let families = !list(&spec["ipFamilies"]).is_empty();
    for (set, field) in [
        (addressed, "clusterIPs"),
        (families, "ipFamilies"),
        (has("ipFamilyPolicy"), "ipFamilyPolicy"),
    ] {
        if set {
            errors.forbidden(&at.child(field), "may not be set for ExternalName services");
        }
    }
    let name = text(&spec["externalName"]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&at.child("externalName"), "");
    } else {
        errors.each(&at.child("externalName"), name, names::dns1123_subdomain(name));
    }
}

fn ports(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let all = list(&spec["ports"]);
    let mut named: Vec<&str> = Vec::new();
    let mut numbered: Vec<(&str, i64)> = Vec::new();
    let mut on_nodes: Vec<(&str, i64)> = Vec::new();
    for (index, port) in all.iter().enumerate() {
        let at = at.index(index);
        let name = text(&port["name"]);
        if name.is_empty() {
            if all.len() > 1 {
                errors.required(&at.child("name"), "");
            }
        } else {
            errors.each(&at.child("name"), name, names::dns1123_label(name));
            if named.contains(&name) {
                errors.duplicate(&at.child("name"), name);
            }
            named.push(name);
        }
        let number = port["port"].as_i64().unwrap_or(0);
        errors.each(&at.child("port"), number, names::port_number(number));
        needs_one_of(errors, &at.child("protocol"), &port["protocol"], &PROTOCOLS);
        probe::port(&port["targetPort"], &at.child("targetPort"), errors);
        if let Some(application) = port["appProtocol"].as_str() {
            let bad = names::qualified_name(application);
            errors.each(&at.child("appProtocol"), application, bad);
        }
        let protocol = text(&port["protocol"]);
        if numbered.contains(&(protocol, number)) {
            errors.duplicate(&at, json!({"protocol": protocol, "port": number}));
        }
        numbered.push((protocol, number));
        let node_port = port["nodePort"].as_i64().unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        if matches!(text(&spec["type"]), "ClusterIP") {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&at.child("nodePort"), detail);
        }
        if on_nodes.contains(&(protocol, node_port)) {
            errors.duplicate(&at.child("nodePort"), node_port);
        }
        on_nodes.push((protocol, node_port));
    }
}

fn affinity(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let field = "sessionAffinity";
    needs_one_of(errors, &at.child(field), &spec[field], &["ClientIP", "None"]);
    let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if let Some(seconds) = seconds.as_i64().filter(|s| !(1..=DAY_SECONDS).contains(s)) {
        let at = at.child("sessionAffinityConfig");
        let at = at.child("clientIP");
        let detail = format!("must be greater than 0 and less than {DAY_SECONDS}");
        errors.invalid(&at.child("timeoutSeconds"), seconds, &detail);
    }
}

fn traffic(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let field = "externalTrafficPolicy";
    let policy = text(&spec[field]);
    let external = matches!(text(&spec["type"]), "NodePort" | "LoadBalancer")
        || !list(&spec["externalIPs"]).is_empty();
    if !policy.is_empty() && !external {
        let detail = "may only be set for externally-accessible services";
        errors.invalid(&at.child(field), policy, detail);
    }
    one_of(errors, &at.child(field), &spec[field], &POLICIES);
    let field = "internalTrafficPolicy";
    one_of(errors, &at.child(field), &spec[field], &POLICIES);
    let balanced = text(&spec["type"]) == "LoadBalancer";
    let port = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if port != 0 && !(balanced && policy == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` \
                      is 'Local'";
        errors.invalid(&at.child("healthCheckNodePort"), port, detail);
    }
    let field = "trafficDistribution";
    if let Some(way) = spec[field].as_str().filter(|way| *way != "PreferClose") {
        errors.not_supported(&at.child(field), way, &["PreferClose"]);
    }
}

/// What only Services of type LoadBalancer have.
fn balancer(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let balanced = text(&spec["type"]) == "LoadBalancer";
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !balanced && !spec[field].is_null() {
            errors.forbidden(&at.child(field), BALANCED_ONLY);
        }
    }
    if let Some(class) = spec["loadBalancerClass"].as_str().filter(|_| balanced) {
        errors.each(&at.child("loadBalancerClass"), class, names::qualified_name(class));
    }
    let ranges = list(&spec["loadBalancerSourceRanges"]);
    // Kubernetes writes this field with a capital letter in its messages.
    let at = at.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        errors.forbidden(&at, BALANCED_ONLY);
    }
    for (index, range) in ranges.iter().enumerate() {
        let value = text(range).trim();
        let good = value.split_once('/').is_some_and(|(ip, length)| {
            let most = if ip.contains(':') { 128 } else { 32 };
            names::ip(ip).is_empty() && length.parse::<u8>().is_ok_and(|length| length <= most)
        });
        if !good {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&at.index(index), value, detail);
        }
    }
}

fn update(new: &Value, old: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (before, after) = (text(&old["clusterIP"]), text(&new["clusterIP"]));
    let inside = |spec: &Value| text(&spec["type"]) != "ExternalName";
    if inside(new) && inside(old) && !before.is_empty() && before != after {
        let value = json!([after]);
        errors.invalid(&at.child("clusterIPs").index(0), value, "may not change once set");
    }
    let field = "loadBalancerClass";
    let balanced = |spec: &Value| text(&spec["type"]) == "LoadBalancer";
    if balanced(new) && balanced(old) && new[field] != old[field] {
        errors.invalid(&at.child(field), new[field].clone(), "may not change once set");
    }
    let checked = |spec: &Value| {
        text(&spec["type"]) == "LoadBalancer" && text(&spec["externalTrafficPolicy"]) == "Local"
    };
    let port = |spec: &Value| spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if checked(new) && checked(old) && port(old) != 0 && port(new) != port(old) {
        errors.invalid(&at.child("healthCheckNodePort"), port(new), "field is immutable");
    }
}
