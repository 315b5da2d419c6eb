//! The few fields of Services and EndpointSlices that decide where traffic goes, read from
//! the raw objects. What makes no sense is passed over: validation has had its say before.

use super::{Protocol, Sources, Target};
use core::net::Ipv4Addr;
use edge_api::{Object, meta};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;
/// Slices of a service carry its name under this label.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Says which board announces a Service's addresses on the LAN; there on Services that have some.
pub const ANNOUNCED_BY: &str = "edged.dev/announced-by";
/// Services that somebody else serves carry this label.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// Whether boards serve a Service at addresses: not one that is only a name, nor somebody else's.
pub fn is_carried(service: &Object) -> bool {
    let spec = &service["spec"];
    text(spec, "type") != "ExternalName"
        && text(spec, "clusterIP") != "None"
        && meta::label(service, PROXY_NAME).is_none()
}

/// Whether packets from outside can be meant for one board by this address: what arrives for the
/// others is the board's own, or for all. Stored Services are older than today's validation.
fn is_somebodys(ip: &Ipv4Addr) -> bool {
    let own = ip.is_loopback() || ip.is_unspecified() || ip.is_link_local();
    !(own || ip.is_multicast() || ip.is_broadcast())
}

/// One port of a Service.
#[derive(Debug)]
pub(super) struct Port<'a> {
    pub(super) name: &'a str,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) node_port: Option<u16>,
}

/// A Service that has traffic to send somewhere.
#[derive(Debug)]
pub(super) struct Service<'a> {
    pub(super) created: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) cluster_ips: Vec<Ipv4Addr>,
    pub(super) external_ips: Vec<Ipv4Addr>,
    /// Addresses of its load balancer.
    pub(super) ingress: Vec<Ipv4Addr>,
    /// True when those are addresses of the LAN that belong to no board.
    pub(super) owns_ingress: bool,
    /// Whom its load balancer takes; `None` is everybody.
    pub(super) sources: Option<Sources>,
    pub(super) health_port: Option<u16>,
    pub(super) ports: Vec<Port<'a>>,
    pub(super) affinity_seconds: Option<u32>,
    pub(super) internal_local: bool,
    pub(super) external_local: bool,
    pub(super) publish_not_ready: bool,
}

/// The addresses that a Service has in the cluster, in order.
pub(super) fn cluster_ips(spec: &Value) -> Vec<Ipv4Addr> {
    let single = spec["clusterIP"].as_str();
    let listed = items(spec, "clusterIPs").filter_map(Value::as_str);
    let all = single.into_iter().chain(listed).filter_map(|ip| ip.parse().ok());
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

impl<'a> Service<'a> {
    /// Reads a Service; `None` for one that no board serves by address: headless, ExternalName.
    pub(super) fn read(object: &'a Object) -> Option<Service<'a>> {
        if !is_carried(object) {
            return None;
        }
        let spec = &object["spec"];
        let kind = text(spec, "type");
        let ingress = items(&object["status"]["loadBalancer"], "ingress")
            .filter(|entry| kind == "LoadBalancer" && text(entry, "ipMode") != "Proxy")
            .filter_map(|entry| text(entry, "ip").parse().ok())
            .filter(is_somebodys);
        let listed = items(spec, "externalIPs").filter_map(Value::as_str);
        let external_ips = listed.filter_map(|ip| ip.parse().ok()).filter(is_somebodys).collect();
        let balanced = kind == "LoadBalancer";
        let ranges = items(spec, "loadBalancerSourceRanges").filter_map(Value::as_str);
        let external_local = text(spec, "externalTrafficPolicy") == "Local";
        let health_port = port_number(&spec["healthCheckNodePort"]);
        let outward = matches!(kind, "NodePort" | "LoadBalancer");
        let ports = items(spec, "ports").filter_map(|port| {
            Some(Port {
                name: text(port, "name"),
                protocol: Protocol::parse(text(port, "protocol"))?,
                port: port_number(&port["port"])?,
                node_port: port_number(&port["nodePort"]).filter(|_| outward),
            })
        });
        let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
        let timeout = timeout.as_u64().and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0);
        let sticky = text(spec, "sessionAffinity") == "ClientIP";
        Some(Service {
            created: meta::creation_timestamp(object),
            namespace: meta::namespace(object),
            name: meta::name(object),
            cluster_ips: cluster_ips(spec),
            external_ips,
            ingress: ingress.collect(),
            owns_ingress: balanced && meta::annotation(object, ANNOUNCED_BY).is_some(),
            sources: Sources::read(ranges.filter(|_| balanced)),
            health_port: health_port.filter(|_| balanced && external_local),
            ports: ports.collect(),
            affinity_seconds: sticky.then(|| timeout.unwrap_or(AFFINITY_SECONDS)),
            internal_local: text(spec, "internalTrafficPolicy") == "Local",
            external_local,
            publish_not_ready: spec["publishNotReadyAddresses"].as_bool() == Some(true),
        })
    }
}

/// Which board announces each address of the LAN that Services have; nobody is an empty name.
pub fn announced<'a>(services: impl IntoIterator<Item = &'a Object>) -> BTreeMap<Ipv4Addr, String> {
    let mut found = BTreeMap::new();
    for object in services {
        let (Some(board), Some(service)) =
            (meta::annotation(object, ANNOUNCED_BY), Service::read(object))
        else {
            continue;
        };
        found.extend(service.ingress.into_iter().map(|ip| (ip, board.to_owned())));
    }
    found
}

