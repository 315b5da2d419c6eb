//! Where Services of type LoadBalancer are found: at an address of the LAN that one board
//! announces, where there is a pool of them; else at the addresses of the boards themselves, each
//! of which answers on the Service's own ports.

mod external;
mod lan;
mod pool;
#[cfg(test)]
mod tests;

pub use lan::{CONFLICTS, NETWORKS, WANTED};
pub use pool::{LanPool, PoolError};

use std::collections::{BTreeMap, BTreeSet};

use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use super::endpoints::SERVICE_LABEL;
use super::node;
use crate::plan::{Action, Plan};
use crate::podnet::Peer;
use crate::proxy::ANNOUNCED_BY;
use crate::view::{Round, View};
use crate::workload::{Condition, condition, set_condition};
use external::External;
use lan::{Lan, Refused};

/// The component's name in events.
pub const SOURCE: &str = "service-controller";

/// A board with this label is not shown as an address of any.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The condition that says why a Service has no ports on the boards.
const PORTS: &str = "LoadBalancerPortsFree";
/// The condition that says why it has no address of the LAN, or nobody to announce it.
const ADDRESS: &str = "LoadBalancerAddressReady";

/// Ports of boards by which the cluster itself is reached: API, bus, agent, tunnels. A Service that
/// took one would cut off every board.
const OWN_PORTS: [(&str, u64); 4] = [("TCP", 6443), ("TCP", 8883), ("TCP", 10250), ("UDP", 51820)];

/// A port of all boards.
type Port<'a> = (&'a str, u64);

/// Plans the addresses of every Service.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    let boards = boards(view);
    let services = view.list(kinds::SERVICE).map(AsRef::as_ref);
    let mut services: Vec<&Object> = services.filter(|s| !meta::is_deleting(s)).collect();
    services.sort_by_key(|s| (meta::creation_timestamp(s), meta::namespace(s), meta::name(s)));
    let lan = Lan::decide(view, &services);
    let mut taken: BTreeMap<Port<'_>, &Object> = BTreeMap::new();
    let mut external = External::new(view);
    for service in services {
        let claimed = external.claim(service);
        if service["spec"]["type"] == "LoadBalancer" && !ours(service) {
            continue;
        }
        let mut found = match lan.address(service) {
            Some(given) => announced(view, &lan, service, given),
            None if !ours(service) => Found::default(),
            None => match clash(service, &taken) {
                Some(why) => {
                    let trouble = Some((PORTS, Refused { reason: "PortTaken", why }));
                    Found { trouble, ..Found::default() }
                }
                None => {
                    taken.extend(ports(service).map(|port| (port, service)));
                    Found { ingress: ingress(view, service, &boards), ..Found::default() }
                }
            },
        };
        found.trouble = found.trouble.or(claimed.map(|refused| (external::FREE, refused)));
        settle(service, found, round, &mut plan);
    }
    plan
}

