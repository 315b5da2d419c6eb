//! What comes to a Service from the LAN: whom its load balancer takes, and addresses of the LAN
//! that are nobody's but a Service's.

mod lab;

use edge_core::proxy::claims::Say;
use edge_core::proxy::{ANNOUNCED_BY, Tables};
use edge_node::net::Net;
use lab::Lab;
use lab::objects::{NODE_PORT, here, pod, service, slice};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::IpAddr;

const OWN: &str = "192.0.2.240";

fn balanced(extra: Value, address: &str, endpoints: &[(IpAddr, &str)]) -> Tables {
    let mut object = service(json!({"type": "LoadBalancer"}));
    for (key, value) in extra.as_object().expect("an object") {
        object["spec"][key] = value.clone();
    }
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    if address == OWN {
        object["metadata"]["annotations"] = json!({ANNOUNCED_BY: "here"});
    }
    Tables::gather(&[object], &[slice("web", 8080, "TCP", endpoints)], "here")
}

async fn apply(net: &Net, tables: &Tables) {
    net.apply_proxy(tables).await.expect("rules");
    let before = net.rules_generation().expect("a generation");
    net.apply_proxy(tables).await.expect("rules");
    assert_eq!(net.rules_generation().expect("a generation"), before, "nothing to do");
}

#[test]
fn a_load_balancer_takes_the_clients_that_it_should() {
    Lab::run("lan-sources", async |lab| {
        let net = lab.open();
        let (one, _server) = pod(&net, "one").await;
        let endpoints = here(&[&one]);
        let fetch = |port| move || lab::try_fetch(("192.0.2.1", port));
        let asked = |ranges: Value| {
            balanced(json!({"loadBalancerSourceRanges": ranges}), "192.0.2.1", &endpoints)
        };
        apply(&net, &asked(json!(["198.51.100.0/24", "192.0.2.2/32"]))).await;
        assert_eq!(lab.outside(fetch(80)).expect("one of the list"), "one");
        drop(net);
        // A restarted edged reads back whom it takes.
        let net = lab.open();
        let before = net.rules_generation().expect("a generation");
        apply(&net, &asked(json!(["192.0.2.2/32", "198.51.100.0/24"]))).await;
        assert_eq!(net.rules_generation().expect("a generation"), before, "all was right");

        apply(&net, &asked(json!(["198.51.100.0/24"]))).await;
        let refused = lab.outside(fetch(80)).expect_err("not of the list");
        assert_eq!(refused.kind(), ErrorKind::TimedOut, "dropped, as in Kubernetes");
        assert_eq!(lab.outside(fetch(NODE_PORT)).expect("the node port is everybody's"), "one");
        let external = || lab::try_fetch(("192.0.2.77", 80));
        assert_eq!(external().expect("external addresses are everybody's"), "one");

        apply(&net, &asked(json!(["0.0.0.0/0"]))).await;
        assert_eq!(lab.outside(fetch(80)).expect("everybody"), "one");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn at_a_services_own_address_nobody_else_answers() {
    Lab::run("lan-own", async |lab| {
        let net = lab.open();
        let (one, _server) = pod(&net, "one").await;
        apply(&net, &balanced(json!({}), OWN, &here(&[&one]))).await;
        let _local = std::net::TcpListener::bind("0.0.0.0:81").expect("listen on the board");
        // As a neighbour that was told the board's hardware address.
        lab.outside(|| lab::ip(&format!("route add {OWN}/32 via 192.0.2.1")));
        assert_eq!(lab.outside(|| lab::fetch((OWN, 80))), "one");
        assert_eq!(lab::fetch((OWN, 80)), "one", "from the board");
        let refused = lab.outside(|| lab::try_fetch((OWN, 81))).expect_err("no such port");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let refused = lab::try_fetch((OWN, 81)).expect_err("no such port");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        apply(&net, &Tables::default()).await;
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn a_neighbour_that_asks_for_an_address_is_answered_on_its_link() {
    Lab::run("lan-arp", async |lab| {
        let net = lab.open();
        let networks = net.networks().await.expect("networks");
        let text: Vec<String> =
            networks.iter().map(|n| format!("{} {}", n.link, n.range)).collect();
        assert_eq!(text, ["lan0 192.0.2.0/24"], "neither the bridge nor the loopback");
        let (one, _server) = pod(&net, "one").await;
        apply(&net, &balanced(json!({}), OWN, &here(&[&one]))).await;
        let ear = net.hear_arp("lan0").expect("a packet socket");
        net.hear_arp("nosuch0").expect_err("no such link");
        let asker = std::thread::spawn(move || lab.outside(|| lab::try_fetch((OWN, 80))));
        loop {
            let packet = ear.hear().await.expect("a packet");
            if packet.request && packet.target.to_string() == OWN {
                ear.say(&Say::Answer(packet.target, packet.sender)).expect("sent");
                break;
            }
        }
        while !asker.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(asker.join().expect("no panic").expect("an answer"), "one");
        net.cleanup().await.expect("cleanup");
    });
}

#[test]
fn ranges_that_meet_the_lan_are_refused_with_what_they_meet() {
    Lab::run("lan-clash", async |lab| {
        let refused = |services: &str, cluster: &str| {
            let mut config = lab.config();
            config.service_cidr = services.to_owned();
            config.cluster_cidr = cluster.to_owned();
            Net::open(config).expect_err("a clash").to_string()
        };
        let told = refused("192.0.0.0/16", "10.42.0.0/16");
        assert!(
            told.contains("service-cidr \"192.0.0.0/16\"") && told.contains("this board's own")
        );
        lab::ip("link add lan2 type bridge");
        lab::ip("addr add 10.43.7.1/24 dev lan2");
        lab::ip("link set lan2 up");
        let told = refused("10.43.0.0/16", "10.42.0.0/16");
        assert!(told.contains("overlaps 10.43.7.0/24, the network of lan2"), "{told}");
        lab::ip("addr del 10.43.7.1/24 dev lan2");
        lab::ip("route add 10.32.0.0/11 via 192.0.2.2");
        let told = refused("10.99.0.0/16", "10.42.0.0/16");
        assert!(told.contains("cluster-cidr \"10.42.0.0/16\""), "{told}");
        assert!(told.contains("overlaps 10.32.0.0/11, to which a route leads by lan0"), "{told}");
        lab::ip("route del 10.32.0.0/11");
        lab.open().cleanup().await.expect("cleanup");
    });
}
