//! Where Services of type LoadBalancer are found: at the addresses of the boards themselves, each
//! of which answers on the Service's own ports. An address of the LAN that belongs to no board,
//! announced by one of them, is for later.

use std::collections::{BTreeMap, BTreeSet};

use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use super::endpoints::SERVICE_LABEL;
use super::node;
use crate::plan::{Action, Plan};
use crate::podnet::Peer;
use crate::view::{Round, View};
use crate::workload::{Condition, condition, set_condition};

/// The component's name in events.
pub const SOURCE: &str = "service-controller";

/// A board with this label is not shown as an address of any.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The condition that says why a Service has no address.
const CONDITION: &str = "LoadBalancerPortsFree";

/// Ports of boards by which the cluster itself is reached: API, bus, agent. A Service that took
/// one would cut off every board.
const OWN_PORTS: [u64; 3] = [6443, 8883, 10250];

/// A port of all boards.
type Port<'a> = (&'a str, u64);

/// Plans the addresses of every Service.
pub fn plan(view: &View, round: &Round) -> Plan {
    let mut plan = Plan::default();
    let boards = boards(view);
    let mut services: Vec<&Object> = view.list(kinds::SERVICE).map(AsRef::as_ref).collect();
    services.sort_by_key(|s| (meta::creation_timestamp(s), meta::namespace(s), meta::name(s)));
    let mut taken: BTreeMap<Port<'_>, &Object> = BTreeMap::new();
    for service in services.into_iter().filter(|service| !meta::is_deleting(service)) {
        let mut status = service["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let wanted = if ours(service) {
            let clash = clash(service, &taken);
            let told = condition(service, CONDITION).is_some_and(|c| c["status"] == "False");
            judge(&mut status, clash.as_deref(), round.now_ms);
            match clash {
                Some(why) => {
                    if !told {
                        plan.push(Action::warning(SOURCE, service, "PortTaken", why));
                    }
                    Vec::new()
                }
                None => {
                    taken.extend(ports(service).map(|port| (port, service)));
                    ingress(view, service, &boards)
                }
            }
        } else if service["spec"]["type"] == "LoadBalancer" {
            continue;
        } else {
            forget(&mut status);
            Vec::new()
        };
        let held = status["loadBalancer"]["ingress"].as_array().map_or(&[][..], Vec::as_slice);
        if held != wanted {
            status["loadBalancer"] =
                if wanted.is_empty() { json!({}) } else { json!({"ingress": wanted}) };
        }
        if status != service["status"] && (service["status"].is_object() || status != json!({})) {
            let mut changed = service.clone();
            changed["status"] = status;
            plan.push(Action::status(kinds::SERVICE, changed));
        }
    }
    plan
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
        if protocol == "TCP" && OWN_PORTS.contains(&port) {
            return Some(format!("port {port}/TCP of the boards is the cluster's own"));
        }
        let holder = taken.get(&(protocol, port))?;
        let (namespace, name) = (meta::namespace(holder), meta::name(holder));
        Some(format!("port {port}/{protocol} of the boards is taken by Service {namespace}/{name}"))
    })
}

