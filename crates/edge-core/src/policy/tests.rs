//! What a board's table says: each way, word for word, is with the recipes (`tests/lab`); here is
//! what they don't show: spans, changes, named ports, and what is not known.

mod any_events;

use super::span::{cut, without};
use super::*;
use serde_json::{Value, json};

const TCP: u8 = 6;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

fn span(text: &str) -> Span {
    Span::parse(text).expect("a CIDR")
}

fn pod(namespace: &str, name: &str, app: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"app": app}},
        "spec": {"containers": [{"ports": [
            {"name": "http", "containerPort": 8000 + name.len(), "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": address},
    })
}

fn world(policies: &[Value], pods: &[Value]) -> World {
    let mut world = World::default();
    for (number, spec) in policies.iter().enumerate() {
        let mut policy =
            json!({"metadata": {"namespace": "x", "name": format!("p{number}")}, "spec": spec});
        edge_api::kinds::NETWORK_POLICY.default(&mut policy);
        let policy = Policy::read(&policy);
        world.policies.insert((policy.namespace.clone(), policy.name.clone()), policy);
    }
    for pod in pods.iter().map(Pod::read) {
        let name: Labels =
            [("kubernetes.io/metadata.name".to_owned(), pod.namespace.clone().into())]
                .into_iter()
                .collect();
        world.namespaces.insert(pod.namespace.clone(), name);
        world.pods.insert(pod.uid.clone(), pod);
    }
    world
}

/// The board's own pods: those of these names.
fn compile(world: &World, own: &[&str]) -> Compiled {
    let own = own.iter().map(|uid| {
        let address = world.pods[*uid].address.expect("an address");
        ((*uid).to_owned(), address)
    });
    world.compile(&own.collect())
}

#[test]
fn blocks_lose_what_is_excepted() {
    let left = |whole: &str, except: &[&str]| {
        without(span(whole), except.iter().map(|text| span(text)).collect())
    };
    let of = |first: &str, last: &str| Span { first: ip(first).into(), last: ip(last).into() };
    assert_eq!(left("10.0.0.9/24", &[]), [of("10.0.0.0", "10.0.0.255")]);
    assert_eq!(
        left("10.0.0.0/24", &["10.0.0.64/26", "10.0.0.0/28", "10.0.0.70/32"]),
        [of("10.0.0.16", "10.0.0.63"), of("10.0.0.128", "10.0.0.255")]
    );
    assert_eq!(left("0.0.0.0/0", &["128.0.0.0/1"]), [of("0.0.0.0", "127.255.255.255")]);
    assert_eq!(left("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.128/25"]), []);
    assert!(Span::parse("10.0.0.0/33").is_none() && Span::parse("fd00::/8").is_none());
}

#[test]
fn blocks_that_overlap_are_cut_where_they_differ() {
    let (a, b) = ([span("10.0.0.0/8")], [span("10.1.0.0/16"), span("11.0.0.0/8")]);
    let found = cut(&[(1, &a[..]), (2, &b[..])]);
    let sets: Vec<Vec<i32>> = found.iter().map(|(_, set)| set.iter().copied().collect()).collect();
    assert_eq!(sets, [vec![1], vec![1, 2], vec![1], vec![2]]);
    assert!(found.windows(2).all(|pair| pair[0].0.last < pair[1].0.first));
    let halves = [span("0.0.0.0/1"), span("128.0.0.0/1")];
    let found = cut(&[(1, &halves[..])]);
    assert_eq!(found.len(), 1, "neighbours in the same blocks are one");
    assert_eq!(found[0].0, Span { first: 0, last: u32::MAX });
}