/// One endpoint of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) local: bool,
}

type PortKey<'a> = (&'a str, &'a str, &'a str, Protocol);

/// The endpoints of every service port, from all slices.
#[derive(Debug, Default)]
pub(super) struct Endpoints<'a> {
    by_port: BTreeMap<PortKey<'a>, Vec<Endpoint>>,
}

impl<'a> Endpoints<'a> {
    /// Reads all slices; an endpoint is local when it is on `node`.
    pub(super) fn gather(
        slices: impl IntoIterator<Item = &'a Object>,
        node: &str,
    ) -> Endpoints<'a> {
        let mut endpoints = Endpoints::default();
        for slice in slices {
            let Some(service) = meta::label(slice, SERVICE_NAME) else { continue };
            if text(slice, "addressType") != "IPv4" {
                continue;
            }
            for port in items(slice, "ports") {
                let protocol = Protocol::parse(text(port, "protocol"));
                let (Some(protocol), Some(number)) = (protocol, port_number(&port["port"])) else {
                    continue;
                };
                let key = (meta::namespace(slice), service, text(port, "name"), protocol);
                let found = items(slice, "endpoints").filter_map(|e| read(e, number, node));
                endpoints.by_port.entry(key).or_default().extend(found);
            }
        }
        endpoints
    }

    /// How many of a Service's ready endpoints are on this board, each address once.
    pub(super) fn ready_here(&self, service: &Service<'a>) -> usize {
        let own = self.by_port.iter().filter(|((namespace, name, ..), _)| {
            (*namespace, *name) == (service.namespace, service.name)
        });
        let ready = own.flat_map(|(_, list)| list).filter(|e| e.local && e.ready);
        ready.map(|e| e.target.address).collect::<BTreeSet<_>>().len()
    }

    /// The endpoints of one service port.
    pub(super) fn of(&self, service: &Service<'a>, port: &Port<'a>) -> &[Endpoint] {
        let key = (service.namespace, service.name, port.name, port.protocol);
        self.by_port.get(&key).map_or(&[], Vec::as_slice)
    }
}

fn read(endpoint: &Value, port: u16, node: &str) -> Option<Endpoint> {
    // Kubernetes: all addresses of an endpoint are the same one; the first is used.
    let address = items(endpoint, "addresses").next()?.as_str()?.parse().ok()?;
    let conditions = &endpoint["conditions"];
    let ready = conditions["ready"].as_bool().unwrap_or(true);
    Some(Endpoint {
        target: Target { address, port },
        ready,
        serving: conditions["serving"].as_bool().unwrap_or(ready),
        terminating: conditions["terminating"].as_bool().unwrap_or(false),
        local: endpoint["nodeName"].as_str() == Some(node),
    })
}
