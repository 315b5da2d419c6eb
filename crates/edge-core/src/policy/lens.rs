//! The few fields of NetworkPolicies and pods that decide who may talk to whom, read from the raw
//! objects. What makes no sense is passed over: validation has had its say before.

use super::span::{self, Span};
use crate::proxy::Protocol;
use core::net::Ipv4Addr;
use edge_api::selector::LabelSelector;
use edge_api::{Object, meta};
use serde_json::{Map, Value};

/// The labels of an object.
pub type Labels = Map<String, Value>;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// A port that a container names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// `http`
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// What is to be known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its own address; none on the board's network, before it has one, and after its end.
    pub address: Option<Ipv4Addr>,
    /// The ports that its containers name.
    pub ports: Vec<NamedPort>,
}

impl Pod {
    /// Reads a pod, whole or cut down to what boards may see of others'.
    pub fn read(pod: &Object) -> Pod {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let ended = matches!(text(status, "phase"), "Succeeded" | "Failed");
        let apart = ended || spec["hostNetwork"] == true;
        let first = text(status, "podIP");
        let all = items(status, "podIPs").map(|entry| text(entry, "ip"));
        let mut addresses = [first].into_iter().chain(all).filter_map(|ip| ip.parse().ok());
        let sidecars =
            items(spec, "initContainers").filter(|c| text(c, "restartPolicy") == "Always");
        let containers = items(spec, "containers").chain(sidecars);
        let ports = containers.flat_map(|c| items(c, "ports")).filter_map(|port| {
            Some(NamedPort {
                name: port["name"].as_str().filter(|name| !name.is_empty())?.to_owned(),
                protocol: Protocol::parse(text(port, "protocol"))?,
                port: number(&port["containerPort"])?,
            })
        });
        Pod {
            namespace: meta::namespace(pod).to_owned(),
            name: meta::name(pod).to_owned(),
            uid: meta::uid(pod).to_owned(),
            labels: pod["metadata"]["labels"].as_object().cloned().unwrap_or_default(),
            address: addresses.next().filter(|_| !apart),
            ports: ports.collect(),
        }
    }

    /// The number of the port of that name.
    pub(super) fn named(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let mut ports = self.ports.iter();
        ports.find(|port| port.name == name && port.protocol == protocol).map(|port| port.port)
    }
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// Which ports a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Port {
    /// From the first to the last.
    Range(Protocol, u16, u16),
    /// The one that each pod calls so.
    Named(Protocol, String),
}

impl Port {
    fn read(port: &Value) -> Option<Port> {
        let protocol = Protocol::parse(text(port, "protocol"))?;
        match &port["port"] {
            Value::Null => Some(Port::Range(protocol, 0, u16::MAX)),
            Value::String(name) => Some(Port::Named(protocol, name.clone())),
            first => {
                let first = number(first)?;
                let last = number(&port["endPort"]).unwrap_or(first);
                (first <= last).then_some(Port::Range(protocol, first, last))
            }
        }
    }
}

/// Namespaces that a peer's pods are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Namespaces {
    /// The policy's own.
    Only(String),
    /// Those with these labels.
    With(LabelSelector),
}

/// Whom a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// Pods by their labels and their namespaces'.
    Pods(Namespaces, LabelSelector),
    /// Addresses.
    Block(Vec<Span>),
}

impl Peer {
    /// Reads a peer; one that can't be read allows nobody.
    fn read(peer: &Value, namespace: &str) -> Peer {
        let nobody = || Peer::Block(Vec::new());
        if !peer["ipBlock"].is_null() {
            let block = &peer["ipBlock"];
            let except: Vec<Span> =
                items(block, "except").filter_map(Value::as_str).filter_map(Span::parse).collect();
            let whole = Span::parse(text(block, "cidr"));
            return Peer::Block(
                whole.map(|whole| span::without(whole, except)).unwrap_or_default(),
            );
        }
        let selector = |field: &str| match &peer[field] {
            Value::Null => Ok(LabelSelector::everything()),
            found => LabelSelector::from_object(found),
        };
        let (Ok(pods), Ok(others)) = (selector("podSelector"), selector("namespaceSelector"))
        else {
            return nobody();
        };
        match (peer["podSelector"].is_null(), peer["namespaceSelector"].is_null()) {
            (true, true) => nobody(),
            (_, true) => Peer::Pods(Namespaces::Only(namespace.to_owned()), pods),
            _ => Peer::Pods(Namespaces::With(others), pods),
        }
    }
}

/// One rule: these ports of these peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// `None`: every port and protocol.
    pub(super) ports: Option<Vec<Port>>,
    /// `None`: everybody.
    pub(super) peers: Option<Vec<Peer>>,
}

/// Which way a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Who may reach the pod.
    Ingress,
    /// Whom the pod may reach.
    Egress,
}

/// What is to be known of a NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    pub(super) pods: LabelSelector,
    /// The rules of each direction; `None` for one that it says nothing about.
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
}

impl Policy {
    /// Reads a NetworkPolicy that has its defaults.
    pub fn read(policy: &Object) -> Policy {
        let spec = &policy["spec"];
        let namespace = meta::namespace(policy);
        let rules = |word: &str, field: &str, peers: &str| {
            let affected = items(spec, "policyTypes").any(|found| found == word);
            affected.then(|| items(spec, field).map(|r| rule(r, peers, namespace)).collect())
        };
        // A selector that can't be read selects everybody: nothing is allowed by mistake.
        let pods = match &spec["podSelector"] {
            Value::Null => LabelSelector::everything(),
            found => LabelSelector::from_object(found).unwrap_or(LabelSelector::everything()),
        };
        Policy {
            namespace: namespace.to_owned(),
            name: meta::name(policy).to_owned(),
            uid: meta::uid(policy).to_owned(),
            pods,
            ingress: rules("Ingress", "ingress", "from"),
            egress: rules("Egress", "egress", "to"),
        }
    }

    pub(super) fn selects(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && self.pods.matches_labels(Some(&pod.labels))
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

fn rule(rule: &Value, peers: &str, namespace: &str) -> Rule {
    // Empty is as good as missing: Kubernetes takes both for all.
    let some = |field: &str| items(rule, field).next().is_some();
    Rule {
        ports: some("ports").then(|| items(rule, "ports").filter_map(Port::read).collect()),
        peers: some(peers)
            .then(|| items(rule, peers).map(|peer| Peer::read(peer, namespace)).collect()),
    }
}
