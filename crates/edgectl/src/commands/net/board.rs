//! What is known of each board before anything is tried: its Node, and what its own agent says.

use edge_api::{Object, meta};
use std::net::Ipv4Addr;

/// A board.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Board {
    pub(super) name: String,
    /// Its address on the LAN.
    pub(super) address: Option<Ipv4Addr>,
    /// The range of its pods.
    pub(super) pods: String,
    /// Why its Node is not Ready, when it is not.
    pub(super) not_ready: Option<String>,
    /// What its agent says; or why it can't be asked.
    pub(super) facts: Result<Facts, String>,
    /// Where its sandbox is; or why it has none.
    pub(super) sandbox: Result<Sandbox, String>,
}

/// A pod's network without a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sandbox {
    pub(super) uid: String,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// What an agent says of its board.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    /// Its clock minus ours, in milliseconds.
    pub(super) ahead_ms: i64,
    pub(super) mtu: usize,
    pub(super) forwarding: Option<bool>,
    /// Ranges, and through whom they are reached.
    pub(super) routes: Vec<(String, Option<Ipv4Addr>)>,
    /// Chains of others that drop.
    pub(super) drops: Vec<String>,
    /// What it says itself about the pod network.
    pub(super) problem: Option<String>,
    /// Ports of the cluster that are open on its address.
    pub(super) listens: Vec<u16>,
    pub(super) dns: Option<Dns>,
}

/// Names on a board.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Dns {
    pub(super) server: Option<Ipv4Addr>,
    pub(super) domain: String,
    /// Whom the board asks.
    pub(super) upstreams: Vec<Ipv4Addr>,
    pub(super) port: u16,
}

impl Board {
    /// Reads a Node.
    pub(super) fn read(node: &Object) -> Board {
        let list = |value: &Object| value.as_array().cloned().unwrap_or_default();
        let addresses = list(&node["status"]["addresses"]);
        let internal = addresses.iter().filter(|entry| entry["type"] == "InternalIP");
        let address = internal.filter_map(|entry| entry["address"].as_str()?.parse().ok()).next();
        let conditions = list(&node["status"]["conditions"]);
        let ready = conditions.iter().find(|c| c["type"] == "Ready");
        let not_ready = match ready {
            Some(ready) if ready["status"] == "True" => None,
            Some(ready) => Some(text(&ready["message"])),
            None => Some("it has never reported".to_owned()),
        };
        Board {
            name: meta::name(node).to_owned(),
            address,
            pods: text(&node["spec"]["podCIDR"]),
            not_ready,
            facts: Err("not asked".to_owned()),
            sandbox: Err("not asked for".to_owned()),
        }
    }

    /// Its facts, if its agent could be asked.
    pub(super) fn known(&self) -> Option<&Facts> {
        self.facts.as_ref().ok()
    }
}

fn text(value: &Object) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Facts {
    /// Reads an agent's answer, given what our own clock says.
    pub(super) fn read(answer: &Object, now_ms: i64) -> Facts {
        let address = |value: &Object| value.as_str().and_then(|text| text.parse().ok());
        let list = |value: &Object| value.as_array().cloned().unwrap_or_default();
        let number = |value: &Object| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let dns = &answer["dns"];
        let port = |value: &Object| value.as_u64().and_then(|n| u16::try_from(n).ok());
        Facts {
            ahead_ms: answer["nowMs"].as_i64().map_or(0, |theirs| theirs - now_ms),
            mtu: number(&answer["mtu"]).unwrap_or(1500),
            forwarding: answer["forwarding"].as_bool(),
            routes: list(&answer["routes"])
                .iter()
                .map(|route| (text(&route["to"]), address(&route["via"])))
                .collect(),
            drops: list(&answer["drops"]).iter().map(text).collect(),
            problem: answer["problem"].as_str().map(str::to_owned),
            listens: list(&answer["listens"]).iter().filter_map(port).collect(),
            dns: dns.is_object().then(|| Dns {
                server: address(&dns["server"]),
                domain: text(&dns["domain"]),
                upstreams: list(&dns["upstreams"]).iter().filter_map(address).collect(),
                port: port(&dns["port"]).unwrap_or(53),
            }),
        }
    }

    /// Through whom packets to a range go; the outer `None` when there is no route to exactly it.
    pub(super) fn way_to(&self, range: &str) -> Option<Option<Ipv4Addr>> {
        self.routes.iter().find(|(to, _)| to == range).map(|(_, via)| *via)
    }

    /// The router to everywhere else.
    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        self.way_to("0.0.0.0/0").flatten()
    }
}
