//! Rows of Ingresses and IngressClasses.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Table, age, list, name, or, text};
use crate::Object;

/// How many hosts a row shows before it counts the rest.
const SHOWN: usize = 3;

const INGRESS_COLUMNS: &[Column] = &[
    NAME,
    text("Class", "Whose it is to serve it."),
    text("Hosts", "The names that it answers to."),
    text("Address", "Where it is reached."),
    text("Ports", "The ports that it answers on."),
    AGE,
];

/// The table of Ingresses.
pub(crate) const INGRESS: Table = Table { columns: INGRESS_COLUMNS, cells: ingress };

fn ingress(ingress: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&ingress["spec"], &ingress["status"]["loadBalancer"]);
    let entries = list(&status["ingress"]).iter();
    let addresses: BTreeSet<&str> = entries
        .map(|entry| or(&entry["ip"], or(&entry["hostname"], "")))
        .filter(|text| !text.is_empty())
        .collect();
    let addresses: Vec<&str> = addresses.into_iter().collect();
    let ports = if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        name(ingress),
        json!(or(&spec["ingressClassName"], "<none>")),
        json!(hosts(list(&spec["rules"]))),
        json!(addresses.join(",")),
        json!(ports),
        age(ingress, now),
    ]
}

/// The first hosts, and how many rules more there are, counted as kubectl counts them.
fn hosts(rules: &[Value]) -> String {
    let mut shown = Vec::new();
    for rule in rules {
        if shown.len() == SHOWN {
            return format!("{} + {} more...", shown.join(","), rules.len() - SHOWN);
        }
        shown.extend(Some(or(&rule["host"], "")).filter(|host| !host.is_empty()));
    }
    if shown.is_empty() { "*".to_string() } else { shown.join(",") }
}

const CLASS_COLUMNS: &[Column] = &[
    NAME,
    text("Controller", "Who serves Ingresses of this class."),
    text("Parameters", "What is told to the controller besides."),
    AGE,
];

/// The table of IngressClasses.
pub(crate) const INGRESS_CLASS: Table = Table { columns: CLASS_COLUMNS, cells: class };

fn class(class: &Object, now: Timestamp) -> Vec<Value> {
    let (spec, parameters) = (&class["spec"], &class["spec"]["parameters"]);
    let words = match (parameters.is_object(), or(&parameters["apiGroup"], "")) {
        (false, _) => "<none>".to_string(),
        (true, "") => format!("{}/{}", or(&parameters["kind"], ""), or(&parameters["name"], "")),
        (true, group) => {
            format!("{}.{group}/{}", or(&parameters["kind"], ""), or(&parameters["name"], ""))
        }
    };
    vec![name(class), json!(or(&spec["controller"], "")), json!(words), age(class, now)]
}
