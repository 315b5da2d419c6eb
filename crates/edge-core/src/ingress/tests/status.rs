//! What stands on Ingresses: addresses of boards, reasons, and events that are told once.

use std::sync::Arc;

use edge_api::{Object, kinds, meta};
use serde_json::{Value, json};

use super::super::*;
use super::{ingress, path, service};
use crate::plan::{Action, Plan};
use crate::proxy::ANNOUNCED_BY;
use crate::view::{Round, View};

const ROUND: Round = Round { now_ms: 0, seed: 0 };

fn node(name: &str, ready: bool) -> Object {
    let number = name.trim_start_matches('n');
    json!({"metadata": {"name": name}, "spec": {"podCIDR": format!("10.42.{number}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{number}")}],
                   "conditions": [{"type": "Ready",
                                   "status": if ready { "True" } else { "Unknown" }}]}})
}

fn realise(view: &mut View) -> Plan {
    let first = plan(view, &ROUND);
    for action in &first.actions {
        match action {
            Action::Update { kind, object, sub } => {
                assert_eq!(*sub, "status");
                view.put(kind, Arc::new(object.clone()));
            }
            Action::Create { kind, object } => {
                view.put(kind, Arc::new(object.clone()));
            }
            _ => {}
        }
    }
    let again = plan(view, &ROUND);
    assert!(again.is_empty(), "a realised plan is empty: {again:?}");
    first
}

fn told(plan: &Plan) -> Vec<String> {
    let events = plan.actions.iter().filter_map(|action| match action {
        Action::Event { about, reason, message, .. } => {
            Some(format!("{} {reason}: {message}", meta::name(about)))
        }
        _ => None,
    });
    events.collect()
}

fn status(view: &View, name: &str) -> Value {
    let ingress = view.get(kinds::INGRESS, "a", name).expect("an Ingress");
    ingress["status"]["loadBalancer"]["ingress"].clone()
}

#[test]
fn an_ingress_is_found_at_every_ready_board() {
    let mut view = View::default();
    assert!(plan(&view, &ROUND).is_empty(), "no board, no class");
    for node in [node("n1", true), node("n2", true), node("n3", false)] {
        view.put(kinds::NODE, Arc::new(node));
    }
    let first = realise(&mut view);
    assert!(matches!(&first.actions[..], [Action::Create { .. }]), "{first:?}");
    view.put(kinds::SERVICE, Arc::new(service("web")));
    let web = || vec![path("/", "Prefix", "web")];
    view.put(kinds::INGRESS, Arc::new(ingress("web", 1, &[("h.org", web())])));
    let mut foreign = ingress("foreign", 1, &[("h.org", web())]);
    foreign["spec"]["ingressClassName"] = json!("nginx");
    foreign["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
    view.put(kinds::INGRESS, Arc::new(foreign));
    assert!(told(&realise(&mut view)).is_empty());
    assert_eq!(status(&view, "web"), json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]));
    view.put(kinds::NODE, Arc::new(node("n2", false)));
    realise(&mut view);
    assert_eq!(status(&view, "web"), json!([{"ip": "192.0.2.1"}]));
    assert_eq!(status(&view, "foreign"), json!([{"ip": "203.0.113.9"}]));
    view.put(kinds::NODE, Arc::new(node("n1", false)));
    realise(&mut view);
    assert_eq!(status(&view, "web"), Value::Null);
}

#[test]
fn reasons_stand_there_until_they_are_gone_and_are_told_once() {
    let mut view = View::default();
    view.put(kinds::NODE, Arc::new(node("n1", true)));
    let mut web = ingress("web", 1, &[("h.org", vec![path("/", "Prefix", "web")])]);
    web["spec"]["tls"] = json!([{"hosts": ["h.org"], "secretName": "cert"}]);
    view.put(kinds::INGRESS, Arc::new(web));
    let late = ingress("late", 2, &[("h.org", vec![path("/", "Prefix", "web")])]);
    view.put(kinds::INGRESS, Arc::new(late));
    let first = told(&realise(&mut view));
    assert_eq!(first.len(), 4, "{first:?}");
    assert!(first[0].starts_with("late ServiceNotFound: there is no Service a/web"), "{first:?}");
    assert!(first[1].starts_with("late PathTaken:"), "{first:?}");
    assert!(first[3].starts_with("web SecretNotFound: there is no Secret a/cert"), "{first:?}");
    let error = |word: &str| json!({"port": 80, "protocol": "TCP", "error": word});
    assert_eq!(
        status(&view, "late")[0]["ports"],
        json!([error("edged.io/ServiceNotFound"), error("edged.io/PathTaken")])
    );
    assert_eq!(status(&view, "web")[0]["ports"][1]["port"], 443);
    view.put(kinds::SERVICE, Arc::new(service("web")));
    let secret = |kind: &str| json!({"metadata": {"name": "cert", "namespace": "a"}, "type": kind});
    view.put(kinds::SECRET, Arc::new(secret("Opaque")));
    let wrong = told(&realise(&mut view));
    assert!(wrong[0].contains("a/cert is of type Opaque, not kubernetes.io/tls"), "{wrong:?}");
    assert_eq!(status(&view, "web")[0]["ports"][0]["error"], "edged.io/SecretNotTLS");
    view.put(kinds::SECRET, Arc::new(secret("kubernetes.io/tls")));
    assert!(told(&realise(&mut view)).is_empty());
    assert_eq!(status(&view, "web"), json!([{"ip": "192.0.2.1"}]));
    assert_eq!(status(&view, "late")[0]["ports"], json!([error("edged.io/PathTaken")]));
    let mut balanced = service("other");
    balanced["spec"]["type"] = json!("LoadBalancer");
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let mut announced = balanced.clone();
    meta::set_annotation(&mut announced, ANNOUNCED_BY, "n1");
    view.put(kinds::SERVICE, Arc::new(announced));
    assert!(told(&realise(&mut view)).is_empty(), "it has an address of its own on the LAN");
    view.put(kinds::SERVICE, Arc::new(balanced));
    let taken = told(&realise(&mut view));
    assert!(taken[0].ends_with("port 80 of the boards is taken by Service a/other"), "{taken:?}");
}
