//! Services and endpoints as the board remembers them after a boot with no server in reach: what of
//! the objects is worth a line on the disk, and what the board knows better about its own pods.

use std::net::Ipv4Addr;

use edge_api::{Object, meta};
use edge_core::proxy::ANNOUNCED_BY;
use serde_json::{Map, Value, json};

use super::board::PodView;

/// The labels that say whose a slice is, and that others serve a Service.
const LABELS: [&str; 2] =
    ["kubernetes.io/service-name", "service.kubernetes.io/service-proxy-name"];
/// What tables and names are made of.
const METADATA: [&str; 3] = ["namespace", "name", "creationTimestamp"];
const SLICE: [&str; 3] = ["addressType", "ports", "endpoints"];
const ENDPOINT: [&str; 5] = ["addresses", "conditions", "hostname", "nodeName", "targetRef"];

fn pick(object: &Value, fields: &[&str]) -> Value {
    let found = fields.iter().filter_map(|field| {
        let value = object.get(*field).filter(|value| !value.is_null())?;
        Some(((*field).to_owned(), value.clone()))
    });
    Value::Object(found.collect::<Map<_, _>>())
}

fn head(object: &Object) -> Value {
    let mut metadata = pick(&object["metadata"], &METADATA);
    let labels = pick(&object["metadata"]["labels"], &LABELS);
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata["labels"] = labels;
    }
    metadata
}

/// A Service, as far as it says where traffic goes and what it is called.
pub(crate) fn service(object: &Object) -> Object {
    let mut out = json!({"metadata": head(object), "spec": object["spec"]});
    if let Some(spec) = out["spec"].as_object_mut() {
        spec.remove("selector");
    }
    if let Some(board) = meta::annotation(object, ANNOUNCED_BY) {
        out["metadata"]["annotations"] = json!({ANNOUNCED_BY: board});
    }
    if let Some(given) = object["status"].get("loadBalancer").filter(|v| v["ingress"].is_array()) {
        out["status"] = json!({"loadBalancer": given});
    }
    out
}

/// An EndpointSlice, likewise.
pub(crate) fn slice(object: &Object) -> Object {
    let mut out = pick(object, &SLICE);
    out["metadata"] = head(object);
    for endpoint in out["endpoints"].as_array_mut().into_iter().flatten() {
        *endpoint = pick(endpoint, &ENDPOINT);
        if let Some(target) = endpoint.get_mut("targetRef") {
            *target = pick(target, &["uid"]);
        }
    }
    out
}

/// True for a line that is a slice.
pub(crate) fn is_slice(object: &Object) -> bool {
    object.get("addressType").is_some()
}

fn on<'a>(slice: &'a Object, node: &str) -> impl Iterator<Item = &'a Value> {
    let all = slice["endpoints"].as_array().into_iter().flatten();
    all.filter(move |endpoint| endpoint["nodeName"] == node)
}

/// Which address each of the board's own pods had, by uid.
pub(crate) fn addresses(slices: &[Object], node: &str) -> Vec<(String, Ipv4Addr)> {
    let own = slices.iter().flat_map(|slice| on(slice, node));
    let had = own.filter_map(|endpoint| {
        let uid = endpoint["targetRef"]["uid"].as_str()?;
        Some((uid.to_owned(), endpoint["addresses"][0].as_str()?.parse().ok()?))
    });
    had.collect()
}

/// A remembered slice with the board's own pods as they are now. Those that it does not run are
/// gone; whoever made endpoints by hand is believed.
pub(crate) fn refreshed(slice: &Object, node: &str, pods: &[PodView]) -> Object {
    let mut out = slice.clone();
    let Some(endpoints) = out["endpoints"].as_array_mut() else { return out };
    endpoints.retain_mut(|endpoint| {
        let uid = endpoint["targetRef"]["uid"].as_str();
        let Some(uid) = uid.filter(|_| endpoint["nodeName"] == node) else { return true };
        let Some(pod) = pods.iter().find(|pod| pod.uid() == uid) else { return false };
        let Some(ip) = pod.status["podIP"].as_str() else { return false };
        let going = meta::is_deleting(&pod.object);
        let serving = edge_core::workload::is_ready(&json!({"status": *pod.status}));
        endpoint["addresses"] = json!([ip]);
        endpoint["conditions"] =
            json!({"ready": serving && !going, "serving": serving, "terminating": going});
        true
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn a_slice() -> Object {
        let endpoint = |uid: &str, node: &str, ip: &str| {
            json!({"addresses": [ip], "conditions": {"ready": true, "serving": true},
                   "nodeName": node, "hostname": null, "zone": "x",
                   "targetRef": {"kind": "Pod", "name": "p", "uid": uid}})
        };
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "ns", "name": "web-1", "resourceVersion": "7", "labels":
                {"kubernetes.io/service-name": "web", "app": "web"}},
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [endpoint("u1", "here", "10.42.0.5"), endpoint("u2", "here", "10.42.0.6"),
                endpoint("u3", "there", "10.42.1.5"), endpoint("u4", "here", "10.42.0.7")]})
    }

    fn view(uid: &str, ip: &str, ready: &str) -> PodView {
        let status = json!({"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]});
        let object = Arc::new(json!({"metadata": {"uid": uid}}));
        PodView { object, status: Arc::new(status) }
    }

    #[test]
    fn a_line_has_what_traffic_needs_and_no_more() {
        let service = super::service(&json!({"kind": "Service",
            "metadata": {"namespace": "ns", "name": "web", "uid": "x",
                "annotations": {"a": "b", ANNOUNCED_BY: "b1"},
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.9", "selector": {"app": "web"},
                "ports": [{"port": 80}]},
            "status": {"conditions": [], "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
        let want = json!({"metadata": {"namespace": "ns", "name": "web",
                "annotations": {ANNOUNCED_BY: "b1"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.9", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        assert_eq!(service, want);
        let slice = slice(&a_slice());
        assert!(is_slice(&slice) && !is_slice(&service));
        let first = json!({"addresses": ["10.42.0.5"], "nodeName": "here",
            "conditions": {"ready": true, "serving": true}, "targetRef": {"uid": "u1"}});
        assert_eq!(slice["endpoints"][0], first);
        assert_eq!(slice["metadata"]["labels"], json!({"kubernetes.io/service-name": "web"}));
    }

    #[test]
    fn a_board_knows_its_own_pods_better() {
        let slice = slice(&a_slice());
        let had = addresses(std::slice::from_ref(&slice), "here");
        let ips: Vec<Ipv4Addr> = had.iter().map(|(_, ip)| *ip).collect();
        assert_eq!(ips, [5, 6, 7].map(|n| Ipv4Addr::new(10, 42, 0, n)));
        let pods = [view("u1", "10.42.0.9", "True"), view("u2", "10.42.0.6", "False")];
        let now = refreshed(&slice, "here", &pods);
        let seen: Vec<_> = now["endpoints"].as_array().unwrap().iter().collect();
        assert_eq!(seen.len(), 3, "u4 does not run: {now}");
        assert_eq!(seen[0]["addresses"], json!(["10.42.0.9"]));
        assert_eq!(seen[0]["conditions"]["ready"], true);
        assert_eq!(seen[1]["conditions"]["ready"], false);
        assert_eq!(seen[2]["addresses"], json!(["10.42.1.5"]));
    }
}
