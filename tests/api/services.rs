//! Addresses and ports of Services: unique, in range, kept, and free again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Lab;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, extra: &Value) -> Value {
    let mut spec = json!({"selector": {"app": name}, "ports": [{"port": 80}]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn the_kubernetes_service_is_kept() {
    let lab = Lab::start().await;
    let made = lab.get(&format!("{SERVICES}/kubernetes")).await.json();
    assert_eq!(made["spec"]["clusterIP"], "10.43.0.1");
    assert_eq!(made["spec"]["ports"][0]["targetPort"], lab.server.address().port());
    lab.end().await;
}

#[tokio::test]
async fn addresses_are_unique_and_in_range() {
    let lab = Lab::start().await;
    let mut seen = BTreeSet::from(["10.43.0.1".to_owned()]);
    for i in 0..20 {
        let made = lab.create(SERVICES, &service(&format!("s{i}"), &json!({}))).await;
        let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(ip.starts_with("10.43."), "{ip}");
        assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
        assert!(seen.insert(ip), "given twice");
    }
    let taken = seen.iter().next_back().unwrap().clone();
    for (ip, words) in [
        (taken.as_str(), "provided IP is already allocated"),
        ("10.44.0.1", "is not in the valid range. The range of valid IPs is 10.43.0.0/16"),
        ("10.43.0.1", "provided IP is already allocated"),
    ] {
        let body = service("asks", &json!({"clusterIP": ip}));
        let answer = lab.send("POST", SERVICES, &body).await;
        assert_eq!(answer.code, 422, "{}", answer.text);
        assert!(answer.message().contains(words), "{}", answer.text);
        assert!(answer.message().contains("spec.clusterIPs: Invalid value"), "{}", answer.text);
    }
    let made = lab.create(SERVICES, &service("own", &json!({"clusterIP": "10.43.0.12"}))).await;
    assert_eq!(made["spec"]["clusterIP"], "10.43.0.12");
    lab.ask("DELETE", &format!("{SERVICES}/own"), &[], "").await;
    lab.create(SERVICES, &service("next", &json!({"clusterIP": "10.43.0.12"}))).await;
    let headless = lab.create(SERVICES, &service("no-ip", &json!({"clusterIP": "None"}))).await;
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let external = lab.create(SERVICES, &service("far", &external)).await;
    assert_eq!(external["spec"].get("clusterIP"), None);
    lab.end().await;
}

#[tokio::test]
async fn node_ports_come_with_the_type() {
    let lab = Lab::start().await;
    let made = lab.create(SERVICES, &service("a", &json!({"type": "NodePort"}))).await;
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port), "{port}");
    for (asked, words) in [
        (port, "provided port is already allocated"),
        (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ] {
        let ports = json!([{"port": 80, "nodePort": asked}]);
        let body = service("b", &json!({"type": "NodePort", "ports": ports}));
        let answer = lab.send("POST", SERVICES, &body).await;
        assert_eq!(answer.code, 422, "{}", answer.text);
        let want = format!("spec.ports[0].nodePort: Invalid value: {asked}: {words}");
        assert!(answer.message().contains(&want), "{}", answer.text);
    }
    // An update that leaves addresses and ports out keeps them.
    let path = format!("{SERVICES}/a");
    let body = service("a", &json!({"type": "NodePort", "sessionAffinity": "ClientIP"}));
    let answer = lab.send("PUT", &path, &body).await.json();
    assert_eq!(answer["spec"]["clusterIP"], made["spec"]["clusterIP"], "{answer}");
    assert_eq!(answer["spec"]["ports"][0]["nodePort"], port);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"spec": {"type": "ClusterIP"}}).to_string();
    let answer = lab.ask("PATCH", &path, &merge, &patch).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(answer["spec"]["ports"][0].get("nodePort"), None, "{answer}");
    lab.create(
        SERVICES,
        &service("c", &json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]})),
    )
    .await;
    lab.end().await;
}

#[tokio::test]
async fn a_balanced_service_with_a_local_policy_has_a_port_for_health_checks() {
    let lab = Lab::start().await;
    let local = |extra: Value| {
        let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    let made = lab.create(SERVICES, &service("a", &local(json!({})))).await;
    let port = made["spec"]["healthCheckNodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port), "{port}");
    assert_ne!(made["spec"]["ports"][0]["nodePort"], port);
    // Nobody else gets it, neither for this nor as a node port.
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    for (body, field) in [
        (local(json!({"healthCheckNodePort": port})), "spec.healthCheckNodePort"),
        (node_port, "spec.ports[0].nodePort"),
    ] {
        let answer = lab.send("POST", SERVICES, &service("b", &body)).await;
        assert_eq!(answer.code, 422, "{}", answer.text);
        let want = format!("{field}: Invalid value: {port}: provided port is already allocated");
        assert!(answer.message().contains(&want), "{}", answer.text);
    }
    let path = format!("{SERVICES}/a");
    let kept = lab.send("PUT", &path, &service("a", &local(json!({})))).await.json();
    assert_eq!(kept["spec"]["healthCheckNodePort"], port, "{kept}");
    let other = service("a", &local(json!({"healthCheckNodePort": 32000})));
    let answer = lab.send("PUT", &path, &other).await;
    assert!(answer.message().contains("field is immutable"), "{}", answer.text);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"spec": {"externalTrafficPolicy": "Cluster"}}).to_string();
    let freed = lab.ask("PATCH", &path, &merge, &patch).await.json();
    assert!(freed["spec"]["healthCheckNodePort"].is_null(), "{freed}");
    lab.create(SERVICES, &service("b", &local(json!({"healthCheckNodePort": port})))).await;
    lab.end().await;
}
