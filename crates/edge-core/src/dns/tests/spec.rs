//! The records of Kubernetes' DNS specification 1.1.0, one by one.

use crate::dns::{Data, Name, Names, Outcome, Query, Reply, Zone, answer, code, kind};
use serde_json::{Value, json};

fn zone() -> Zone {
    Zone {
        domain: Name::new("cluster.local").unwrap(),
        server: "10.43.0.10".parse().unwrap(),
        services: ("10.43.0.0".parse().unwrap(), 16),
        pods: ("10.42.0.0".parse().unwrap(), 16),
    }
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": name }, "spec": spec })
}

fn slice(of: &str, number: u32, endpoints: Value) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": format!("{of}-{number}"),
                          "labels": { "kubernetes.io/service-name": of } },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] })
}

fn cluster() -> Names {
    let mut names = Names::default();
    let web = json!({ "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7", "fd00::7"], "ports": [
        { "name": "http", "port": 80, "protocol": "TCP" }, { "port": 81, "protocol": "TCP" },
        { "name": "dns", "port": 53, "protocol": "UDP" }] });
    let headless = json!({ "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] });
    names.restart_services(&[
        service("web", web),
        service("db", headless.clone()),
        service("idle", headless.clone()),
        service("early", json!({ "clusterIP": "None", "publishNotReadyAddresses": true })),
        service("out", json!({ "type": "ExternalName", "externalName": "www.Example.org" })),
        service(
            "near",
            json!({ "type": "ExternalName",
                                "externalName": "web.ns.svc.cluster.local" }),
        ),
        service(
            "round",
            json!({ "type": "ExternalName",
                                 "externalName": "round.ns.svc.cluster.local" }),
        ),
        service("number", json!({ "type": "ExternalName", "externalName": "192.0.2.9" })),
    ]);
    let unready = json!({ "ready": false });
    names.restart_slices(&[
        slice("web", 1, json!([{ "addresses": ["10.42.0.20"] }])),
        slice(
            "db",
            1,
            json!([
            { "addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": { "ready": true } },
            { "addresses": ["10.42.0.6"], "hostname": "db-1", "conditions": unready }]),
        ),
        slice("db", 2, json!([{ "addresses": ["10.42.1.5"] }])),
        slice("idle", 1, json!([{ "addresses": ["10.42.0.9"], "conditions": unready }])),
        slice(
            "early",
            1,
            json!([{ "addresses": ["10.42.0.8"], "hostname": "a",
                                   "conditions": unready }]),
        ),
    ]);
    names
}

fn query(name: &str, kind: u16) -> Query {
    Query {
        id: 1,
        recursion: true,
        unchecked: false,
        name: Name::new(name).unwrap(),
        kind,
        class: 1,
        edns: None,
    }
}

fn ask(name: &str, kind: u16) -> Outcome {
    answer(Some(&cluster()), &zone(), &query(name, kind), 0)
}

fn reply(name: &str, kind: u16) -> Reply {
    match ask(name, kind) {
        Outcome::Reply(reply) => reply,
        other => panic!("{name}: {other:?}"),
    }
}

fn shown(data: &Data) -> String {
    match data {
        Data::A(ip) => ip.to_string(),
        Data::Aaaa(ip) => ip.to_string(),
        Data::Cname(name) | Data::Ptr(name) | Data::Ns(name) => name.to_string(),
        Data::Srv { weight, port, target } => format!("0 {weight} {port} {target}"),
        Data::Txt(text) => (*text).to_owned(),
        other => format!("{other:?}"),
    }
}

/// What is answered, each record as text; a "no" by its code, with the zone's record.
fn told(name: &str, kind: u16) -> String {
    let reply = reply(name, kind);
    assert!(reply.authoritative, "{name}");
    if reply.answers.is_empty() {
        let soa = &reply.authority[0];
        assert!(matches!(soa.data, Data::Soa { negative: 5, .. }), "{soa:?}");
        assert_eq!((soa.name.to_string(), soa.ttl), ("cluster.local.".into(), 5));
        return format!("code {}", reply.code);
    }
    assert_eq!(reply.code, code::NONE);
    assert!(reply.answers.iter().all(|r| r.ttl == if kind == kind::TXT { 28_800 } else { 5 }));
    reply.answers.iter().map(|record| shown(&record.data)).collect::<Vec<_>>().join(", ")
}

#[test]
fn records_of_the_specification() {
    let cases = [
        ("dns-version.cluster.local", kind::TXT, "1.1.0"),
        // A Service with an address.
        ("web.ns.svc.cluster.local", kind::A, "10.43.0.7"),
        ("WEB.ns.SVC.cluster.Local", kind::A, "10.43.0.7"),
        ("web.ns.svc.cluster.local", kind::AAAA, "fd00::7"),
        ("_http._tcp.web.ns.svc.cluster.local", kind::SRV, "0 100 80 web.ns.svc.cluster.local."),
        ("_dns._udp.web.ns.svc.cluster.local", kind::SRV, "0 100 53 web.ns.svc.cluster.local."),
        ("_http._udp.web.ns.svc.cluster.local", kind::SRV, "code 3"),
        ("_http._tcp.web.ns.svc.cluster.local", kind::A, "code 0"),
        ("_tcp.web.ns.svc.cluster.local", kind::A, "code 0"),
        ("_sctp.web.ns.svc.cluster.local", kind::A, "code 3"),
        ("7.0.43.10.in-addr.arpa", kind::PTR, "web.ns.svc.cluster.local."),
        ("10-42-0-20.web.ns.svc.cluster.local", kind::A, "10.42.0.20"),
        // A headless one.
        ("db.ns.svc.cluster.local", kind::A, "10.42.0.5, 10.42.1.5"),
        ("db.ns.svc.cluster.local", kind::AAAA, "code 0"),
        ("db-0.db.ns.svc.cluster.local", kind::A, "10.42.0.5"),
        ("db-1.db.ns.svc.cluster.local", kind::A, "code 3"),
        ("10-42-1-5.db.ns.svc.cluster.local", kind::A, "10.42.1.5"),
        (
            "_http._tcp.db.ns.svc.cluster.local",
            kind::SRV,
            "0 50 8080 10-42-1-5.db.ns.svc.cluster.local., \
             0 50 8080 db-0.db.ns.svc.cluster.local.",
        ),
        ("5.0.42.10.in-addr.arpa", kind::PTR, "db-0.db.ns.svc.cluster.local."),
        ("5.1.42.10.in-addr.arpa", kind::PTR, "10-42-1-5.db.ns.svc.cluster.local."),
        ("6.0.42.10.in-addr.arpa", kind::PTR, "code 3"),
        ("idle.ns.svc.cluster.local", kind::A, "code 3"),
        ("early.ns.svc.cluster.local", kind::A, "10.42.0.8"),
        ("a.early.ns.svc.cluster.local", kind::A, "10.42.0.8"),
        // Names that only have names below them, and names that are none.
        ("cluster.local", kind::A, "code 0"),
        ("cluster.local", kind::NS, "ns.dns.cluster.local."),
        ("ns.dns.cluster.local", kind::A, "10.43.0.10"),
        ("svc.cluster.local", kind::A, "code 0"),
        ("ns.svc.cluster.local", kind::A, "code 0"),
        ("other.svc.cluster.local", kind::A, "code 3"),
        ("none.ns.svc.cluster.local", kind::A, "code 3"),
        ("web.other.svc.cluster.local", kind::AAAA, "code 3"),
        ("a.b.web.ns.svc.cluster.local", kind::A, "code 3"),
        ("foo.cluster.local", kind::NS, "code 3"),
        ("9.0.43.10.in-addr.arpa", kind::PTR, "code 3"),
        // Names of addresses that pods may have, and no others.
        ("10-42-7-7.ns.pod.cluster.local", kind::A, "10.42.7.7"),
        ("10-42-7-7.other.pod.cluster.local", kind::A, "code 3"),
        ("192-0-2-1.ns.pod.cluster.local", kind::A, "code 3"),
        ("number.ns.svc.cluster.local", kind::A, "code 3"),
    ];
    for (name, kind, want) in cases {
        assert_eq!(told(name, kind), want, "{name} {kind}");
    }
}

#[test]
fn names_elsewhere_are_followed() {
    let cname = told("out.ns.svc.cluster.local", kind::CNAME);
    assert_eq!(cname, "www.Example.org.");
    match ask("out.ns.svc.cluster.local", kind::A) {
        Outcome::Follow { first, target } => {
            assert_eq!((first.len(), target.to_string()), (1, "www.Example.org.".into()));
        }
        other => panic!("{other:?}"),
    }
    let near = told("near.ns.svc.cluster.local", kind::A);
    assert_eq!(near, "web.ns.svc.cluster.local., 10.43.0.7");
    assert_eq!(reply("round.ns.svc.cluster.local", kind::A).code, code::FAILURE);
    assert_eq!(told("x.out.ns.svc.cluster.local", kind::A), "code 3");
}

#[test]
fn hosts_of_srv_come_along_and_addresses_take_turns() {
    let srv = reply("_http._tcp.db.ns.svc.cluster.local", kind::SRV);
    let extra: Vec<String> = srv.additional.iter().map(|r| shown(&r.data)).collect();
    assert_eq!(extra, ["10.42.1.5", "10.42.0.5"]);
    let query = query("db.ns.svc.cluster.local", kind::A);
    let Outcome::Reply(turned) = answer(Some(&cluster()), &zone(), &query, 3) else { panic!() };
    assert_eq!(shown(&turned.answers[0].data), "10.42.1.5");
}

#[test]
fn what_others_know_and_what_nobody_is_told() {
    assert_eq!(ask("example.org", kind::A), Outcome::Forward);
    assert_eq!(ask("1.2.0.192.in-addr.arpa", kind::PTR), Outcome::Forward);
    assert_eq!(ask("notcluster.local", kind::A), Outcome::Forward);
    for (name, kind) in [("example.org", 252), ("web.ns.svc.cluster.local", 251), ("x.y", 0)] {
        assert_eq!(reply(name, kind).code, code::REFUSED, "{name} {kind}");
    }
    for name in ["example.org", "web.ns.svc.cluster.local", "out.ns.svc.cluster.local"] {
        assert_eq!(reply(name, kind::ANY).answers[0].data, Data::Hinfo, "{name}");
    }
    let mut chaos = query("version.bind", kind::TXT);
    chaos.class = 3;
    let refused = answer(Some(&cluster()), &zone(), &chaos, 0);
    assert!(matches!(refused, Outcome::Reply(Reply { code: code::REFUSED, .. })));
    let mut alone = query("example.org", kind::A);
    alone.recursion = false;
    let refused = answer(Some(&cluster()), &zone(), &alone, 0);
    assert!(matches!(refused, Outcome::Reply(Reply { code: code::REFUSED, .. })));
}

#[test]
fn nobody_is_told_no_before_all_names_are_known() {
    for name in ["web.ns.svc.cluster.local", "7.0.43.10.in-addr.arpa"] {
        let early = answer(None, &zone(), &query(name, kind::A), 0);
        assert!(matches!(early, Outcome::Reply(Reply { code: code::FAILURE, .. })), "{name}");
    }
    let early = answer(None, &zone(), &query("example.org", kind::A), 0);
    assert_eq!(early, Outcome::Forward);
}

#[test]
fn changes_are_followed_and_nothing_is_left_behind() {
    let mut names = cluster();
    let told = |names: &Names, name: &str| match answer(
        Some(names),
        &zone(),
        &query(name, if name.ends_with("arpa") { kind::PTR } else { kind::A }),
        0,
    ) {
        Outcome::Reply(reply) => {
            reply.answers.iter().map(|r| shown(&r.data)).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    };
    names.put_slice(&slice("db", 2, json!([{ "addresses": ["10.42.1.6"] }])));
    assert_eq!(told(&names, "db.ns.svc.cluster.local"), "10.42.0.5 10.42.1.6");
    assert_eq!(told(&names, "5.1.42.10.in-addr.arpa"), "");
    // The slice goes to another Service.
    let mut moved = slice("db", 2, json!([{ "addresses": ["10.42.1.6"] }]));
    moved["metadata"]["labels"]["kubernetes.io/service-name"] = json!("idle");
    names.put_slice(&moved);
    assert_eq!(told(&names, "db.ns.svc.cluster.local"), "10.42.0.5");
    assert_eq!(told(&names, "idle.ns.svc.cluster.local"), "10.42.1.6");
    let web = service("web", json!({ "clusterIP": "10.43.0.8" }));
    names.put_service(&web);
    assert_eq!(told(&names, "web.ns.svc.cluster.local"), "10.43.0.8");
    assert_eq!(told(&names, "7.0.43.10.in-addr.arpa"), "");
    names.remove_service(&web);
    names.remove_slice(&moved);
    names.restart_services(&[]);
    names.restart_slices(&[]);
    assert!(names.is_empty(), "{names:?}");
}
