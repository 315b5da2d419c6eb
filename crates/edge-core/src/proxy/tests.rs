//! What Kubernetes promises about Services, case by case, and what must hold for any input.

use super::*;
use serde_json::{Value, json};
use std::slice::from_ref;

fn service(name: &str, spec: Value) -> Object {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Object {
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

fn gather(services: &[Object], slices: &[Object], node: &str) -> Tables {
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
    assert_eq!(tables.clashes, [clash]);
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
fn elements(tables: &Tables) -> Elements {
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

/// A small pseudo-random source, so that the cases are many and the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
}

fn random_cluster(chance: &mut Chance) -> (Vec<Object>, Vec<Object>) {
    let mut services = Vec::new();
    let mut slices = Vec::new();
    for i in 0..chance.below(6) {
        let policy = |yes| if yes { "Local" } else { "Cluster" };
        services.push(service(
            &format!("s{i}"),
            json!({
                "type": if chance.flag() { "NodePort" } else { "ClusterIP" },
                "clusterIP": format!("10.43.0.{}", chance.below(5)),
                "externalIPs": [format!("192.0.2.{}", chance.below(3))],
                "ports": [{"port": 80 + chance.below(2), "nodePort": 30000 + chance.below(4)}],
                "internalTrafficPolicy": policy(chance.flag()),
                "externalTrafficPolicy": policy(chance.flag()),
                "publishNotReadyAddresses": chance.below(5) == 0,
                "sessionAffinity": if chance.flag() { "ClientIP" } else { "None" },
            }),
        ));
        let endpoints: Vec<Value> = (0..chance.below(5))
            .map(|_| {
                json!({
                    "addresses": [format!("10.42.0.{}", chance.below(9))],
                    "nodeName": if chance.flag() { "a" } else { "b" },
                    "conditions": {"ready": chance.flag(), "serving": chance.flag(),
                                   "terminating": chance.flag()},
                })
            })
            .collect();
        let ports = json!([{"port": 8000 + i, "protocol": "TCP"}]);
        slices.push(slice(&format!("s{i}"), ports, endpoints.into()));
    }
    (services, slices)
}

/// Every target is an endpoint that is ready, is published unready, or still serves while none
/// is ready.
fn check_targets(services: &[Object], slices: &[Object], tables: &Tables) {
    for route in tables.routes.values() {
        let name = route.name.trim_start_matches("default/").trim_end_matches(':');
        let index: usize = name[1..].parse().expect("a number");
        let published = services[index]["spec"]["publishNotReadyAddresses"] == true;
        let endpoints = slices[index]["endpoints"].as_array().expect("endpoints");
        for choice in [&route.inside, &route.outside] {
            let Choice::Spread(targets) = choice else { continue };
            assert!(!targets.is_empty() && targets.is_sorted());
            for target in targets {
                let address = target.address.to_string();
                let known = endpoints.iter().any(|endpoint| {
                    let conditions = &endpoint["conditions"];
                    endpoint["addresses"][0] == address.as_str()
                        && (conditions["ready"] == true
                            || published
                            || (conditions["serving"] == true && conditions["terminating"] == true))
                });
                assert!(known, "{target:?} of {} is no ready endpoint", route.name);
            }
        }
    }
}

/// The change done element by element, as the kernel does it, and read back.
fn realise(kernel: &Elements, change: &Change) -> Option<Elements> {
    let mut verdicts: BTreeMap<VerdictKey, Verdict> =
        kernel.fronts.iter().map(|(key, front)| (*key, front.verdict)).collect();
    let mut targets = BTreeMap::new();
    for ((source, front), found) in &kernel.fronts {
        for (number, target) in (0..).zip(&found.targets) {
            targets.insert((*source, *front, number), *target);
        }
    }
    let mut hairpins = kernel.hairpins.clone();
    for (key, verdict) in &change.old_verdicts {
        assert_eq!(verdicts.remove(key), Some(*verdict));
    }
    for (key, target) in &change.old_targets {
        assert_eq!(targets.remove(key), Some(*target));
    }
    assert!(change.old_hairpins.iter().all(|hairpin| hairpins.remove(hairpin)));
    for (key, verdict) in &change.new_verdicts {
        assert_eq!(verdicts.insert(*key, *verdict), None, "added over another");
    }
    for (key, target) in &change.new_targets {
        assert_eq!(targets.insert(*key, *target), None, "added over another");
    }
    assert!(change.new_hairpins.iter().all(|hairpin| hairpins.insert(*hairpin)));
    Elements::assemble(verdicts, targets, hairpins)
}

#[test]
fn for_any_cluster_targets_are_ready_and_a_realised_change_leaves_nothing_to_do() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut kernel = Elements::default();
    for _ in 0..2000 {
        let (services, slices) = random_cluster(&mut chance);
        let tables = gather(&services, &slices, "a");
        check_targets(&services, &slices, &tables);
        let wanted = elements(&tables);
        let change = kernel.diff(&wanted);
        let read = realise(&kernel, &change);
        kernel.apply(&change);
        assert_eq!(kernel, wanted);
        assert_eq!(read, Some(wanted.clone()));
        assert!(kernel.diff(&wanted).is_empty());
    }
}
