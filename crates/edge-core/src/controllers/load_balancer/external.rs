//! Whose an address in `externalIPs` is when two Services name it with the same port: the older
//! one's, as boards have it, and the other one is told. The cluster's own ports at a board's own
//! address are nobody's.

use std::collections::{BTreeMap, BTreeSet};

use edge_api::{Object, kinds, meta};

use super::lan::Refused;
use super::{OWN_PORTS, ports};
use crate::podnet::Peer;
use crate::proxy::is_carried;
use crate::view::View;

/// The condition that says why a Service is not reached at one of its external addresses.
pub(super) const FREE: &str = "ExternalIPsFree";

/// What has been claimed so far: address, protocol and port, and by whom.
#[derive(Debug, Default)]
pub(super) struct External<'a> {
    taken: BTreeMap<(&'a str, &'a str, u64), &'a Object>,
    /// Addresses of boards.
    boards: BTreeSet<String>,
}

impl<'a> External<'a> {
    pub(super) fn new(view: &View) -> External<'a> {
        let addresses = view.list(kinds::NODE).filter_map(|node| Peer::read(node)?.address);
        let boards = addresses.map(|address| address.to_string()).collect();
        External { taken: BTreeMap::new(), boards }
    }

    /// Takes a Service's addresses for it, after all older ones; what it can't have, and why.
    pub(super) fn claim(&mut self, service: &'a Object) -> Option<Refused> {
        if !is_carried(service) {
            return None;
        }
        let mut refused = None;
        let named = service["spec"]["externalIPs"].as_array().into_iter().flatten();
        let given = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
        let named = named.filter_map(|ip| Some((true, ip.as_str()?)));
        let given = given.filter(|entry| entry["ipMode"] != "Proxy");
        let all = named.chain(given.filter_map(|entry| Some((false, entry["ip"].as_str()?))));
        for (external, ip) in all {
            for (protocol, port) in ports(service) {
                if external && OWN_PORTS.contains(&(protocol, port)) && self.boards.contains(ip) {
                    refused.get_or_insert_with(|| Refused {
                        reason: "ExternalIPTaken",
                        why: format!("port {port}/{protocol} of board {ip} is the cluster's own"),
                    });
                    continue;
                }
                let holder = *self.taken.entry((ip, protocol, port)).or_insert(service);
                if external && !core::ptr::eq(holder, service) {
                    let (namespace, name) = (meta::namespace(holder), meta::name(holder));
                    refused.get_or_insert_with(|| Refused {
                        reason: "ExternalIPTaken",
                        why: format!(
                            "port {port}/{protocol} of the external address {ip} is taken by \
                             Service {namespace}/{name}"
                        ),
                    });
                }
            }
        }
        refused
    }
}
