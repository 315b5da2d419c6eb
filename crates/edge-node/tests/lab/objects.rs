//! A Service, its slices and its pods, as the tests of Services want them.

use super::{Server, serve};
use edge_core::proxy::Tables;
use edge_node::net::Net;
use edge_node::seams::PodNetwork;
use serde_json::{Value, json};
use std::net::IpAddr;

pub const CLUSTER_IP: &str = "10.43.0.9";
pub const NODE_PORT: u16 = 30080;

pub fn service(extra: Value) -> Value {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": CLUSTER_IP, "externalIPs": ["192.0.2.77"],
        "ports": [{"port": 80, "nodePort": NODE_PORT}],
    });
    for (key, value) in extra.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

pub fn slice(name: &str, port: u16, protocol: &str, endpoints: &[(IpAddr, &str)]) -> Value {
    let endpoints: Vec<Value> =
        endpoints.iter().map(|(ip, node)| json!({"addresses": [ip], "nodeName": node})).collect();
    json!({
        "metadata": {"name": name, "namespace": "default",
                     "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"port": port, "protocol": protocol}],
        "endpoints": endpoints,
    })
}

pub fn tables(extra: Value, endpoints: &[(IpAddr, &str)]) -> Tables {
    let slices = [slice("web", 8080, "TCP", endpoints)];
    Tables::gather(&[service(extra)], &slices, "here")
}

pub fn ip(pod: &PodNetwork) -> IpAddr {
    pod.ip.expect("an address")
}

pub async fn pod(net: &Net, name: &str) -> (PodNetwork, Server) {
    let pod = net.create_pod(name, name, false).await.expect("a pod");
    let server = serve(&pod.namespaces, "0.0.0.0:8080", name);
    (pod, server)
}

pub fn here(pods: &[&PodNetwork]) -> Vec<(IpAddr, &'static str)> {
    pods.iter().map(|pod| (ip(pod), "here")).collect()
}
