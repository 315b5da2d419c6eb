//! The rules of Services over time: restarts, many services, and what others do to them.

mod lab;

use edge_core::proxy::{ANNOUNCED_BY, Live, Patch, Tables};
use edge_node::net::Net;
use lab::Lab;
use lab::objects::{CLUSTER_IP, here, ip, pod, slice, tables};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

#[test]
fn a_restarted_edged_finds_its_rules_and_changes_nothing_that_is_right() {
    Lab::run("svc-restart", async |lab| {
        let net = lab.open();
        let (one, _server) = pod(&net, "one").await;
        let (two, _server) = pod(&net, "two").await;
        let wanted = tables(
            json!({"externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"}),
            &[(ip(&one), "here"), (ip(&two), "there")],
        );
        net.apply_proxy(&wanted).await.expect("rules");
        let before = net.rules_generation().expect("a generation");
        net.apply_proxy(&wanted).await.expect("rules");
        assert_eq!(net.rules_generation().expect("a generation"), before, "nothing to do");
        drop(net);
        assert_eq!(lab::fetch((CLUSTER_IP, 80)).len(), 3, "answers while edged is away");
        let net = lab.open();
        net.apply_proxy(&wanted).await.expect("rules");
        assert_eq!(net.rules_generation().expect("a generation"), before, "all was right");

        drop(net);
        let mut config = lab.config();
        config.service_cidr = "10.44.0.0/16".to_owned();
        let net = Net::open(config).expect("another range");
        assert_eq!(lab::fetch((CLUSTER_IP, 80)).len(), 3, "the old rules stay for now");
        net.apply_proxy(&wanted).await.expect("rules");
        assert_eq!(lab::fetch((CLUSTER_IP, 80)).len(), 3, "replaced in one go");
        net.cleanup().await.expect("cleanup");
        let net = lab.open();
        net.cleanup().await.expect("cleanup");
    });
}

/// One service of many, with an address and a node port of its own.
fn numbered(number: usize, endpoints: usize) -> (Value, Value) {
    let name = format!("s{number}");
    let address = Ipv4Addr::from(0x0a2b_0100 + u32::try_from(number).expect("small"));
    let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "clusterIP": address, "ports": [{"port": 80}]}});
    let targets: Vec<(IpAddr, &str)> = (0..endpoints)
        .map(|i| (IpAddr::from([10, 42, 1 + (number % 200) as u8, 2 + i as u8]), "here"))
        .collect();
    (service, slice(&name, 8080, "TCP", &targets))
}

#[test]
fn one_endpoint_among_thousands_of_services_changes_quickly() {
    Lab::run("svc-many", async |lab| {
        let net = lab.open();
        for count in [10, 1000, 10_000] {
            let mut live = Live::new("here");
            let (services, slices): (Vec<_>, Vec<_>) =
                (0..count).map(|number| numbered(number, 3)).unzip();
            live.set_services(services);
            live.set_slices(slices);
            live.patch();
            let start = Instant::now();
            net.apply_proxy(&live.tables()).await.expect("rules");
            let all = start.elapsed();
            let mut times = Vec::new();
            for round in 0..20 {
                let start = Instant::now();
                live.set_slice(numbered(count / 2, 3 + (round + 1) % 2).1);
                assert!(net.patch_proxy(live.patch()).await.expect("rules"));
                times.push(start.elapsed());
            }
            times.sort();
            println!(
                "{count} services in {all:?}; one endpoint p50 {:?} max {:?}",
                times[10], times[19]
            );
        }
        net.apply_proxy(&Tables::default()).await.expect("rules");
        net.cleanup().await.expect("cleanup");
    });
}

