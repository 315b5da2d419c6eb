//! Where traffic to Services goes on one board: Services and EndpointSlices in, tables out.
//! The board's network turns the tables into elements of kernel maps ([`Elements`]), and
//! changes only those that differ.
//!
//! IPv4 so far: slices and addresses of the other family are passed over.

pub mod claims;
mod elements;
mod lens;
mod live;
mod sources;
#[cfg(test)]
mod tests;

pub use elements::{Change, Elements, Hairpins, Source, Spreading, TargetKey, Verdict, VerdictKey};
pub use lens::{ANNOUNCED_BY, announced, is_carried};
pub use live::{Claimed, Live, Name, Patch};
pub use sources::Sources;

use crate::podnet::Range;
use core::net::Ipv4Addr;
use edge_api::Object;
use lens::{Endpoint, Endpoints, Port, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A transport protocol that Services know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The default.
    Tcp,
    /// Datagrams.
    Udp,
    /// Where the kernel has it.
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it; no name is TCP.
    pub fn parse(name: &str) -> Option<Protocol> {
        match name {
            "" | "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol with that number in the IP header.
    pub fn from_number(number: u8) -> Option<Protocol> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == number)
    }
}

/// What a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// The address; `None` is every address of the board, for a NodePort.
    pub address: Option<Ipv4Addr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Front {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(out, "{address}:{} {:?}", self.port, self.protocol),
            None => write!(out, "node port {} {:?}", self.port, self.protocol),
        }
    }
}

/// Where a connection may end: a pod's address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The port there.
    pub port: u16,
}

/// What becomes of a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// One of these at random, each as likely; never empty, sorted, no target twice.
    Spread(Vec<Target>),
    /// No endpoint is ready: refused at once.
    Refuse,
    /// A policy wants an endpoint on this board and there is none, but elsewhere there are:
    /// silently dropped, as Kubernetes has it.
    Drop,
}

/// One front's service port, and what becomes of connections to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `namespace/service:port` it belongs to.
    pub name: String,
    /// For connections from pods and from the board itself.
    pub inside: Choice,
    /// For connections from anywhere else.
    pub outside: Choice,
    /// A client keeps its endpoint until it was away for so many seconds.
    pub affinity_seconds: Option<u32>,
}

/// What a Service's `healthCheckNodePort` answers on one board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many of its ready endpoints are on this board.
    pub ready: usize,
}

/// A front that two claim: the front, who has it, and who doesn't get it.
pub type Clash = (Front, String, String);

/// All fronts that one board answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Each front's route.
    pub routes: BTreeMap<Front, Route>,
    /// Fronts that two services claim.
    pub clashes: BTreeSet<Clash>,
    /// Fronts that take some clients only; all others take everybody.
    pub allowed: BTreeMap<Front, Sources>,
    /// Addresses of the LAN that belong to Services and to no board: where no front is, nobody
    /// answers.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Ports on which this board says whether it has endpoints of a Service.
    pub health: BTreeMap<u16, HealthCheck>,
}

impl Tables {
    /// The tables of the board called `node`, from all Services and EndpointSlices. When two
    /// services claim one front, the older one has it.
    pub fn gather<'a>(
        services: impl IntoIterator<Item = &'a Object>,
        slices: impl IntoIterator<Item = &'a Object>,
        node: &str,
    ) -> Tables {
        let endpoints = Endpoints::gather(slices, node);
        let mut services: Vec<Service<'_>> =
            services.into_iter().filter_map(Service::read).collect();
        services.sort_by(|a, b| {
            (a.created, a.namespace, a.name).cmp(&(b.created, b.namespace, b.name))
        });
        let mut tables = Tables::default();
        for service in &services {
            for port in &service.ports {
                tables.add(service, port, endpoints.of(service, port));
            }
            if service.owns_ingress {
                tables.addresses.extend(&service.ingress);
            }
            if let Some(port) = service.health_port {
                let (namespace, name) = (service.namespace.to_owned(), service.name.to_owned());
                let ready = endpoints.ready_here(service);
                tables.health.entry(port).or_insert(HealthCheck { namespace, name, ready });
            }
        }
        tables
    }

    fn add(&mut self, service: &Service<'_>, port: &Port<'_>, all: &[Endpoint]) {
        let cluster = usable(all.iter(), service.publish_not_ready);
        let local = usable(all.iter().filter(|e| e.local), service.publish_not_ready);
        let anywhere = if cluster.is_empty() { Choice::Refuse } else { Choice::Spread(cluster) };
        let here = match (&anywhere, local.is_empty()) {
            (Choice::Spread(_), true) => Choice::Drop,
            (_, true) => Choice::Refuse,
            (_, false) => Choice::Spread(local),
        };
        let route = |inside: &Choice, outside: &Choice| Route {
            name: format!("{}/{}:{}", service.namespace, service.name, port.name),
            inside: inside.clone(),
            outside: outside.clone(),
            affinity_seconds: service.affinity_seconds,
        };
        let internal = if service.internal_local { &here } else { &anywhere };
        let external = if service.external_local { &here } else { &anywhere };
        let protocol = port.protocol;
        for address in &service.cluster_ips {
            let front = Front { address: Some(*address), protocol, port: port.port };
            self.claim(front, route(internal, internal));
        }
        for address in &service.external_ips {
            let front = Front { address: Some(*address), protocol, port: port.port };
            self.claim(front, route(&anywhere, external));
        }
        for address in &service.ingress {
            let front = Front { address: Some(*address), protocol, port: port.port };
            if self.claim(front, route(&anywhere, external))
                && let Some(sources) = &service.sources
            {
                self.allowed.insert(front, sources.clone());
            }
        }
        if let Some(port) = port.node_port {
            let front = Front { address: None, protocol, port };
            self.claim(front, route(&anywhere, external));
        }
    }

    /// Drops the fronts within the cluster's own ranges that are not these, a Service's own
    /// addresses: none gets at another's, or at the DNS server's, by naming it as one from outside.
    fn keep_out(&mut self, ranges: &[Range], own: &[Ipv4Addr]) {
        let within = |ip: &Ipv4Addr| ranges.iter().any(|range| range.contains(*ip));
        let good = |ip: &Ipv4Addr| own.contains(ip) || !within(ip);
        let stays = |front: &Front| front.address.is_none_or(|ip| good(&ip));
        self.routes.retain(|front, _| stays(front));
        self.allowed.retain(|front, _| stays(front));
        self.clashes.retain(|(front, ..)| stays(front));
        self.addresses.retain(good);
    }

    /// Gives a front to whoever claims it first; says whether this one has it.
    fn claim(&mut self, front: Front, route: Route) -> bool {
        match self.routes.get(&front) {
            None => {
                self.routes.insert(front, route);
                return true;
            }
            Some(holder) if holder.name == route.name => return true,
            Some(holder) => {
                self.clashes.insert((front, holder.name.clone(), route.name));
            }
        }
        false
    }
}

/// The ready ones; when there are none, those that still serve while they end.
fn usable<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    publish_not_ready: bool,
) -> Vec<Target> {
    let pick = |want: &dyn Fn(&Endpoint) -> bool| {
        let mut found: Vec<Target> =
            endpoints.clone().filter(|e| want(e)).map(|e| e.target).collect();
        found.sort();
        found.dedup();
        found
    };
    let ready = pick(&|e| e.ready || publish_not_ready);
    if ready.is_empty() { pick(&|e| e.serving && e.terminating) } else { ready }
}
