//! Which addresses Services have, and why some have none.

use super::*;
use crate::liveness::Standing;
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
        if let Action::Update { kind, object, .. } = action {
            view.put(kind, Arc::new(object.clone()));
        }
    }
    let second = plan(view, &ROUND);
    for action in &second.actions {
        if let Action::Update { kind, object, sub } = action {
            assert_eq!(*sub, "", "the status is right by now");
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

/// Boards 1 and 2 of 192.0.2.0/24, and a third of another network.
fn with_pool(services: &[Object], pool: &str) -> View {
    let mut view = view(services);
    for (name, network) in
        [("n1", "192.0.2.0/24"), ("n2", "192.0.2.0/24,198.51.100.0/24"), ("n4", "198.51.100.0/24")]
    {
        let mut node = node(name, true);
        meta::set_annotation(&mut node, NETWORKS, network);
        view.put(kinds::NODE, Arc::new(node));
    }
    view.lan_pool = LanPool::parse([pool]).expect("a pool");
    view
}

fn announcer(view: &View, name: &str) -> Option<String> {
    let service = view.get(kinds::SERVICE, "a", name).expect("a service");
    meta::annotation(service, ANNOUNCED_BY).map(str::to_owned)
}

fn trouble(view: &View, name: &str) -> Option<String> {
    let service = view.get(kinds::SERVICE, "a", name).expect("a service");
    Some(condition(service, ADDRESS)?["reason"].as_str()?.to_owned())
}

#[test]
fn addresses_of_the_pool_are_given_in_order_kept_and_run_out() {
    let services = [1, 2, 3].map(|n| service(&format!("s{n}"), n, &Value::Null));
    let mut view = with_pool(&services, "192.0.2.240-192.0.2.241");
    let first = realise(&mut view);
    assert_eq!(addresses(&view, "s1"), ["192.0.2.240"]);
    assert_eq!(addresses(&view, "s2"), ["192.0.2.241"]);
    assert!(addresses(&view, "s3").is_empty());
    assert_eq!(trouble(&view, "s3").as_deref(), Some("PoolExhausted"));
    assert_eq!(announcer(&view, "s3"), None);
    let warned = first.actions.iter().any(|action| {
        matches!(action, Action::Event { reason, message, .. }
        if *reason == "SyncLoadBalancerFailed" && message.contains("192.0.2.240-192.0.2.241"))
    });
    assert!(warned, "{first:?}");
    // The same port on two addresses is no clash, and an older Service takes nobody's address.
    view.remove(kinds::SERVICE, "a", "s1", u64::MAX);
    realise(&mut view);
    assert_eq!(addresses(&view, "s2"), ["192.0.2.241"], "kept");
    assert_eq!(addresses(&view, "s3"), ["192.0.2.240"]);
    assert_eq!(trouble(&view, "s3"), None);
    // Without a pool they are found at the boards again.
    view.lan_pool = LanPool::default();
    view.remove(kinds::SERVICE, "a", "s2", u64::MAX);
    realise(&mut view);
    assert_eq!(addresses(&view, "s3").len(), 3);
    assert_eq!(announcer(&view, "s3"), None);
}

#[test]
fn a_service_may_name_its_address() {
    let named = |ip: &str| json!({"loadBalancerIP": ip});
    let mut annotated = service("annotated", 2, &named("192.0.2.244"));
    meta::set_annotation(&mut annotated, WANTED, "192.0.2.245");
    let mut at_boards = service("boards", 6, &Value::Null);
    meta::set_annotation(&mut at_boards, WANTED, "boards");
    let mut view = with_pool(
        &[
            service("named", 1, &named("192.0.2.243")),
            annotated,
            service("same", 3, &named("192.0.2.243")),
            service("outside", 4, &named("192.0.2.9")),
            service("board", 5, &named("192.0.2.2")),
            at_boards,
        ],
        "192.0.2.1-192.0.2.250",
    );
    view.lan_pool = LanPool::parse(["192.0.2.1-192.0.2.3", "192.0.2.240/28"]).expect("a pool");
    realise(&mut view);
    assert_eq!(addresses(&view, "named"), ["192.0.2.243"]);
    assert_eq!(addresses(&view, "annotated"), ["192.0.2.245"]);
    for (name, reason) in
        [("same", "AddressTaken"), ("outside", "NotInPool"), ("board", "AddressTaken")]
    {
        assert!(addresses(&view, name).is_empty(), "{name}");
        assert_eq!(trouble(&view, name).as_deref(), Some(reason), "{name}");
    }
    assert_eq!(addresses(&view, "boards").len(), 3);
}

#[test]
fn one_board_of_the_right_network_announces_and_another_takes_over() {
    let mut view = with_pool(&[service("web", 1, &Value::Null)], "192.0.2.240-192.0.2.250");
    realise(&mut view);
    let one = announcer(&view, "web").expect("a board");
    let other = if one == "n1" { "n2" } else { "n1" };
    let silent = |view: &mut View, name: &str, standing| {
        let liveness = crate::liveness::Liveness { standing, ..Default::default() };
        view.liveness.insert(name.to_owned(), liveness);
    };
    silent(&mut view, &one, Standing::Silent);
    let moved = plan(&view, &ROUND);
    let updates = moved.actions.iter().filter(|a| matches!(a, Action::Update { .. }));
    assert_eq!(updates.count(), 1, "one write");
    realise(&mut view);
    assert_eq!(announcer(&view, "web").as_deref(), Some(other));
    silent(&mut view, &one, Standing::Alive);
    realise(&mut view);
    assert_eq!(announcer(&view, "web").as_deref(), Some(other), "it does not move back");
    silent(&mut view, &one, Standing::Stopping);
    silent(&mut view, other, Standing::Lost);
    realise(&mut view);
    assert_eq!(announcer(&view, "web").as_deref(), Some(""));
    assert_eq!(trouble(&view, "web").as_deref(), Some("NobodyAnnounces"));
    assert_eq!(addresses(&view, "web"), ["192.0.2.240"], "it is still its address");
}

#[test]
fn a_local_policy_is_announced_where_a_pod_is_and_addresses_spread() {
    let local = json!({"externalTrafficPolicy": "Local"});
    let mut services: Vec<Object> =
        (1..21).map(|n| service(&format!("s{n}"), n, &Value::Null)).collect();
    services.push(service("local", 30, &local));
    let mut view = with_pool(&services, "192.0.2.200-192.0.2.250");
    realise(&mut view);
    assert_eq!(announcer(&view, "local").as_deref(), Some(""));
    let by = |name: &str| {
        (1..21).filter(|n| announcer(&view, &format!("s{n}")).as_deref() == Some(name)).count()
    };
    assert_eq!(by("n1") + by("n2"), 20);
    assert!(by("n1") > 4 && by("n2") > 4, "{} and {}", by("n1"), by("n2"));
    for board in ["n2", "n1"] {
        view.put(
            kinds::ENDPOINT_SLICE,
            Arc::new(json!({"metadata": {"name": "x", "namespace": "a",
                "labels": {SERVICE_LABEL: "local"}}, "endpoints": [
                {"nodeName": board, "conditions": {"ready": true}}]})),
        );
        realise(&mut view);
        assert_eq!(announcer(&view, "local").as_deref(), Some(board));
    }
}

#[test]
fn an_address_that_somebody_else_has_is_given_up() {
    let fixed = json!({"loadBalancerIP": "192.0.2.244"});
    let services = [service("web", 1, &Value::Null), service("fixed", 2, &fixed)];
    let mut view = with_pool(&services, "192.0.2.240-192.0.2.250");
    realise(&mut view);
    assert_eq!(addresses(&view, "web"), ["192.0.2.240"]);
    let mut node = node("n1", true);
    meta::set_annotation(&mut node, NETWORKS, "192.0.2.0/24");
    let told = "192.0.2.240=02:00:00:00:00:09,192.0.2.244=02:00:00:00:00:08";
    meta::set_annotation(&mut node, CONFLICTS, told);
    view.put(kinds::NODE, Arc::new(node.clone()));
    realise(&mut view);
    assert_eq!(addresses(&view, "web"), ["192.0.2.241"]);
    assert!(addresses(&view, "fixed").is_empty());
    let service = view.get(kinds::SERVICE, "a", "fixed").expect("a service");
    let why = condition(service, ADDRESS).expect("a condition")["message"].to_string();
    assert!(why.contains("02:00:00:00:00:08 answered board n1"), "{why}");
    meta::set_annotation(&mut node, CONFLICTS, "");
    view.put(kinds::NODE, Arc::new(node));
    realise(&mut view);
    assert_eq!(addresses(&view, "web"), ["192.0.2.241"], "it does not move back");
    assert_eq!(addresses(&view, "fixed"), ["192.0.2.244"]);
}

#[test]
fn an_external_address_is_the_older_services_and_the_other_is_told_once() {
    let with = |ips: &[&str]| json!({"type": "ClusterIP", "externalIPs": ips});
    let headless =
        |ips: &[&str]| json!({"type": "ClusterIP", "clusterIP": "None", "externalIPs": ips});
    let mut view = view(&[
        service("late", 2, &with(&["192.0.2.77", "192.0.2.78"])),
        service("early", 1, &with(&["192.0.2.78"])),
        service("beside", 3, &with(&["192.0.2.79"])),
        // Served at no address: neither has one, nor is kept from it.
        service("names", 0, &headless(&["192.0.2.77"])),
        service("none", 4, &headless(&["192.0.2.78"])),
    ]);
    let first = realise(&mut view);
    let told: Vec<(&str, &str)> = first
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Event { reason, message, .. } => Some((*reason, message.as_str())),
            _ => None,
        })
        .collect();
    let why = "port 80/TCP of the external address 192.0.2.78 is taken by Service a/early";
    assert_eq!(told, [("ExternalIPTaken", why)]);
    let condition = |view: &View| {
        let late = view.get(kinds::SERVICE, "a", "late").expect("a service");
        late["status"]["conditions"][0]["type"].clone()
    };
    assert_eq!(condition(&view), "ExternalIPsFree");
    view.put(kinds::SERVICE, Arc::new(service("early", 1, &with(&["192.0.2.80"]))));
    realise(&mut view);
    assert!(condition(&view).is_null(), "all is well again");
}

#[test]
fn the_clusters_own_ports_at_a_boards_address_are_nobodys() {
    let mut own = service("own", 1, &json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}));
    own["spec"]["ports"] = json!([{"port": 51820, "protocol": "UDP"}]);
    let mut view = view(&[own.clone()]);
    realise(&mut view);
    let at = |view: &View| view.get(kinds::SERVICE, "a", "own").expect("a service").clone();
    let said = condition(&at(&view), external::FREE).map(|c| c["message"].clone());
    assert_eq!(said, Some(json!("port 51820/UDP of board 192.0.2.1 is the cluster's own")));
    // At an address that is no board's they are as good as any.
    own["spec"]["externalIPs"] = json!(["192.0.2.99"]);
    view.put(kinds::SERVICE, Arc::new(own));
    realise(&mut view);
    assert!(condition(&at(&view), external::FREE).is_none());
}