/// A Service that shares fronts, lists of clients and ways of spreading with others by turns.
fn shared(number: usize, turn: usize) -> (Value, Value) {
    let at = |from: usize, count: usize| from + (number * 7 + turn * 5) % count;
    let word = |words: [&'static str; 2]| words[(number + turn / 3) % 2];
    let affinity = ["None", "ClientIP"][turn % 2];
    let service = json!({
        "metadata": {"name": format!("s{number}"), "namespace": "default",
            "creationTimestamp": format!("2026-01-0{}T00:00:00Z", at(1, 4)),
            "annotations": {ANNOUNCED_BY: "here"}},
        "spec": {"type": "LoadBalancer", "clusterIP": format!("10.43.0.{}", at(20, 5)),
            "ports": [{"port": 80, "nodePort": at(30100, 4), "protocol": word(["TCP", "UDP"])}],
            "loadBalancerSourceRanges": [format!("192.0.{}.0/24", at(2, 3)), "198.51.100.7/32"],
            "externalTrafficPolicy": word(["Local", "Cluster"]),
            "sessionAffinity": affinity},
        "status": {"loadBalancer": {"ingress": [{"ip": format!("192.0.2.{}", at(200, 3))}]}},
    });
    let targets: Vec<(IpAddr, &str)> = (0..at(0, 4))
        .map(|i| (IpAddr::from([10, 42, (i % 2) as u8, 2 + i as u8]), word(["here", "there"])))
        .collect();
    let protocol = service["spec"]["ports"][0]["protocol"].as_str().expect("a protocol");
    let slice = slice(&format!("s{number}"), 8080, protocol, &targets);
    (service, slice)
}

#[test]
fn change_by_change_the_rules_become_what_everything_makes() {
    Lab::run("svc-patch", async |lab| {
        let mut net = lab.open();
        let mut live = Live::new("here");
        net.apply_proxy(&live.tables()).await.expect("rules");
        for turn in 0..90 {
            let (service, slice) = shared(turn % 6, turn);
            match turn % 11 {
                9 => live.remove_service(&("default".to_owned(), format!("s{}", turn % 6))),
                10 => live.remove_slice(&("default".to_owned(), format!("s{}", turn % 6))),
                _ => {
                    live.set_service(service);
                    live.set_slice(slice);
                }
            }
            assert!(net.patch_proxy(live.patch()).await.expect("rules"), "turn {turn}");
            if turn % 3 == 2 {
                let before = net.rules_generation().expect("a generation");
                drop(net);
                net = lab.open();
                assert!(!net.patch_proxy(live.patch()).await.expect("no rules"), "nothing known");
                let (services, slices) = (live.services().values(), live.slices().values());
                let whole = Tables::gather(services, slices, "here");
                net.apply_proxy(&whole).await.expect("rules");
                let after = net.rules_generation().expect("a generation");
                assert_eq!(before, after, "turn {turn}: read back, nothing is left to do");
            }
        }
        live.set_services(Vec::new());
        assert!(net.patch_proxy(live.patch()).await.expect("rules"));
        let before = net.rules_generation().expect("a generation");
        net.apply_proxy(&Tables::default()).await.expect("rules");
        assert_eq!(net.rules_generation().expect("a generation"), before, "all is gone");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn what_others_did_to_the_rules_is_mended_and_theirs_are_left_alone() {
    Lab::run("svc-mend", async |lab| {
        let net = lab.open();
        let (one, _server) = pod(&net, "one").await;
        let wanted = tables(json!({}), &here(&[&one]));
        net.apply_proxy(&wanted).await.expect("rules");
        if !lab::nft("add table ip foreign") {
            eprintln!("SKIPPED: this part needs the program `nft`, of Debian's nftables");
            return;
        }
        for damage in
            ["delete table ip edged", "flush table ip edged", "flush chain ip edged output"]
        {
            assert!(lab::nft(damage), "{damage}");
            let known = net.patch_proxy(Patch::default()).await.expect("a look");
            assert!(!known, "somebody changed rules: {damage}");
            net.apply_proxy(&wanted).await.expect("rules");
            assert_eq!(lab::fetch((CLUSTER_IP, 80)), "one", "after: {damage}");
        }
        let drops = "add chain ip foreign f { type filter hook forward priority 0; policy drop; }";
        assert!(lab::nft(drops));
        let found = net.obstacles().await.expect("a look");
        assert!(found.iter().any(|obstacle| obstacle.contains("foreign/f")), "{found:?}");
        drop(net);
        let net = lab.open();
        let warning = net.warnings().first().expect("a warning").clone();
        assert!(warning.contains("foreign/f") && warning.contains("edge0"), "{warning}");
        net.cleanup().await.expect("cleanup");
        assert!(lab::nft("list table ip foreign"));
        assert!(!lab::nft("list table ip edged"));
    });
}