#[test]
fn a_change_is_a_few_elements() {
    let policies = [
        json!({"podSelector": {}, "ingress": [{"from": [
            {"podSelector": {"matchLabels": {"app": "a"}}},
            {"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.7.0/24"]}}]}]}),
        json!({"podSelector": {"matchLabels": {"app": "b"}},
            "egress": [{"ports": [{"port": 53}]}]}),
    ];
    let mut pods: Vec<Value> = (2..200)
        .map(|n| {
            pod(
                "x",
                &format!("pod-{n}"),
                if n % 2 == 0 { "a" } else { "b" },
                &format!("10.42.0.{n}"),
            )
        })
        .collect();
    let before = compile(&world(&policies, &pods), &["pod-3", "pod-4"]).rules.elements();
    // Two profiles in each direction at most, two classes of addresses.
    assert!(before.len() < 120, "{}", before.len());
    pods.push(pod("x", "new", "a", "10.42.1.9"));
    let after = compile(&world(&policies, &pods), &["pod-3", "pod-4"]).rules.elements();
    let change = Change::between(&before, &after);
    assert!(change.old.is_empty() && change.new.len() == 1 && !change.may_forbid(), "{change:?}");
    let back = Change::between(&after, &before);
    assert!(back.may_forbid(), "whoever it reached is cut");
    let read = Rules::assemble(&after);
    assert_eq!(read.elements(), after);
    assert!(read.lets_in(ip("10.42.1.9"), ip("10.42.0.4"), Traffic::new(1, 0)));
    assert!(!read.lets_in(ip("192.168.7.1"), ip("10.42.0.4"), Traffic::new(1, 0)));
    assert!(read.lets_in(ip("192.168.8.1"), ip("10.42.0.4"), Traffic::new(TCP, 9)));
}

#[test]
fn named_ports_are_each_pods_own() {
    let policies = [json!({"podSelector": {"matchLabels": {"app": "a"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": "http"}, {"port": "metrics"}]}],
        "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": "http"}]},
                   {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": "http"}]}]})];
    let pods = [
        pod("x", "one", "a", "10.42.0.2"),
        pod("x", "longer", "b", "10.42.0.3"),
        pod("y", "other", "b", "10.42.0.4"),
    ];
    let compiled = compile(&world(&policies, &pods), &["one"]);
    let (one, longer, other) = (ip("10.42.0.2"), ip("10.42.0.3"), ip("10.42.0.4"));
    let rules = &compiled.rules;
    let to = |from, to, port| rules.allow(from, to, Traffic::new(TCP, port));
    assert!(to(longer, one, 8003) && !to(longer, one, 8006), "its own number");
    assert!(to(one, longer, 8006) && !to(one, longer, 8003), "the other one's");
    assert!(!to(one, other, 8005), "another namespace");
    let told: Vec<&str> = compiled.unmatched.iter().map(|u| u.message.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("egress rule 2 names the TCP port \"http\""), "{told:?}");
    assert!(told[1].contains("\"metrics\", and no container of pod x/one has"), "{told:?}");
}

#[test]
fn what_is_not_known_is_not_allowed() {
    let policies = [json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]})];
    let pods = [pod("x", "one", "a", "10.42.0.2"), pod("y", "two", "a", "10.42.0.3")];
    let mut world = world(&policies, &pods);
    let reach = |world: &World| {
        let compiled = compile(world, &["one"]);
        compiled.rules.allow(ip("10.42.0.3"), ip("10.42.0.2"), Traffic::new(TCP, 1))
    };
    assert!(reach(&world));
    world.namespaces.remove("y");
    assert!(!reach(&world), "its namespace's labels are not known");
    let mut own = BTreeMap::from([("one".to_owned(), ip("10.42.0.2"))]);
    own.insert("stranger".to_owned(), ip("10.42.0.9"));
    let judged = world.compile(&own).judged;
    assert_eq!(judged, BTreeSet::from([ip("10.42.0.2")]), "nothing is known of the other");
}

#[test]
fn an_address_that_two_claim_is_in_what_both_are_in() {
    let policies = [json!({"podSelector": {"matchLabels": {"app": "a"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]})];
    let pods = [
        pod("x", "one", "a", "10.42.0.2"),
        pod("x", "friend", "b", "10.42.0.3"),
        pod("x", "thief", "c", "10.42.0.3"),
    ];
    let rules = compile(&world(&policies, &pods), &["one"]).rules;
    assert!(!rules.allow(ip("10.42.0.3"), ip("10.42.0.2"), Traffic::new(TCP, 1)));
    assert!(rules.allow(ip("10.42.0.2"), ip("10.42.0.2"), Traffic::new(TCP, 1)), "itself");
}

#[test]
fn pods_that_ended_or_share_the_boards_network_are_no_peers() {
    let mut ended = pod("x", "one", "a", "10.42.0.2");
    ended["status"]["phase"] = json!("Succeeded");
    assert_eq!(Pod::read(&ended).address, None);
    let mut host = pod("x", "one", "a", "192.168.1.7");
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(Pod::read(&host).address, None);
    let dns = World::dns_pod(ip("10.43.0.10"));
    assert_eq!(dns.named("dns-tcp", crate::proxy::Protocol::Tcp), Some(53));
}
