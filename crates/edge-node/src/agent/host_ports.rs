//! `hostPort`: a port of the board that leads to a container, as one more route beside those of
//! Services.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use edge_core::pod::Desired;
use edge_core::proxy::{Choice, Front, Protocol, Route, Target};

use super::board::PodView;

/// True for a pod that wants ports of the board.
pub(crate) fn wants(pod: &Desired) -> bool {
    let ports = pod.all().flat_map(|c| c.ports.iter().flatten());
    !pod.host_network() && ports.into_iter().any(|port| port.host_port.is_some_and(|p| p > 0))
}

/// The ports of these pods; of two that want the same, the first has it.
pub(crate) fn routes<'a>(pods: impl IntoIterator<Item = &'a PodView>) -> BTreeMap<Front, Route> {
    let mut routes = BTreeMap::new();
    for pod in pods {
        let spec = &pod.object["spec"];
        let ended = matches!(pod.status["phase"].as_str(), Some("Succeeded" | "Failed"));
        let ip = pod.status["podIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        let Some(address) = ip.filter(|_| !ended && spec["hostNetwork"] != true) else { continue };
        let lists = ["initContainers", "containers"];
        let containers = lists.iter().filter_map(|key| spec[*key].as_array()).flatten();
        for port in containers.filter_map(|c| c["ports"].as_array()).flatten() {
            let number = |key: &str| port[key].as_u64().and_then(|n| u16::try_from(n).ok());
            let (Some(from), Some(to)) = (number("hostPort"), number("containerPort")) else {
                continue;
            };
            let protocol = Protocol::parse(port["protocol"].as_str().unwrap_or_default());
            let Some(protocol) = protocol.filter(|_| from > 0) else { continue };
            let host = port["hostIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
            let host = host.filter(|ip| !ip.is_unspecified());
            let choice = Choice::Spread(vec![Target { address, port: to }]);
            let route = Route {
                name: format!("{}/{}:hostPort {from}", pod.namespace(), pod.name()),
                inside: choice.clone(),
                outside: choice,
                affinity_seconds: None,
            };
            routes.entry(Front { address: host, protocol, port: from }).or_insert(route);
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn ports_of_running_pods_lead_to_them() {
        let pod = |phase: &str, port: u16| PodView {
            object: Arc::new(json!({ "metadata": { "namespace": "n", "name": "p" }, "spec": {
                "containers": [{ "ports": [
                    { "containerPort": 80, "hostPort": port }, { "containerPort": 81 }] }] } })),
            status: Arc::new(json!({ "phase": phase, "podIP": "10.42.0.9" })),
        };
        let routes = routes(&[pod("Running", 8080), pod("Failed", 8081)]);
        assert_eq!(routes.len(), 1);
        let (front, route) = routes.iter().next().unwrap();
        assert_eq!((front.address, front.port), (None, 8080));
        let target = Target { address: "10.42.0.9".parse().unwrap(), port: 80 };
        assert_eq!(route.inside, Choice::Spread(vec![target]));
    }
}
