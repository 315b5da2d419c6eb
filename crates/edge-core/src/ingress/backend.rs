//! The Service behind a route, and the pods that answer for it now.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use edge_api::{Object, meta};
use serde_json::Value;

use super::class::{list, text};

/// Slices of a Service carry its name under this label.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port of a Service as an Ingress names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl std::fmt::Display for Port {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Port::Number(number) => write!(out, "{number}"),
            Port::Name(name) => out.write_str(name),
        }
    }
}

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS and from the first byte: `appProtocol: kubernetes.io/h2c` or `grpc`.
    Http2,
}

/// The port of a Service that requests go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// `namespace/service:port`
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it answers: sorted, none twice. Empty: nobody does now.
    pub targets: Vec<SocketAddr>,
}

/// Namespace, Service and port.
pub(super) type Key = (String, String, Port);

/// Reads the backend of a path; in words why it is none.
pub(super) fn key(namespace: &str, backend: &Value) -> Result<Key, String> {
    let service = &backend["service"];
    if !service.is_object() {
        let kind = text(&backend["resource"]["kind"]);
        return Err(format!("a backend of kind {kind:?} is not served: name a Service"));
    }
    let port = match text(&service["port"]["name"]) {
        "" => {
            let number = service["port"]["number"].as_u64().unwrap_or(0);
            Port::Number(u16::try_from(number).unwrap_or(0))
        }
        name => Port::Name(name.to_owned()),
    };
    Ok((namespace.to_owned(), text(&service["name"]).to_owned(), port))
}

/// Where Services and their slices are looked up, by namespace and name. Nothing is read but what
/// an Ingress names, however much there is.
pub struct Stock<'a, 'b> {
    /// A Service.
    pub service: &'b dyn Fn(&str, &str) -> Option<&'a Object>,
    /// The slices of a Service, in any order.
    pub slices: &'b dyn Fn(&str, &str) -> Vec<&'a Object>,
}

impl std::fmt::Debug for Stock<'_, '_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Stock")
    }
}

/// Lists of Services and slices, to be looked up in.
#[derive(Debug)]
pub(super) struct Lists<'a> {
    services: BTreeMap<(&'a str, &'a str), &'a Object>,
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a Object>>,
}

impl<'a> Lists<'a> {
    pub(super) fn gather(
        services: impl IntoIterator<Item = &'a Object>,
        slices: impl IntoIterator<Item = &'a Object>,
    ) -> Lists<'a> {
        let services = services
            .into_iter()
            .map(|service| ((meta::namespace(service), meta::name(service)), service))
            .collect();
        let mut found: BTreeMap<_, Vec<&Object>> = BTreeMap::new();
        for slice in slices {
            let Some(service) = meta::label(slice, SERVICE_NAME) else { continue };
            found.entry((meta::namespace(slice), service)).or_default().push(slice);
        }
        Lists { services, slices: found }
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'a Object> {
        self.services.get(&(namespace, name)).copied()
    }

    pub(super) fn slices(&self, namespace: &str, name: &str) -> Vec<&'a Object> {
        self.slices.get(&(namespace, name)).cloned().unwrap_or_default()
    }
}

impl Stock<'_, '_> {
    /// The backend that a key names; a reason and a sentence when there is none.
    pub(super) fn backend(&self, key: &Key) -> Result<Backend, (&'static str, String)> {
        let (namespace, name, wanted) = key;
        let Some(service) = (self.service)(namespace, name) else {
            let words = format!("there is no Service {namespace}/{name}: answered with 503");
            return Err(("ServiceNotFound", words));
        };
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" {
            let words = format!("Service {namespace}/{name} is a name outside of the cluster");
            return Err(("BackendUnsupported", words));
        }
        let fits = |port: &&Value| match wanted {
            Port::Number(number) => port["port"].as_u64() == Some(u64::from(*number)),
            Port::Name(name) => text(&port["name"]) == name,
        };
        let tcp = |port: &&Value| matches!(text(&port["protocol"]), "" | "TCP");
        let Some(port) = list(&spec["ports"]).iter().filter(tcp).find(fits) else {
            let words =
                format!("Service {namespace}/{name} has no TCP port {wanted}: answered with 503");
            return Err(("PortNotFound", words));
        };
        let protocol = match text(&port["appProtocol"]) {
            "kubernetes.io/h2c" | "grpc" => Protocol::Http2,
            other @ ("https" | "HTTPS" | "kubernetes.io/wss") => {
                let words = format!(
                    "port {wanted} of Service {namespace}/{name} says appProtocol {other}: TLS \
                     towards pods is not served: answered with 503"
                );
                return Err(("BackendUnsupported", words));
            }
            _ => Protocol::Http1,
        };
        let all = spec["publishNotReadyAddresses"] == true;
        let slices = (self.slices)(namespace, name);
        let targets = targets(&slices, text(&port["name"]), all);
        Ok(Backend { name: format!("{namespace}/{name}:{wanted}"), protocol, targets })
    }
}

/// Ready endpoints; when there are none, those that still serve while they end.
fn targets(slices: &[&Object], port_name: &str, all: bool) -> Vec<SocketAddr> {
    let (mut ready, mut ending) = (Vec::new(), Vec::new());
    for slice in slices {
        let named = |port: &&Value| {
            text(&port["name"]) == port_name && matches!(text(&port["protocol"]), "" | "TCP")
        };
        let number = list(&slice["ports"]).iter().find(named);
        let number = number.and_then(|port| port["port"].as_u64());
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0) else {
            continue;
        };
        for endpoint in list(&slice["endpoints"]) {
            // All addresses of an endpoint are the same one; the first is used.
            let address = list(&endpoint["addresses"]).first().map(text);
            let Some(ip) = address.and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
            let target = SocketAddr::new(ip, number);
            let conditions = &endpoint["conditions"];
            let is_ready = conditions["ready"].as_bool().unwrap_or(true);
            let serving = conditions["serving"].as_bool().unwrap_or(is_ready);
            if is_ready || all {
                ready.push(target);
            } else if serving && conditions["terminating"] == true {
                ending.push(target);
            }
        }
    }
    let mut found = if ready.is_empty() { ending } else { ready };
    found.sort_unstable();
    found.dedup();
    found
}
