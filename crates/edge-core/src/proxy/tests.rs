//! What Kubernetes promises about Services, case by case, and what must hold for any input.

mod any_cluster;
mod any_events;

use super::*;
use serde_json::{Value, json};
use std::slice::from_ref;

pub(super) fn service(name: &str, spec: Value) -> Object {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

pub(super) fn slice(service: &str, ports: Value, endpoints: Value) -> Object {
    json!({
        "metadata": {
            "name": format!("{service}-x"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

fn web(extra: Value) -> Object {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"],
        "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}],
    });
    for (key, value) in extra.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    service("web", spec)
}

fn pods() -> Object {
    slice(
        "web",
        json!([{"port": 8080, "protocol": "TCP"}]),
        json!([
            {"addresses": ["10.42.0.3"], "nodeName": "a", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.2"], "nodeName": "a"},
            {"addresses": ["10.42.1.2"], "nodeName": "b", "conditions": {"ready": true}},
            {"addresses": ["10.42.1.3"], "nodeName": "b", "conditions": {"ready": false}},
        ]),
    )
}

fn front(address: &str, port: u16) -> Front {
    Front { address: address.parse().ok(), protocol: Protocol::Tcp, port }
}

fn spread(targets: &[&str]) -> Choice {
    let target = |text: &&str| {
        let (address, port) = text.split_once(':').expect("a target");
        Target {
            address: address.parse().expect("an address"),
            port: port.parse().expect("a port"),
        }
    };
    Choice::Spread(targets.iter().map(target).collect())
}

pub(super) fn gather(services: &[Object], slices: &[Object], node: &str) -> Tables {
    Tables::gather(services, slices, node)
}

const ALL: [&str; 3] = ["10.42.0.2:8080", "10.42.0.3:8080", "10.42.1.2:8080"];
const LOCAL: [&str; 2] = ["10.42.0.2:8080", "10.42.0.3:8080"];

#[test]
fn a_service_answers_at_its_address_and_its_node_port_from_ready_endpoints() {
    let tables = gather(&[web(json!({}))], &[pods()], "a");
    assert_eq!(tables.routes.len(), 2);
    for front in [front("10.43.0.9", 80), front("", 30080)] {
        let route = &tables.routes[&front];
        assert_eq!(route.name, "default/web:");
        assert_eq!((&route.inside, &route.outside), (&spread(&ALL), &spread(&ALL)));
        assert_eq!(route.affinity_seconds, None);
    }
}

#[test]
fn external_addresses_and_those_of_a_load_balancer() {
    let mut object = web(json!({"type": "LoadBalancer", "externalIPs": ["192.0.2.7"]}));
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}, {"hostname": "x"},
    ]}});
    let tables = gather(&[object], &[pods()], "a");
    let fronts: Vec<_> = tables.routes.keys().map(ToString::to_string).collect();
    let expected =
        ["node port 30080 Tcp", "10.43.0.9:80 Tcp", "192.0.2.7:80 Tcp", "192.0.2.8:80 Tcp"];
    assert_eq!(fronts, expected);
}

#[test]
fn traffic_policies() {
    let external = web(json!({"externalTrafficPolicy": "Local"}));
    let node_port = front("", 30080);
    for (node, outside) in [("a", spread(&LOCAL)), ("c", Choice::Drop)] {
        let tables = gather(from_ref(&external), &[pods()], node);
        assert_eq!(tables.routes[&node_port].outside, outside, "{node}");
        assert_eq!(tables.routes[&node_port].inside, spread(&ALL), "from within, all count");
        assert_eq!(tables.routes[&front("10.43.0.9", 80)].outside, spread(&ALL));
    }
    let internal = web(json!({"internalTrafficPolicy": "Local"}));
    for (node, choice) in [("a", spread(&LOCAL)), ("c", Choice::Drop)] {
        let tables = gather(from_ref(&internal), &[pods()], node);
        assert_eq!(tables.routes[&front("10.43.0.9", 80)].inside, choice, "{node}");
        assert_eq!(tables.routes[&node_port].outside, spread(&ALL));
    }
    let tables = gather(&[internal, external], &[], "a");
    assert!(tables.routes.values().all(|route| route.outside == Choice::Refuse));
}

