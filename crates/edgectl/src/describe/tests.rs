//! Whole pages, as `kubectl describe` lays them out.

use super::*;
use serde_json::json;

fn now() -> Timestamp {
    "2024-01-02T00:10:00Z".parse().unwrap()
}

fn shown(subject: Subject) -> String {
    let text = page(&subject, now());
    // Trailing spaces are kubectl's own; they would only be lost in an editor here.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn an_ingress() {
    let service = |port: Object| json!({"service": {"name": "web", "port": port}});
    let object = json!({
        "kind": "Ingress", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "edged", "tls": [{"hosts": ["a.org"], "secretName": "cert"}],
                 "rules": [{"host": "a.org", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": service(json!({"number": 80}))},
                    {"path": "/x", "backend": service(json!({"name": "http"}))}]}}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}}
    });
    let page = shown(Subject { object, ..Subject::default() });
    let words: Vec<Vec<&str>> =
        page.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        "Address: 192.0.2.1,192.0.2.2",
        "Ingress Class: edged",
        "Default backend: <default>",
        "cert terminates a.org",
        "Host Path Backends",
        "/ web:80",
        "/x web:http",
    ] {
        assert!(words.contains(&line.split(' ').collect()), "{line:?} in\n{page}");
    }
}

#[test]
fn a_pod() {
    let object = json!({
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "tier": "f"},
                     "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                                          "name": "web", "uid": "u", "controller": true}]},
        "spec": {
            "nodeName": "board", "serviceAccountName": "default",
            "containers": [{
                "name": "c", "image": "web:1", "command": ["sh", "-c"],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/up", "port": 80, "scheme": "HTTP"}},
                "env": [{"name": "A", "value": "b"},
                        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/data", "readOnly": true}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute",
                             "tolerationSeconds": 300}]},
        "status": {
            "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.42.0.2",
            "podIPs": [{"ip": "10.42.0.2"}], "qosClass": "Burstable",
            "startTime": "2024-01-02T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "c", "ready": true, "restartCount": 1, "containerID": "edged://x",
                "imageID": "sha256:y", "state": {"running": {"startedAt": "2024-01-02T00:00:01Z"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 3,
                                             "startedAt": "2024-01-02T00:00:00Z",
                                             "finishedAt": "2024-01-02T00:00:01Z"}}}]},
    });
    let events = vec![
        json!({"type": "Normal", "reason": "Scheduled", "message": "assigned\n",
               "firstTimestamp": "2024-01-02T00:00:00Z", "lastTimestamp": "2024-01-02T00:00:00Z",
               "count": 1, "source": {"component": "scheduler"}}),
        json!({"type": "Warning", "reason": "BackOff", "message": "restarting",
               "firstTimestamp": "2024-01-02T00:01:00Z", "lastTimestamp": "2024-01-02T00:09:00Z",
               "count": 4, "source": {"component": "kubelet", "host": "board"}}),
    ];
    let wanted = include_str!("tests/pod.txt");
    assert_eq!(shown(Subject { object, events: Some(events), ..Subject::default() }), wanted);
}

#[test]
fn a_deployment() {
    let template = json!({"metadata": {"labels": {"app": "web"}},
                          "spec": {"containers": [{"name": "c", "image": "web:1"}]}});
    let object = json!({
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default",
                     "creationTimestamp": "2024-01-01T10:00:00Z",
                     "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
                 "strategy": {"type": "RollingUpdate",
                              "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}},
        "status": {"replicas": 4, "updatedReplicas": 2, "availableReplicas": 3,
                   "unavailableReplicas": 1,
                   "conditions": [{"type": "Available", "status": "True", "reason": "Minimum"}]},
    });
    let set = |name: &str, revision: &str, count: i64| {
        json!({"metadata": {"name": name,
                            "annotations": {"deployment.kubernetes.io/revision": revision}},
               "spec": {"replicas": count}, "status": {"replicas": count}})
    };
    let subject = Subject {
        object,
        events: Some(Vec::new()),
        replica_sets: vec![set("web-a", "1", 2), set("web-b", "2", 2)],
        ..Subject::default()
    };
    assert_eq!(shown(subject), include_str!("tests/deployment.txt"));
}

#[test]
fn a_service_with_its_endpoints() {
    let object = json!({
        "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"],
                 "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                 "selector": {"app": "web"}, "sessionAffinity": "None",
                 "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP",
                            "nodePort": 30080}]},
    });
    let endpoint = |n: u8| {
        json!({"addresses": [format!("10.42.0.{n}")],
                                  "conditions": {"ready": n != 9}})
    };
    let slices = vec![json!({"ports": [{"name": "", "port": 8080}],
                             "endpoints": [endpoint(2), endpoint(9), endpoint(3), endpoint(4),
                                           endpoint(5)]})];
    let subject = Subject { object, slices, events: Some(Vec::new()), ..Subject::default() };
    assert_eq!(shown(subject), include_str!("tests/service.txt"));
}

#[test]
fn data_is_shown_and_secrets_are_not() {
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"},
                     "data": {"k": "one\ntwo\tx"}});
    let text = shown(Subject { object: map, ..Subject::default() });
    assert!(text.contains("k:\n----\none\ntwo    x\n"), "{text}");
    let secret = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "d"},
                        "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
    let text = shown(Subject { object: secret, ..Subject::default() });
    assert!(text.contains("password:  7 bytes"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
}

#[test]
fn a_node_and_its_load() {
    let pod = json!({"metadata": {"name": "p", "namespace": "d",
                                  "creationTimestamp": "2024-01-02T00:09:00Z"},
                     "spec": {"containers": [{"resources": {
                         "requests": {"cpu": "500m", "memory": "256Mi"}}}]}});
    let object = json!({
        "kind": "Node",
        "metadata": {"name": "board", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]},
        "status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "2", "memory": "1Gi"},
                   "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                   "nodeInfo": {"architecture": "arm64"}},
    });
    let text = shown(Subject { object, pods: vec![pod], ..Subject::default() });
    for line in [
        "Roles:              control-plane",
        "Unschedulable:      false",
        "Taints:             <none>",
        "  InternalIP:  10.0.0.1",
        "Non-terminated Pods:          (1 in total)",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
    assert!(text.contains("500m (25%)"), "{text}");
    assert!(text.contains("256Mi (25%)"), "{text}");
}

#[test]
fn other_kinds_are_spelt_out() {
    let object = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
                        "metadata": {"name": "l", "namespace": "n", "managedFields": [1]},
                        "spec": {"holderIdentity": "board", "list": [{"a": 1}, "b"]}});
    let text = shown(Subject { object, ..Subject::default() });
    assert!(text.contains("API Version:  coordination.k8s.io/v1\n"), "{text}");
    assert!(
        text.contains("Spec:\n  Holder Identity:  board\n  List:\n    A:  1\n    b\n"),
        "{text}"
    );
    assert!(!text.contains("Managed"), "{text}");
}
