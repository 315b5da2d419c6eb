//! What `nft list` makes of our tables: all of them, with Services and policies of every sort.
//! nft 1.0.6 (Debian 12) ended by an assertion at a map whose answer was another's key, and at
//! stretches of keys of several fields.

#![allow(clippy::panic)]

mod lab;

use edge_core::policy::{Labels, Pod, Policy, World};
use edge_core::proxy::{ANNOUNCED_BY, Tables};
use lab::Lab;
use lab::objects::{here, service, slice};
use serde_json::json;
use std::process::Command;

/// What `nft` prints, without a word of complaint; `None` where there is no `nft`.
#[track_caller]
fn list(what: &str) -> Option<String> {
    let mut command = Command::new("nft");
    command.arg("list").args(what.split_whitespace());
    let output = match command.output() {
        Err(_) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: this needs the program `nft`, of Debian's nftables");
            return None;
        }
        output => output.expect("the program `nft`"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{what}: {output:?}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Services with affinity, lists of clients, a pool's address, a local policy and none to serve.
fn services(targets: &[(std::net::IpAddr, &str)]) -> Tables {
    let mut all = service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP",
        "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["198.51.100.0/24", "10.0.0.0/8"],
        "ports": [{"name": "t", "port": 80, "nodePort": 30080},
                  {"name": "u", "port": 80, "nodePort": 30080, "protocol": "UDP"},
                  {"name": "s", "port": 80, "nodePort": 30080, "protocol": "SCTP"}]}));
    all["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.240"}]}});
    all["metadata"]["annotations"] = json!({ANNOUNCED_BY: "here"});
    let mut plain = service(json!({"clusterIP": "10.43.0.10",
        "ports": [{"port": 81, "nodePort": 30081}], "externalIPs": []}));
    plain["metadata"]["name"] = json!("plain");
    let mut empty = service(json!({"clusterIP": "10.43.0.11",
        "ports": [{"port": 82, "nodePort": 30082}], "externalIPs": []}));
    empty["metadata"]["name"] = json!("empty");
    let slices = ["TCP", "UDP", "SCTP"].map(|protocol| {
        let mut slice = slice("web", 8080, protocol, targets);
        slice["ports"][0]["name"] = json!(protocol[..1].to_ascii_lowercase());
        slice
    });
    let slices = [&slices[..], &[slice("plain", 8080, "TCP", targets)]].concat();
    Tables::gather(&[all, plain, empty], &slices, "here")
}

#[test]
fn nft_lists_every_table_of_ours() {
    Lab::run("listing", async |lab| {
        let net = lab.open();
        let web = net.create_pod("web", "web", false).await.expect("a pod");
        let foe = net.create_pod("foe", "foe", false).await.expect("a pod");
        net.apply_proxy(&services(&here(&[&web, &foe]))).await.expect("rules");
        let mut world = World::default();
        let lan = json!({"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]});
        let friend = json!({"podSelector": {"matchLabels": {"app": "foe"}}});
        let ports = json!([{"port": 7001, "endPort": 7100}, {"port": 53, "protocol": "UDP"}]);
        let mut policy = json!({"metadata": {"namespace": "x", "name": "p"}, "spec": {
            "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [friend, {"ipBlock": lan}], "ports": ports}],
            "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
        edge_api::kinds::NETWORK_POLICY.default(&mut policy);
        let policy = Policy::read(&policy);
        world.policies.insert((policy.namespace.clone(), policy.name.clone()), policy);
        world.namespaces.insert("x".to_owned(), Labels::new());
        let own = net.pod_addresses();
        for uid in own.keys() {
            let pod = json!({"metadata": {"namespace": "x", "name": uid, "uid": uid,
                                          "labels": {"app": uid}}, "spec": {}});
            world.pods.insert(uid.clone(), Pod::read(&pod));
        }
        net.apply_policies(Some(world.compile(&own))).await.expect("rules");
        // A client that is remembered.
        let _servers = [&web, &foe].map(|pod| lab::serve(&pod.namespaces, "0.0.0.0:8080", "it"));
        assert_eq!(lab::fetch(("10.43.0.9", 80)), "it");

        let Some(ours) = list("table ip edged") else { return };
        for line in [
            "ip daddr . meta l4proto vmap @spreads comment \"by the answer of @services\"",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @targets",
            "dnat ip to ip saddr . ip daddr & 0.0.0.0 . meta l4proto . th dport map @affinity",
            "10.42.0.1 . 10.43.0.9 . tcp . 80 timeout 3h",
            "10.43.0.9 . tcp . 80 : ",
            "192.0.2.240 . udp . 80 : ",
            "ip saddr 198.51.100.0/24 return",
        ] {
            assert!(ours.contains(line), "{line}:\n{ours}");
        }
        let policies = list("table ip edged-policy").expect("nft is there");
        for line in [
            "ip saddr . ip daddr . meta l4proto . th dport @allowed return comment \"by the answer \
             of @pods, @egress\"",
            "192.0.2.0/29 : ",
            "tcp flags != syn / fin,syn,rst,ack",
        ] {
            assert!(policies.contains(line), "{line}:\n{policies}");
        }
        let senders = list("table bridge edged").expect("nft is there");
        assert!(senders.contains("@senders accept"), "{senders}");
        let everything = list("ruleset").expect("nft is there");
        assert!(everything.contains("table ip edged-policy"), "{everything}");
        net.cleanup().await.expect("cleanup");
    });
}
