//! Cases of the endpoints controller.

use std::sync::Arc;

use super::*;

const ROUND: Round = Round { now_ms: 0, seed: 0 };

fn service() -> Object {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "a", "uid": "svc", "labels": {"x": "y"}},
        "spec": {"clusterIP": "10.43.0.9", "selector": {"app": "web"},
                 "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]}})
}

fn pod(name: &str, ip: &str, ready: bool) -> Object {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

fn view(pods: &[Object]) -> View {
    let mut view = View::default();
    view.put(kinds::SERVICE, Arc::new(service()));
    for pod in pods {
        view.put(kinds::POD, Arc::new(pod.clone()));
    }
    view
}

fn realise(view: &mut View, plan: &Plan) {
    for (n, action) in plan.actions.iter().enumerate() {
        match action {
            Action::Create { kind, object } => {
                let mut object = object.clone();
                if meta::name(&object).is_empty() {
                    let name = format!("{}{n}", meta::generate_name(&object));
                    meta::set(&mut object, "name", name);
                }
                view.put(kind, Arc::new(object));
            }
            Action::Update { kind, object, .. } => {
                view.put(kind, Arc::new(object.clone()));
            }
            Action::Delete { kind, namespace, name, .. } => view.remove(kind, namespace, name, 1),
            _ => {}
        }
    }
}

#[test]
fn ready_pods_stand_behind_the_service() {
    let mut view = view(&[pod("p1", "10.42.0.2", true), pod("p2", "10.42.0.3", false)]);
    let first = plan(&view, &ROUND);
    let Action::Create { object: slice, .. } = &first.actions[0] else { panic!("{first:?}") };
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.42.0.2"]));
    assert_eq!(slice["endpoints"][1]["conditions"]["ready"], false);
    assert_eq!(meta::label(slice, SERVICE_LABEL), Some("web"));
    let Action::Create { object: endpoints, .. } = &first.actions[1] else { panic!("{first:?}") };
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.42.0.2");
    assert_eq!(endpoints["subsets"][0]["notReadyAddresses"][0]["ip"], "10.42.0.3");
    realise(&mut view, &first);
    assert!(plan(&view, &ROUND).is_empty());
}

#[test]
fn a_terminating_pod_is_said_to_be_and_is_not_ready() {
    let mut leaving = pod("p1", "10.42.0.2", true);
    meta::set(&mut leaving, "deletionTimestamp", "2026-01-01T00:00:00Z");
    let first = plan(&view(&[leaving]), &ROUND);
    let Action::Create { object: slice, .. } = &first.actions[0] else { panic!("{first:?}") };
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(slice["endpoints"][0]["conditions"], conditions);
}

#[test]
fn a_service_with_no_pods_has_an_empty_slice_once() {
    let mut view = view(&[]);
    let first = plan(&view, &ROUND);
    realise(&mut view, &first);
    assert!(plan(&view, &ROUND).is_empty(), "{:?}", plan(&view, &ROUND));
}

#[test]
fn a_changed_address_is_an_update_of_the_same_slice() {
    let mut view = view(&[pod("p1", "10.42.0.2", true)]);
    let first = plan(&view, &ROUND);
    realise(&mut view, &first);
    view.put(kinds::POD, Arc::new(pod("p1", "10.42.0.9", true)));
    let second = plan(&view, &ROUND);
    assert!(second.actions.iter().all(|a| matches!(a, Action::Update { .. })), "{second:?}");
    assert_eq!(second.actions.len(), 2);
}

#[test]
fn no_selector_means_that_somebody_else_writes_the_endpoints() {
    let mut service = service();
    service["spec"].as_object_mut().expect("spec").remove("selector");
    let mut view = View::default();
    view.put(kinds::SERVICE, Arc::new(service));
    assert!(plan(&view, &ROUND).is_empty());
}

#[test]
fn different_named_ports_make_different_slices() {
    let mut other = pod("p2", "10.42.0.3", true);
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    let plan = plan(&view(&[pod("p1", "10.42.0.2", true), other]), &ROUND);
    let slices = plan
        .actions
        .iter()
        .filter(|a| matches!(a, Action::Create { kind, .. } if kind.kind == "EndpointSlice"));
    assert_eq!(slices.count(), 2);
}

#[test]
fn pods_of_a_silent_board_are_neither_ready_nor_serving_until_it_is_back() {
    use crate::liveness::{Liveness, Standing};
    let mut view = view(&[pod("p1", "10.42.0.2", true)]);
    let mut stands = |standing| {
        view.liveness.insert("n1".into(), Liveness { standing, ..Liveness::default() });
        let planned = plan(&view, &ROUND);
        realise(&mut view, &planned);
        let slice = view.list(kinds::ENDPOINT_SLICE).next().expect("a slice");
        let endpoints = view.get(kinds::ENDPOINTS, "a", "web").expect("endpoints");
        let ready = slice["endpoints"][0]["conditions"]["ready"].clone();
        assert_eq!(slice["endpoints"][0]["conditions"]["serving"], ready);
        let field = if ready == true { "addresses" } else { "notReadyAddresses" };
        assert!(endpoints["subsets"][0][field].is_array());
        ready == true
    };
    for (standing, ready) in [
        (Standing::Unheard, true),
        (Standing::Alive, true),
        (Standing::Stopping, true),
        (Standing::Silent, false),
        (Standing::Lost, false),
        (Standing::Alive, true),
    ] {
        assert_eq!(stands(standing), ready, "{standing:?}");
    }
    view.departed.insert("n1".into(), 0);
    let planned = plan(&view, &ROUND);
    assert_eq!(planned.actions.len(), 2, "a removed board's pods go, too");
}

#[test]
fn a_pods_own_name_counts_below_the_service_that_it_names() {
    let named = |subdomain: &str| {
        let mut pod = pod("p1", "10.42.0.2", true);
        pod["spec"]["hostname"] = json!("first");
        pod["spec"]["subdomain"] = json!(subdomain);
        let plan = plan(&view(&[pod]), &ROUND);
        let Action::Create { object: slice, .. } = &plan.actions[0] else { panic!("{plan:?}") };
        slice["endpoints"][0]["hostname"].clone()
    };
    assert_eq!(named("web"), "first");
    assert_eq!(named("other"), Value::Null, "another Service's");
}

/// As the API stores it: an empty list of ports is none.
fn stored(view: &mut View) {
    let slices: Vec<_> = view.list(kinds::ENDPOINT_SLICE).cloned().collect();
    for slice in slices {
        let mut slice = Object::clone(&slice);
        if slice["ports"].as_array().is_none_or(Vec::is_empty) {
            slice.as_object_mut().expect("an object").remove("ports");
        }
        view.put(kinds::ENDPOINT_SLICE, Arc::new(slice));
    }
}

#[test]
fn a_port_that_no_pod_has_settles_all_the_same() {
    let mut bare = pod("p1", "10.42.0.2", true);
    bare["spec"]["containers"][0]["ports"] = json!([]);
    let mut view = view(&[bare, pod("p2", "10.42.0.3", true)]);
    for _ in 0..2 {
        let planned = plan(&view, &ROUND);
        realise(&mut view, &planned);
        stored(&mut view);
    }
    assert!(plan(&view, &ROUND).is_empty(), "{:?}", plan(&view, &ROUND));
    assert_eq!(view.list(kinds::ENDPOINT_SLICE).count(), 2);
    let endpoints = view.get(kinds::ENDPOINTS, "a", "web").expect("endpoints");
    let subsets = endpoints["subsets"].as_array().expect("subsets");
    assert_eq!(subsets.len(), 1, "a pod without the port is in none: {subsets:?}");
}

#[test]
fn a_sidecars_port_has_a_name_as_well() {
    let mut sidecar = pod("p1", "10.42.0.2", true);
    let ports = sidecar["spec"]["containers"][0]["ports"].take();
    sidecar["spec"]["initContainers"] =
        json!([{"name": "s", "restartPolicy": "Always", "ports": ports}]);
    let plan = plan(&view(&[sidecar]), &ROUND);
    let Action::Create { object: slice, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    assert_eq!(slice["ports"][0]["port"], 8080);
}

#[test]
fn endpoints_go_with_their_service_and_somebody_elses_stay() {
    let mut view = view(&[pod("p1", "10.42.0.2", true)]);
    let first = plan(&view, &ROUND);
    realise(&mut view, &first);
    let own = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "own", "namespace": "a", "uid": "own"}});
    view.put(kinds::ENDPOINTS, Arc::new(own));
    view.remove(kinds::SERVICE, "a", "web", 9);
    let after = plan(&view, &ROUND);
    let gone = |action: &Action| match action {
        Action::Delete { kind, name, .. } => (kind.kind == "Endpoints").then(|| name.clone()),
        _ => None,
    };
    let gone: Vec<String> = after.actions.iter().filter_map(gone).collect();
    assert_eq!(gone, ["web"]);
}
