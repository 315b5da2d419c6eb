//! What people see of Ingresses: where they are reached (the addresses of the boards that answer)
//! and what of them can't be had. An Ingress has no conditions: the reasons stand at the ports of
//! its addresses, the sentences in events.

use std::collections::BTreeMap;

use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use super::{CLASS, Classes, Problem, Stock, Table, built_in, secrets};
use crate::controllers::node;
use crate::plan::{Action, Plan};
use crate::podnet::Peer;
use crate::proxy::ANNOUNCED_BY;
use crate::view::{Round, View};

/// The component's name in events.
pub const SOURCE: &str = "ingress-controller";

/// A board with this label is not shown as an address of any.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Errors of ports that are nobody's standard carry a domain.
const DOMAIN: &str = "edged.io/";
/// The only type of Secret that boards are given for Ingresses.
const TLS: &str = "kubernetes.io/tls";

/// Plans the built-in class, and the status of every Ingress of ours.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    if view.get(kinds::INGRESS_CLASS, "", CLASS).is_none() && view.list(kinds::NODE).count() > 0 {
        plan.push(Action::Create { kind: kinds::INGRESS_CLASS, object: built_in() });
    }
    let classes = Classes::gather(view.list(kinds::INGRESS_CLASS).map(AsRef::as_ref));
    let all = view.list(kinds::INGRESS).map(AsRef::as_ref);
    let ours: Vec<&Object> =
        all.filter(|ingress| classes.ours(ingress) && !meta::is_deleting(ingress)).collect();
    if ours.is_empty() {
        return plan;
    }
    let service = |of: &str, name: &str| view.get(kinds::SERVICE, of, name).map(AsRef::as_ref);
    // Who answers changes often, and no problem comes of it: slices are not looked at.
    let stock = Stock { service: &service, slices: &|_, _| Vec::new() };
    let table = Table::look_up(ours.iter().copied(), &stock);
    let mut problems: BTreeMap<(&str, &str), Vec<Problem>> = BTreeMap::new();
    for problem in &table.problems {
        let of = (problem.namespace.as_str(), problem.name.as_str());
        problems.entry(of).or_default().push(problem.clone());
    }
    let boards = boards(view);
    let taken = taken(view);
    for ingress in ours {
        let of = (meta::namespace(ingress), meta::name(ingress));
        let mut found = problems.remove(&of).unwrap_or_default();
        found.extend(without_secret(view, ingress));
        found.extend(taken.iter().map(|(port, holder)| {
            let words = format!("port {port} of the boards is taken by Service {holder}");
            problem(ingress, "PortTaken", words)
        }));
        show(&mut plan, ingress, &boards, &found);
    }
    plan
}

fn problem(ingress: &Object, reason: &'static str, message: String) -> Problem {
    let (namespace, name) = (meta::namespace(ingress).to_owned(), meta::name(ingress).to_owned());
    Problem { namespace, name, reason, message }
}

/// The boards that answer: their addresses, by name.
fn boards(view: &View) -> BTreeMap<String, String> {
    let nodes = view.list(kinds::NODE);
    nodes
        .filter(|node| node::ready(node) && meta::label(node, EXCLUDED).is_none())
        .filter_map(|node| Peer::read(node))
        .filter_map(|peer| Some((peer.name, peer.address?.to_string())))
        .collect()
}

/// Ports of ours that Services have on the boards.
fn taken(view: &View) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for service in view.list(kinds::SERVICE) {
        let held = service["status"]["loadBalancer"]["ingress"].as_array();
        let balanced = service["spec"]["type"] == "LoadBalancer"
            && service["spec"]["loadBalancerClass"].is_null()
            && held.is_some_and(|held| !held.is_empty())
            // At an address of the LAN it takes no port of the boards.
            && meta::annotation(service, ANNOUNCED_BY).is_none();
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let number = port["port"].as_u64().filter(|number| matches!(number, 80 | 443));
            if let Some(number) = number.filter(|_| balanced && port["protocol"] != "UDP") {
                let holder = format!("{}/{}", meta::namespace(service), meta::name(service));
                found.push((number, holder));
            }
        }
    }
    found
}

fn without_secret(view: &View, ingress: &Object) -> Vec<Problem> {
    let namespace = meta::namespace(ingress);
    let wrong = |name: &str| match view.get(kinds::SECRET, namespace, name) {
        None => Some(("SecretNotFound", format!("there is no Secret {namespace}/{name}"))),
        // Boards are given no other Secrets' content for this.
        Some(secret) => secret["type"].as_str().filter(|kind| *kind != TLS).map(|kind| {
            let words = format!("Secret {namespace}/{name} is of type {kind}, not {TLS}");
            ("SecretNotTLS", words)
        }),
    };
    let problems = secrets(ingress).filter_map(wrong).map(|(reason, words)| {
        problem(ingress, reason, format!("{words}: a self-signed certificate stands in"))
    });
    problems.collect()
}

/// Brings one Ingress' status up to date, and tells what is new.
fn show(
    plan: &mut Plan,
    ingress: &Object,
    boards: &BTreeMap<String, String>,
    problems: &[Problem],
) {
    let held = &ingress["status"]["loadBalancer"]["ingress"];
    let mut ports: Vec<Value> = Vec::new();
    for problem in problems {
        let error = format!("{DOMAIN}{}", problem.reason);
        let secret =
            matches!(problem.reason, "SecretNotFound" | "SecretNotTLS" | "CertificateTaken");
        let port = if secret { 443 } else { 80 };
        if !boards.is_empty() && !told(held, &error) {
            let words = problem.message.clone();
            plan.push(Action::warning(SOURCE, ingress, problem.reason, words));
        }
        let port = json!({"port": port, "protocol": "TCP", "error": error});
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    let entry = |ip: &String| match ports.is_empty() {
        true => json!({"ip": ip}),
        false => json!({"ip": ip, "ports": ports}),
    };
    let wanted: Vec<Value> = boards.values().map(entry).collect();
    if held.as_array().map_or(&[][..], Vec::as_slice) != wanted {
        let mut changed = ingress.clone();
        let status = if wanted.is_empty() { json!({}) } else { json!({"ingress": wanted}) };
        changed["status"] = json!({"loadBalancer": status});
        plan.push(Action::status(kinds::INGRESS, changed));
    }
}

/// Whether an error stands at an address already.
fn told(held: &Value, error: &str) -> bool {
    let entries = held.as_array().into_iter().flatten();
    let mut ports = entries.filter_map(|entry| entry["ports"].as_array()).flatten();
    ports.any(|port| port["error"] == *error)
}
