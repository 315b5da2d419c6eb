//! Rows of Services, Endpoints and EndpointSlices.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Table, age, labels_text, list, name, or, or_none, text, wide};
use crate::Object;

/// How many endpoints or ports a row shows before it counts the rest.
const SHOWN: usize = 3;

const SERVICE_COLUMNS: &[Column] = &[
    NAME,
    text("Type", "How the service is reached."),
    text("Cluster-IP", "Its address inside the cluster."),
    text("External-IP", "Its addresses outside of the cluster."),
    text("Port(s)", "Its ports, with node ports behind a colon."),
    AGE,
    wide("Selector", "The labels of the pods behind it."),
];

/// The table of Services.
pub(crate) const SERVICE: Table = Table { columns: SERVICE_COLUMNS, cells: service };

fn service(service: &Object, now: Timestamp) -> Vec<Value> {
    let spec = &service["spec"];
    vec![
        name(service),
        json!(or(&spec["type"], "ClusterIP")),
        json!(or(&spec["clusterIP"], "<none>")),
        json!(external(service)),
        json!(ports(&spec["ports"])),
        age(service, now),
        json!(labels_text(&spec["selector"])),
    ]
}

fn texts(values: &Value) -> Vec<&str> {
    list(values).iter().filter_map(Value::as_str).collect()
}

fn external(service: &Object) -> String {
    let spec = &service["spec"];
    let mut addresses = texts(&spec["externalIPs"]);
    match spec["type"].as_str() {
        Some("ExternalName") => or(&spec["externalName"], "").to_string(),
        Some("LoadBalancer") => {
            let ingress = list(&service["status"]["loadBalancer"]["ingress"]);
            let balanced = ingress.iter().map(|entry| or(&entry["ip"], or(&entry["hostname"], "")));
            let mut all: Vec<&str> = balanced.filter(|text| !text.is_empty()).collect();
            all.append(&mut addresses);
            if all.is_empty() { "<pending>".to_string() } else { all.join(",") }
        }
        _ => or_none(addresses.join(",")),
    }
}

fn ports(ports: &Value) -> String {
    let port = |port: &Value| {
        let protocol = or(&port["protocol"], "TCP");
        match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port["port"]),
            _ => format!("{}/{protocol}", port["port"]),
        }
    };
    let texts: Vec<String> = list(ports).iter().map(port).collect();
    or_none(texts.join(","))
}

/// The first of some texts, and how many more there are.
fn some_of(texts: &[String], absent: &str) -> String {
    match texts {
        [] => absent.to_string(),
        texts if texts.len() <= SHOWN => texts.join(","),
        texts => format!("{} + {} more...", texts[..SHOWN].join(","), texts.len() - SHOWN),
    }
}

const ENDPOINTS_COLUMNS: &[Column] =
    &[NAME, text("Endpoints", "The addresses behind the service."), AGE];

/// The table of Endpoints.
pub(crate) const ENDPOINTS: Table = Table { columns: ENDPOINTS_COLUMNS, cells: endpoints };

fn endpoints(endpoints: &Object, now: Timestamp) -> Vec<Value> {
    let mut found = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        let addresses = || list(&subset["addresses"]).iter().map(|a| or(&a["ip"], ""));
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            found.extend(addresses().map(str::to_string));
        }
        for port in ports {
            let join = |ip: &str| {
                let v6 = ip.contains(':');
                if v6 {
                    format!("[{ip}]:{}", port["port"])
                } else {
                    format!("{ip}:{}", port["port"])
                }
            };
            found.extend(addresses().map(join));
        }
    }
    let absent = if list(&endpoints["subsets"]).is_empty() { "<none>" } else { "" };
    vec![name(endpoints), json!(some_of(&found, absent)), age(endpoints, now)]
}

const SLICE_COLUMNS: &[Column] = &[
    NAME,
    text("AddressType", "What kind of addresses it holds."),
    text("Ports", "The ports behind the service."),
    text("Endpoints", "The addresses behind the service."),
    AGE,
];

/// The table of EndpointSlices.
pub(crate) const ENDPOINT_SLICE: Table = Table { columns: SLICE_COLUMNS, cells: slice };

fn slice(slice: &Object, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match port["port"].as_i64() {
        Some(number) => number.to_string(),
        None => or(&port["name"], "*").to_string(),
    };
    let ports: Vec<String> = list(&slice["ports"]).iter().map(port).collect();
    let addresses: Vec<String> = list(&slice["endpoints"])
        .iter()
        .flat_map(|endpoint| texts(&endpoint["addresses"]))
        .map(str::to_string)
        .collect();
    vec![
        name(slice),
        json!(or(&slice["addressType"], "")),
        json!(some_of(&ports, "<unset>")),
        json!(some_of(&addresses, "<unset>")),
        age(slice, now),
    ]
}