/// Notes on a Service why it has no address, or that nothing is in its way any more.
fn judge(status: &mut Value, clash: Option<&str>, now_ms: i64) {
    let said = status["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|condition| condition["type"] == CONDITION));
    match clash {
        Some(why) => {
            let kind = CONDITION;
            let new = Condition { kind, status: "False", reason: "PortTaken", message: why };
            set_condition(status, new, now_ms, false);
        }
        None if said => forget(status),
        None => {}
    }
}

fn forget(status: &mut Value) {
    let list = status.get_mut("conditions").and_then(Value::as_array_mut);
    let Some(list) = list else { return };
    list.retain(|condition| condition["type"] != CONDITION);
    if list.is_empty() {
        status.as_object_mut().map(|fields| fields.remove("conditions"));
    }
}

/// The boards' addresses; with `externalTrafficPolicy: Local` of those alone that have a pod.
fn ingress(view: &View, service: &Object, boards: &BTreeMap<String, Value>) -> Vec<Value> {
    if service["spec"]["externalTrafficPolicy"] != "Local" {
        return boards.values().cloned().collect();
    }
    let slices = view.within(kinds::ENDPOINT_SLICE, meta::namespace(service));
    let own = slices.filter(|s| meta::label(s, SERVICE_LABEL) == Some(meta::name(service)));
    let endpoints = own.filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let on: BTreeSet<&str> = endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .filter_map(|endpoint| endpoint["nodeName"].as_str())
        .collect();
    let there = boards.iter().filter(|(name, _)| on.contains(name.as_str()));
    there.map(|(_, address)| address.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const ROUND: Round = Round { now_ms: 0, seed: 0 };

    fn service(name: &str, created: u32, extra: &Value) -> Object {
        let mut object = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "a", "uid": name,
                         "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {}}});
        for (key, value) in extra.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    }

    fn node(name: &str, ready: bool) -> Object {
        let number = name.trim_start_matches('n');
        json!({"metadata": {"name": name}, "spec": {"podCIDR": format!("10.42.{number}.0/24")},
            "status": {"addresses": [{"type": "InternalIP",
                                      "address": format!("192.0.2.{number}")}],
                       "conditions": [{"type": "Ready",
                                       "status": if ready { "True" } else { "Unknown" }}]}})
    }

    fn view(services: &[Object]) -> View {
        let mut view = View::default();
        for node in [node("n1", true), node("n2", true), node("n3", false)] {
            view.put(kinds::NODE, Arc::new(node));
        }
        for service in services {
            view.put(kinds::SERVICE, Arc::new(service.clone()));
        }
        view
    }

    fn realise(view: &mut View) -> Plan {
        let first = plan(view, &ROUND);
        for action in &first.actions {
            if let Action::Update { kind, object, sub } = action {
                assert_eq!(*sub, "status");
                view.put(kind, Arc::new(object.clone()));
            }
        }
        assert!(plan(view, &ROUND).is_empty(), "a realised plan is empty");
        first
    }

    fn addresses(view: &View, name: &str) -> Vec<String> {
        let service = view.get(kinds::SERVICE, "a", name).expect("a service");
        let list = service["status"]["loadBalancer"]["ingress"].as_array();
        let list = list.into_iter().flatten();
        list.map(|entry| entry["ip"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_service_is_found_at_every_ready_board() {
        let mut view = view(&[service("web", 1, &Value::Null)]);
        realise(&mut view);
        assert_eq!(addresses(&view, "web"), ["192.0.2.1", "192.0.2.2"]);
        view.put(kinds::NODE, Arc::new(node("n2", false)));
        realise(&mut view);
        assert_eq!(addresses(&view, "web"), ["192.0.2.1"]);
        let mut hidden = node("n1", true);
        hidden["metadata"]["labels"] = json!({EXCLUDED: ""});
        view.put(kinds::NODE, Arc::new(hidden));
        realise(&mut view);
        assert!(addresses(&view, "web").is_empty());
    }

    #[test]
    fn a_local_policy_shows_boards_that_have_a_pod() {
        let mut view = view(&[service("web", 1, &json!({"externalTrafficPolicy": "Local"}))]);
        realise(&mut view);
        assert!(addresses(&view, "web").is_empty());
        view.put(
            kinds::ENDPOINT_SLICE,
            Arc::new(json!({"metadata": {"name": "x", "namespace": "a",
                "labels": {SERVICE_LABEL: "web"}}, "endpoints": [
                {"nodeName": "n2", "conditions": {"ready": true}},
                {"nodeName": "n1", "conditions": {"ready": false}}]})),
        );
        realise(&mut view);
        assert_eq!(addresses(&view, "web"), ["192.0.2.2"]);
    }

    #[test]
    fn a_port_is_the_older_services_and_some_are_the_clusters() {
        let api = json!({"ports": [{"port": 6443, "protocol": "TCP"}]});
        let udp = json!({"ports": [{"port": 80, "protocol": "UDP"}]});
        let mut view = view(&[
            service("late", 2, &Value::Null),
            service("early", 1, &Value::Null),
            service("api", 3, &api),
            service("udp", 4, &udp),
        ]);
        let first = realise(&mut view);
        let told: Vec<&str> = first
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Event { message, .. } => Some(message.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("80/TCP") && told[0].contains("a/early"), "{told:?}");
        assert!(told[1].contains("6443/TCP of the boards is the cluster's own"), "{told:?}");
        let counts = ["early", "late", "api", "udp"].map(|name| addresses(&view, name).len());
        assert_eq!(counts, [2, 0, 0, 2]);
        view.remove(kinds::SERVICE, "a", "early", u64::MAX);
        realise(&mut view);
        assert_eq!(addresses(&view, "late").len(), 2);
        let late = view.get(kinds::SERVICE, "a", "late").expect("a service");
        assert!(late["status"]["conditions"].is_null(), "{late}");
    }

    #[test]
    fn others_services_are_left_alone_and_former_ones_are_cleared() {
        let with = |mut object: Object| {
            object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
            object
        };
        let foreign = with(service("foreign", 1, &json!({"loadBalancerClass": "x.y/z"})));
        let former = with(service("former", 2, &json!({"type": "ClusterIP"})));
        let mut bare = service("bare", 3, &json!({"type": "ClusterIP"}));
        bare.as_object_mut().map(|fields| fields.remove("status"));
        let mut view = view(&[foreign, former, bare]);
        assert_eq!(realise(&mut view).actions.len(), 1);
        assert_eq!(addresses(&view, "foreign"), ["203.0.113.9"]);
        assert!(addresses(&view, "former").is_empty());
    }
}