#[test]
fn not_ready_ending_and_published_all_the_same() {
    let conditions = |ready, serving, ending| {
        json!([{"addresses": ["10.42.0.9"], "conditions":
            {"ready": ready, "serving": serving, "terminating": ending}}])
    };
    let ports = json!([{"port": 8080, "protocol": "TCP"}]);
    let front = front("10.43.0.9", 80);
    let choose = |object: Object, endpoints| {
        let slices = [slice("web", ports.clone(), endpoints)];
        gather(&[object], &slices, "a").routes[&front].inside.clone()
    };
    let plain = || web(json!({}));
    assert_eq!(choose(plain(), conditions(false, false, false)), Choice::Refuse);
    assert_eq!(choose(plain(), conditions(false, true, true)), spread(&["10.42.0.9:8080"]));
    assert_eq!(choose(plain(), conditions(false, false, true)), Choice::Refuse);
    let published = web(json!({"publishNotReadyAddresses": true}));
    let found = choose(published, conditions(false, false, false));
    assert_eq!(found, spread(&["10.42.0.9:8080"]));
    let both = [pods(), slice("web", ports.clone(), conditions(false, true, true))];
    let tables = gather(&[plain()], &both, "a");
    assert_eq!(tables.routes[&front].inside, spread(&ALL), "an ending one only if no other");
}

#[test]
fn ports_meet_by_name_and_protocol_and_slices_join() {
    let spec = json!({"clusterIP": "10.43.0.10", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "sig", "port": 9, "protocol": "SCTP"},
    ]});
    let ports = json!([
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
        {"name": "sig", "port": 99, "protocol": "TCP"},
    ]);
    let one = slice("dns", ports.clone(), json!([{"addresses": ["10.42.0.2"]}]));
    let two =
        slice("dns", ports, json!([{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"]}]));
    let tables = gather(&[service("dns", spec)], &[one, two], "a");
    let inside = |protocol, port| {
        let address = "10.43.0.10".parse().ok();
        tables.routes[&Front { address, protocol, port }].inside.clone()
    };
    assert_eq!(inside(Protocol::Udp, 53), spread(&["10.42.0.2:5353", "10.42.0.3:5353"]));
    assert_eq!(inside(Protocol::Tcp, 53), spread(&["10.42.0.2:5354", "10.42.0.3:5354"]));
    assert_eq!(inside(Protocol::Sctp, 9), Choice::Refuse);
}

#[test]
fn source_ranges_are_for_the_load_balancers_addresses_alone() {
    let mut object = web(json!({"type": "LoadBalancer", "externalIPs": ["192.0.2.7"],
        "loadBalancerSourceRanges": ["10.0.0.0/8"]}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}]}});
    let tables = gather(from_ref(&object), &[pods()], "a");
    let fronts: Vec<_> = tables.allowed.keys().collect();
    assert_eq!(fronts, [&front("192.0.2.8", 80)]);
    assert!(tables.addresses.is_empty(), "a board's own");
    object["metadata"]["annotations"] = json!({ANNOUNCED_BY: ""});
    let announced = gather(from_ref(&object), &[pods()], "a");
    assert_eq!(announced.addresses.first(), Some(&"192.0.2.8".parse().expect("an address")));
    object["spec"]["type"] = json!("NodePort");
    let tables = gather(&[object], &[pods()], "a");
    assert!(tables.allowed.is_empty() && tables.addresses.is_empty());
}

#[test]
fn a_health_check_counts_ready_pods_of_its_board() {
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30999});
    for (node, ready) in [("a", 2), ("b", 1), ("c", 0)] {
        let tables = gather(&[web(local.clone())], &[pods()], node);
        let check = HealthCheck { namespace: "default".into(), name: "web".into(), ready };
        assert_eq!(tables.health, BTreeMap::from([(30999, check)]), "{node}");
    }
    let mut cluster = local;
    cluster["externalTrafficPolicy"] = json!("Cluster");
    assert!(gather(&[web(cluster)], &[pods()], "a").health.is_empty());
}

#[test]
fn headless_external_and_foreign_services_have_no_front() {
    let ports = json!([{"port": 80}]);
    let mut foreign = web(json!({}));
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    let services = [
        service("headless", json!({"clusterIP": "None", "ports": ports})),
        service("name", json!({"type": "ExternalName", "externalName": "x.y", "ports": ports})),
        service("unassigned", json!({"ports": ports})),
        foreign,
        json!({"metadata": {"name": "broken"}, "spec": 7}),
        Value::Null,
    ];
    assert_eq!(
        gather(&services, &[pods(), Value::Null, json!({"ports": 3})], "a"),
        Tables::default()
    );
}

