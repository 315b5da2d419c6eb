//! Cases of Endpoints that somebody keeps by hand.

use std::sync::Arc;

use super::*;

const ROUND: Round = Round { now_ms: 0, seed: 0 };

fn outside() -> Object {
    json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "db", "namespace": "a", "uid": "e1", "labels": {"x": "y"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"}},
        "subsets": [
            {"addresses": [{"ip": "192.168.1.7", "hostname": "first"}],
             "notReadyAddresses": [{"ip": "192.168.1.8"}],
             "ports": [{"name": "sql", "port": 5432}]},
            {"addresses": [{"ip": "192.168.1.8"}, {"ip": "fd00::8"}],
             "ports": [{"name": "sql", "port": 5432}]}]})
}

fn view() -> View {
    let mut view = View::default();
    view.put(
        kinds::SERVICE,
        Arc::new(json!({"metadata": {"name": "db", "namespace": "a"},
        "spec": {"ports": [{"name": "sql", "port": 5432}]}})),
    );
    view.put(kinds::ENDPOINTS, Arc::new(outside()));
    view
}

/// Carries a plan out as the API would: names are given, an empty list of ports is left out.
fn realise(view: &mut View) -> usize {
    let planned = plan(view, &ROUND);
    for (n, action) in planned.actions.iter().enumerate() {
        match action {
            Action::Create { kind, object } => {
                let mut object = object.clone();
                meta::set(&mut object, "name", format!("db-{n}"));
                if object["ports"].is_null() {
                    object.as_object_mut().expect("an object").remove("ports");
                }
                view.put(kind, Arc::new(object));
            }
            Action::Update { kind, object, .. } => {
                view.put(kind, Arc::new(object.clone()));
            }
            Action::Delete { kind, namespace, name, .. } => view.remove(kind, namespace, name, 1),
            other => panic!("{other:?}"),
        }
    }
    planned.actions.len()
}

#[test]
fn each_family_and_set_of_ports_is_a_slice() {
    let mut view = view();
    assert_eq!(realise(&mut view), 2);
    assert_eq!(realise(&mut view), 0, "a realised plan plans nothing");
    let slices: Vec<_> = view.list(kinds::ENDPOINT_SLICE).collect();
    let four = slices.iter().find(|s| s["addressType"] == "IPv4").expect("IPv4");
    let ready: Vec<_> = list(four, "endpoints")
        .map(|e| (e["addresses"][0].as_str().expect("an address"), &e["conditions"]["ready"]))
        .collect();
    assert_eq!(ready, [("192.168.1.7", &json!(true)), ("192.168.1.8", &json!(true))]);
    assert_eq!(four["endpoints"][0]["hostname"], "first");
    assert_eq!(four["ports"], json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]));
    assert_eq!(four["metadata"]["annotations"], json!({"k": "v"}));
    assert_eq!(meta::label(four, SERVICE_LABEL), Some("db"));
    assert_eq!(meta::controller(four).expect("an owner").name, "db");
    assert_eq!(slices.len(), 2);
}

#[test]
fn a_change_is_an_update_and_the_end_is_the_end() {
    let mut view = view();
    realise(&mut view);
    let mut changed = outside();
    changed["subsets"].as_array_mut().expect("subsets").truncate(1);
    view.put(kinds::ENDPOINTS, Arc::new(changed));
    assert_eq!(realise(&mut view), 2, "one is changed, the IPv6 one goes");
    let slice = view.list(kinds::ENDPOINT_SLICE).next().expect("a slice");
    assert_eq!(slice["endpoints"][1]["conditions"]["ready"], false);
    // A selector: from now on pods stand behind the Service.
    view.put(
        kinds::SERVICE,
        Arc::new(json!({"metadata": {"name": "db", "namespace": "a"},
        "spec": {"selector": {"app": "db"}}})),
    );
    assert_eq!(realise(&mut view), 1);
    assert_eq!(view.list(kinds::ENDPOINT_SLICE).count(), 0);
}

#[test]
fn what_is_not_to_be_mirrored_is_left_alone() {
    for (field, key) in [("labels", SKIP), ("annotations", LEADER)] {
        let mut view = view();
        let mut endpoints = outside();
        endpoints["metadata"][field][key] = json!("true");
        view.put(kinds::ENDPOINTS, Arc::new(endpoints));
        assert!(plan(&view, &ROUND).is_empty(), "{key}");
    }
    let mut view = view();
    view.remove(kinds::SERVICE, "a", "db", 1);
    assert!(plan(&view, &ROUND).is_empty(), "there is no Service");
}

#[test]
fn addresses_without_ports_settle() {
    let mut view = view();
    let mut endpoints = outside();
    endpoints["subsets"] = json!([{"addresses": [{"ip": "192.168.1.7"}]}]);
    view.put(kinds::ENDPOINTS, Arc::new(endpoints));
    assert_eq!(realise(&mut view), 1);
    assert_eq!(realise(&mut view), 0);
}
