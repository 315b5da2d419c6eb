//! `resolv.conf` by policy, and within limits.

use crate::dns::{ClusterDns, Resolver, pod_resolver};
use serde_json::{Value, json};

fn of(spec: Value, board: &str) -> (String, Vec<String>) {
    let mut spec = spec;
    spec["containers"] = json!([]);
    let spec = serde_json::from_value(spec).unwrap();
    let dns = ClusterDns { server: "10.43.0.10".into(), domain: "cluster.local".into() };
    let (resolver, told) = pod_resolver(&spec, "ns", Some(&dns), Resolver::parse(board));
    (resolver.text(), told)
}

const BOARD: &str = "# by hand\ndomain old.lan\nsearch lan. home.arpa cluster.local # here\n\
                     nameserver 192.0.2.53\n nameserver 192.0.2.54\noptions ndots:2\n\
                     options edns0\n";
const FIRST: &str = "search ns.svc.cluster.local svc.cluster.local cluster.local lan home.arpa\n\
                     nameserver 10.43.0.10\noptions ndots:5\n";
const OWN: &str = "search lan home.arpa cluster.local\nnameserver 192.0.2.53\n\
                   nameserver 192.0.2.54\noptions edns0\n";

#[test]
fn policies() {
    assert_eq!(of(json!({}), BOARD).0, FIRST);
    assert_eq!(of(json!({ "dnsPolicy": "ClusterFirst" }), BOARD).0, FIRST);
    assert_eq!(of(json!({ "hostNetwork": true }), BOARD).0, OWN);
    let host = json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
    assert_eq!(of(host, BOARD).0, FIRST);
    assert_eq!(of(json!({ "dnsPolicy": "Default" }), BOARD).0, OWN);
    let none = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["9.9.9.9"],
        "searches": ["x"], "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] } });
    assert_eq!(of(none, BOARD).0, "search x\nnameserver 9.9.9.9\noptions ndots:2 edns0\n");
    let spec = serde_json::from_value(json!({ "containers": [] })).unwrap();
    let alone = pod_resolver(&spec, "ns", None, Resolver::parse(BOARD)).0;
    assert_eq!(alone.text(), OWN, "without a server for the cluster");
}

#[test]
fn a_pods_own_wishes_are_merged_and_win() {
    let merged = json!({ "dnsConfig": { "nameservers": ["9.9.9.9", "10.43.0.10"],
        "searches": ["lan", "mine"], "options": [{ "name": "ndots", "value": "1" }] } });
    let want = FIRST
        .replace("home.arpa\n", "home.arpa mine\n")
        .replace("0.10\n", "0.10\nnameserver 9.9.9.9\n")
        .replace("ndots:5", "ndots:1");
    assert_eq!(of(merged, BOARD), (want, vec![]));
}

#[test]
fn what_no_resolver_reads_is_left_out_and_told() {
    let servers: Vec<String> = (1..=4).map(|n| format!("9.9.9.{n}")).collect();
    let short: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let spec = |searches: &[String]| {
        json!({ "dnsPolicy": "None",
                "dnsConfig": { "nameservers": servers, "searches": searches } })
    };
    let (text, told) = of(spec(&short), "");
    assert_eq!(text.matches("nameserver").count(), 3);
    assert_eq!(text.lines().next().unwrap().split(' ').count(), 33);
    assert_eq!(told.len(), 2, "{told:?}");
    let long: Vec<String> = (0..20).map(|n| format!("{n:0>200}")).collect();
    let line = of(spec(&long), "").0.lines().next().unwrap().len();
    assert_eq!(line, "search ".len() + 10 * 201 - 1, "whole names, 2048 characters at most");
}