/// What is right for a Service.
#[derive(Debug, Default)]
struct Found {
    ingress: Vec<Value>,
    /// Who announces its address, empty for nobody; `None` where it has none of the LAN.
    announcer: Option<String>,
    /// The condition that is not met, and why.
    trouble: Option<(&'static str, Refused)>,
}

impl Found {
    fn address(&self) -> Option<&str> {
        self.ingress.first()?["ip"].as_str()
    }
}

fn announced(
    view: &View,
    lan: &Lan<'_>,
    service: &Object,
    given: &Result<core::net::Ipv4Addr, Refused>,
) -> Found {
    match given {
        Err(refused) => Found { trouble: Some((ADDRESS, refused.clone())), ..Found::default() },
        Ok(ip) => {
            let announcer = lan.announcer(view, service, *ip);
            let trouble = announcer.is_none().then(|| {
                let why =
                    format!("no board can announce {ip}: none that is Ready is on its network");
                let local = service["spec"]["externalTrafficPolicy"] == "Local";
                let why = if local { why + " and has a ready endpoint" } else { why };
                (ADDRESS, Refused { reason: "NobodyAnnounces", why })
            });
            let ingress = vec![json!({"ip": ip.to_string(), "ipMode": "VIP"})];
            Found { ingress, announcer: Some(announcer.unwrap_or_default().to_owned()), trouble }
        }
    }
}

/// Makes a Service say what was found, its status first.
fn settle(service: &Object, found: Found, round: &Round, plan: &mut Plan) {
    let mut status = service["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let name = found.trouble.as_ref().map(|(name, _)| *name);
    [PORTS, ADDRESS, external::FREE].iter().filter(|known| name != Some(**known)).for_each(
        |known| {
            forget(&mut status, known);
        },
    );
    if let Some((kind, Refused { reason, why })) = &found.trouble {
        let said = condition(service, kind).is_some_and(|c| c["message"] == why.as_str());
        let new = Condition { kind, status: "False", reason, message: why };
        set_condition(&mut status, new, round.now_ms, false);
        if !said && *kind == external::FREE {
            plan.push(Action::warning(SOURCE, service, reason, why.clone()));
        } else if !said {
            let text =
                format!("Error syncing load balancer: failed to ensure load balancer: {why}");
            plan.push(Action::warning(SOURCE, service, "SyncLoadBalancerFailed", text));
        }
    }
    let held = status["loadBalancer"]["ingress"].as_array().map_or(&[][..], Vec::as_slice);
    if held != found.ingress {
        if let Some(ip) = found.announcer.as_ref().and(found.address()) {
            let text = format!("Ensured load balancer: {ip} is an address of the LAN");
            plan.push(Action::event(SOURCE, service, "EnsuredLoadBalancer", text));
        }
        let empty = found.ingress.is_empty();
        status["loadBalancer"] = if empty { json!({}) } else { json!({"ingress": found.ingress}) };
    }
    if status != service["status"] && (service["status"].is_object() || status != json!({})) {
        let mut changed = service.clone();
        changed["status"] = status;
        // The announcer follows in the next round: both are changes of one object.
        return plan.push(Action::status(kinds::SERVICE, changed));
    }
    let known = meta::annotation(service, ANNOUNCED_BY);
    if known == found.announcer.as_deref() {
        return;
    }
    let mut changed = service.clone();
    match &found.announcer {
        Some(board) => {
            meta::set_annotation(&mut changed, ANNOUNCED_BY, board);
            if let Some(ip) = found.address().filter(|_| !board.is_empty()) {
                let text = format!("announcing {ip} on the LAN from node \"{board}\"");
                plan.push(Action::event(SOURCE, service, "nodeAssigned", text));
            }
        }
        None => {
            let map = changed["metadata"]["annotations"].as_object_mut();
            map.map(|map| map.remove(ANNOUNCED_BY));
        }
    }
    plan.push(Action::update(kinds::SERVICE, changed));
}

/// A Service with a class is served by whoever knows that class.
fn ours(service: &Object) -> bool {
    let spec = &service["spec"];
    spec["type"] == "LoadBalancer" && spec["loadBalancerClass"].is_null()
}

/// The boards that answer, by name, with their addresses.
fn boards(view: &View) -> BTreeMap<String, Value> {
    let nodes = view.list(kinds::NODE);
    nodes
        .filter(|node| node::ready(node) && meta::label(node, EXCLUDED).is_none())
        .filter_map(|node| Peer::read(node))
        .filter_map(|peer| Some((peer.name, json!({"ip": peer.address?, "ipMode": "VIP"}))))
        .collect()
}

fn ports(service: &Object) -> impl Iterator<Item = Port<'_>> {
    let list = service["spec"]["ports"].as_array().into_iter().flatten();
    list.filter_map(|port| {
        Some((port["protocol"].as_str().unwrap_or("TCP"), port["port"].as_u64()?))
    })
}

/// Why a Service can't have its ports on the boards: the cluster, or an older Service, has one.
fn clash(service: &Object, taken: &BTreeMap<Port<'_>, &Object>) -> Option<String> {
    ports(service).find_map(|(protocol, port)| {
        if OWN_PORTS.contains(&(protocol, port)) {
            return Some(format!("port {port}/{protocol} of the boards is the cluster's own"));
        }
        let holder = taken.get(&(protocol, port))?;
        let (namespace, name) = (meta::namespace(holder), meta::name(holder));
        Some(format!("port {port}/{protocol} of the boards is taken by Service {namespace}/{name}"))
    })
}

/// Takes back what was said.
fn forget(status: &mut Value, kind: &str) {
    let list = status.get_mut("conditions").and_then(Value::as_array_mut);
    let Some(list) = list else { return };
    list.retain(|condition| condition["type"] != kind);
    if list.is_empty() {
        status.as_object_mut().map(|fields| fields.remove("conditions"));
    }
}

/// The boards' addresses; with `externalTrafficPolicy: Local` of those alone that have a pod.
fn ingress(view: &View, service: &Object, boards: &BTreeMap<String, Value>) -> Vec<Value> {
    if service["spec"]["externalTrafficPolicy"] != "Local" {
        return boards.values().cloned().collect();
    }
    let on = boards_with_endpoints(view, service);
    let there = boards.iter().filter(|(name, _)| on.contains(name.as_str()));
    there.map(|(_, address)| address.clone()).collect()
}

/// The boards that have a ready endpoint of a Service.
fn boards_with_endpoints<'a>(view: &'a View, service: &Object) -> BTreeSet<&'a str> {
    let slices = view.within(kinds::ENDPOINT_SLICE, meta::namespace(service));
    let own = slices.filter(|s| meta::label(s, SERVICE_LABEL) == Some(meta::name(service)));
    let endpoints = own.filter_map(|slice| slice["endpoints"].as_array()).flatten();
    endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .filter_map(|endpoint| endpoint["nodeName"].as_str())
        .collect()
}
