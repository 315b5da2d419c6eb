//! What comes to a Service from the LAN: whom its load balancer takes, and addresses of the LAN
//! that are nobody's but a Service's.

mod lab;

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