#[test]
fn the_older_service_has_a_front_that_two_claim() {
    let with = |name: &str, created: &str, ip: &str| {
        let mut object = web(json!({"clusterIP": ip, "clusterIPs": [ip]}));
        object["metadata"]["name"] = name.into();
        object["metadata"]["creationTimestamp"] = created.into();
        object
    };
    let services = [
        with("a", "2026-01-02T00:00:00Z", "10.43.0.1"),
        with("b", "2026-01-01T00:00:00Z", "10.43.0.2"),
    ];
    let tables = gather(&services, &[], "a");
    assert_eq!(tables.routes[&front("", 30080)].name, "default/b:");
    let clash = (front("", 30080), "default/b:".to_owned(), "default/a:".to_owned());
    assert_eq!(tables.clashes, BTreeSet::from([clash]));
}

#[test]
fn addresses_that_are_the_boards_own_or_the_clusters_are_nobodys_from_outside() {
    let special = ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "239.1.1.1"];
    let mut object = web(json!({"type": "LoadBalancer", "externalIPs": special}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}});
    let fronts = |tables: &Tables| tables.routes.keys().copied().collect::<Vec<_>>();
    let own = [front("", 30080), front("10.43.0.9", 80)];
    assert_eq!(fronts(&gather(from_ref(&object), &[pods()], "a")), own);
    // The API's address, the DNS server's, a pod's; the last one is of the LAN.
    object["spec"]["externalIPs"] = json!(["10.43.0.1", "10.43.0.10", "10.42.0.3", "192.0.2.7"]);
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.43.0.2"}]}});
    let ranges = ["10.42.0.0/16", "10.43.0.0/16"].map(|range| Range::parse(range).expect("one"));
    let mut live = Live::new("a").guarding(ranges);
    live.set_service(object);
    live.patch();
    assert_eq!(fronts(&live.tables()), [own[0], own[1], front("192.0.2.7", 80)]);
}

#[test]
fn affinity() {
    let sticky = |config: Value| {
        let object = web(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}));
        gather(&[object], &[pods()], "a").routes[&front("", 30080)].affinity_seconds
    };
    assert_eq!(sticky(Value::Null), Some(10_800));
    assert_eq!(sticky(json!({"clientIP": {"timeoutSeconds": 60}})), Some(60));
}

/// Elements on a board whose pods are 10.42.0.0/24.
pub(super) fn elements(tables: &Tables) -> Elements {
    Elements::new(tables, |ip| ip.octets()[..3] == [10, 42, 0])
}

#[test]
fn elements_of_a_front_whose_inside_differs() {
    let object = web(json!({"externalTrafficPolicy": "Local"}));
    let elements = elements(&gather(&[object], &[pods()], "a"));
    let front = front("", 30080);
    let spread = |count| Verdict::Spread { count, affinity_seconds: None };
    assert_eq!(elements.fronts[&(Source::Any, front)].verdict, spread(2));
    assert_eq!(elements.fronts[&(Source::Inside, front)].verdict, spread(3));
    assert_eq!(elements.fronts.len(), 3, "the address needs one only");
    let count: usize = elements.fronts.values().map(|front| front.targets.len()).sum();
    assert_eq!(count, 2 + 3 + 3);
    assert_eq!(elements.hairpins.len(), 2);
}

#[test]
fn one_endpoint_more_touches_a_handful_of_elements() {
    let mut services = Vec::new();
    let mut slices = Vec::new();
    for i in 0..200 {
        let ip = format!("10.43.1.{i}");
        services.push(service(&format!("s{i}"), json!({"clusterIP": ip, "ports": [{"port": 80}]})));
        slices.push(slice(
            &format!("s{i}"),
            json!([{"port": 80, "protocol": "TCP"}]),
            json!([{"addresses": ["10.42.0.2"]}]),
        ));
    }
    let before = elements(&gather(&services, &slices, "a"));
    slices[77]["endpoints"] = json!([{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"]}]);
    let after = elements(&gather(&services, &slices, "a"));
    let change = before.diff(&after);
    assert_eq!(change.len(), 4, "{change:?}");
}
