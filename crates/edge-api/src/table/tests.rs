//! Rows as kubectl prints them.

use super::*;
use crate::kinds;

const NOW: &str = "2025-01-31T10:20:30Z";

fn now() -> Timestamp {
    time::parse_timestamp(NOW).expect("a time")
}

fn row(kind: &Kind, object: &Value) -> Vec<String> {
    let cells = kind.row(object, now());
    assert_eq!(cells.len(), kind.columns().len());
    for (cell, column) in cells.iter().zip(kind.columns()) {
        assert_eq!(cell.is_i64() || cell.is_u64(), column.ty == "integer", "{}", column.name);
    }
    cells.iter().map(|cell| cell.as_str().map_or(cell.to_string(), str::to_string)).collect()
}

#[test]
fn durations_read_as_kubectl_writes_them() {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    for (seconds, want) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (10 * MINUTE - 1, "9m59s"),
        (10 * MINUTE + 5, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR + 5 * MINUTE, "8h"),
        (48 * HOUR - 1, "47h"),
        (2 * DAY, "2d"),
        (5 * DAY + 3 * HOUR, "5d3h"),
        (8 * DAY + 3 * HOUR, "8d"),
        (2 * 365 * DAY - 1, "729d"),
        (2 * 365 * DAY + DAY, "2y1d"),
        (8 * 365 * DAY + DAY, "8y"),
    ] {
        assert_eq!(human_duration(seconds * 1000), want, "{seconds}");
    }
    assert_eq!(since(&Value::Null, now()), "<unknown>");
}

fn pod(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "web", "creationTimestamp": "2025-01-31T10:15:30Z"},
           "spec": spec, "status": status})
}

fn running(ready: bool) -> Value {
    json!({"name": "a", "ready": ready, "restartCount": 0,
           "state": {"running": {"startedAt": NOW}}})
}

fn ended(reason: &str, code: i64) -> Value {
    json!({"name": "a", "ready": false, "restartCount": 0,
           "state": {"terminated": {"reason": reason, "exitCode": code}}})
}

fn waiting(reason: &str) -> Value {
    json!({"name": "a", "ready": false, "restartCount": 3,
           "state": {"waiting": {"reason": reason}},
           "lastState": {"terminated": {"finishedAt": "2025-01-31T10:15:30Z"}}})
}

#[test]
fn pods_by_state() {
    for (phase, containers, want) in [
        ("Pending", vec![], "0/0 Pending 0"),
        ("Running", vec![running(true)], "1/1 Running 0"),
        ("Running", vec![running(true), running(false)], "1/2 Running 0"),
        ("Pending", vec![waiting("ContainerCreating")], "0/1 ContainerCreating 3 (5m ago)"),
        ("Running", vec![waiting("CrashLoopBackOff")], "0/1 CrashLoopBackOff 3 (5m ago)"),
        ("Succeeded", vec![ended("Completed", 0)], "0/1 Completed 0"),
        ("Failed", vec![ended("OOMKilled", 137)], "0/1 OOMKilled 0"),
        ("Failed", vec![ended("", 3)], "0/1 ExitCode:3 0"),
        ("Running", vec![ended("Completed", 0), running(true)], "1/2 NotReady 0"),
    ] {
        let spec = json!({"containers": containers});
        let pod = pod(spec, json!({"phase": phase, "containerStatuses": containers}));
        assert_eq!(row(kinds::POD, &pod)[1..4].join(" "), want);
    }
    let evicted = pod(json!({}), json!({"phase": "Failed", "reason": "Evicted"}));
    assert_eq!(pod_status(&evicted), "Evicted");
}

#[test]
fn pods_that_begin() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}],
                      "containers": [{"name": "a"}]});
    let state = |name: &str, state: Value| json!({"name": name, "state": state});
    let done = || state("i", json!({"terminated": {"exitCode": 0}}));
    for (init, want) in [
        (vec![state("i", json!({"running": {}}))], "Init:0/2"),
        (vec![done(), state("j", json!({"waiting": {"reason": "PodInitializing"}}))], "Init:1/2"),
        (
            vec![state("i", json!({"waiting": {"reason": "CrashLoopBackOff"}}))],
            "Init:CrashLoopBackOff",
        ),
        (vec![state("i", json!({"terminated": {"exitCode": 1, "reason": "Error"}}))], "Init:Error"),
        (vec![state("i", json!({"terminated": {"exitCode": 1}}))], "Init:ExitCode:1"),
    ] {
        let status = json!({"phase": "Pending", "initContainerStatuses": init});
        assert_eq!(pod_status(&pod(spec.clone(), status)), want);
    }
}

#[test]
fn pods_that_end_and_sidecars() {
    let mut going = pod(
        json!({"containers": [{"name": "a"}], "nodeName": "b1"}),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}],
                               "containerStatuses": [running(true)]}),
    );
    going["metadata"]["deletionTimestamp"] = json!(NOW);
    assert_eq!(
        row(kinds::POD, &going),
        ["web", "1/1", "Terminating", "0", "5m", "10.0.0.2", "b1", "<none>", "<none>"]
    );
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}],
                      "containers": [{"name": "a"}]});
    let sidecar = pod(
        spec,
        json!({"phase": "Running", "initContainerStatuses": [
        {"name": "s", "started": true, "ready": true, "restartCount": 1,
         "state": {"running": {}}}], "containerStatuses": [running(true)]}),
    );
    assert_eq!(row(kinds::POD, &sidecar)[1..4], ["2/2", "Running", "1"]);
}

#[test]
fn workloads_and_nodes() {
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [{"name": "a", "image": "x:1"},
                                             {"name": "b", "image": "y:2"}]}}});
    let metadata = json!({"name": "web", "creationTimestamp": NOW});
    let object = json!({"metadata": metadata, "spec": spec,
        "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3}});
    assert_eq!(
        row(kinds::DEPLOYMENT, &object),
        ["web", "2/3", "3", "0", "0s", "a,b", "x:1,y:2", "app=web"]
    );
    assert_eq!(
        row(kinds::REPLICA_SET, &object),
        ["web", "3", "3", "2", "0s", "a,b", "x:1,y:2", "app=web"]
    );
    let node = json!({"metadata": {"name": "b1", "creationTimestamp": NOW,
            "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
            "nodeInfo": {"kubeletVersion": "v1.33.0"}}});
    assert_eq!(
        row(kinds::NODE, &node),
        [
            "b1",
            "Ready,SchedulingDisabled",
            "control-plane",
            "0s",
            "v1.33.0",
            "10.1.1.1",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ]
    );
}

#[test]
fn ingresses_and_their_classes() {
    let ingress = |hosts: &[&str]| -> Value {
        let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
        json!({"metadata": {"name": "i", "creationTimestamp": NOW}, "spec": {"rules": rules}})
    };
    let mut full = ingress(&["a", "", "b", "c", "d"]);
    full["spec"]["ingressClassName"] = json!("edged");
    full["spec"]["tls"] = json!([{}]);
    full["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1"},
                                                         {"hostname": "x"}]}});
    let want = ["i", "edged", "a,b,c + 2 more...", "10.0.0.1,10.0.0.2,x", "80, 443", "0s"];
    assert_eq!(row(kinds::INGRESS, &full), want);
    assert_eq!(row(kinds::INGRESS, &ingress(&[])), ["i", "<none>", "*", "", "80", "0s"]);
    let three = row(kinds::INGRESS, &ingress(&["a", "b", "c"]));
    assert_eq!(three[2], "a,b,c");
    let mut class = json!({"metadata": {"name": "c", "creationTimestamp": NOW},
                           "spec": {"controller": "edged.io/ingress"}});
    assert_eq!(row(kinds::INGRESS_CLASS, &class), ["c", "edged.io/ingress", "<none>", "0s"]);
    class["spec"]["parameters"] = json!({"apiGroup": "g.io", "kind": "K", "name": "n"});
    assert_eq!(row(kinds::INGRESS_CLASS, &class)[2], "K.g.io/n");
}

#[test]
fn services_and_endpoints() {
    let service = |spec: Value| {
        json!({"metadata": {"name": "s", "creationTimestamp": NOW},
                                       "spec": spec})
    };
    for (spec, want) in [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "selector": {"app": "web"},
                   "ports": [{"port": 80, "protocol": "TCP"}]}),
            ["s", "ClusterIP", "10.0.0.1", "<none>", "80/TCP", "0s", "app=web"],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "10.0.0.1",
                   "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"},
                             {"port": 53, "protocol": "UDP"}]}),
            ["s", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "0s", "<none>"],
        ),
        (
            json!({"type": "LoadBalancer", "clusterIP": "None"}),
            ["s", "LoadBalancer", "None", "<pending>", "<none>", "0s", "<none>"],
        ),
        (
            json!({"type": "ExternalName", "externalName": "x.org"}),
            ["s", "ExternalName", "<none>", "x.org", "<none>", "0s", "<none>"],
        ),
    ] {
        assert_eq!(row(kinds::SERVICE, &service(spec)), want);
    }
    let address = |n: u8| json!({"ip": format!("10.0.0.{n}")});
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [
        {"addresses": [address(1), address(2), address(3), address(4)], "ports": [{"port": 80}]}]});
    assert_eq!(
        row(kinds::ENDPOINTS, &endpoints)[1],
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."
    );
    assert_eq!(row(kinds::ENDPOINTS, &json!({}))[1], "<none>");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}],
                       "endpoints": [{"addresses": ["10.0.0.1"]}]});
    assert_eq!(row(kinds::ENDPOINT_SLICE, &slice)[1..4], ["IPv4", "80", "10.0.0.1"]);
    assert_eq!(row(kinds::ENDPOINT_SLICE, &json!({}))[2..4], ["<unset>", "<unset>"]);
}

#[test]
fn events_and_data() {
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started",
        "message": "Started container a\n", "count": 2,
        "firstTimestamp": "2025-01-31T10:15:30Z", "lastTimestamp": NOW,
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
        "source": {"component": "edged", "host": "b1"}});
    assert_eq!(
        row(kinds::EVENT, &event),
        [
            "0s",
            "Normal",
            "Started",
            "pod/web",
            "spec.containers{a}",
            "edged, b1",
            "Started container a",
            "5m",
            "2",
            "e"
        ]
    );
    let map = json!({"metadata": {"name": "m", "creationTimestamp": NOW}, "type": "Opaque",
                     "data": {"a": "", "b": ""}, "binaryData": {"c": ""}});
    assert_eq!(row(kinds::CONFIG_MAP, &map), ["m", "3", "0s"]);
    assert_eq!(row(kinds::SECRET, &map), ["m", "Opaque", "2", "0s"]);
    assert_eq!(row(kinds::SERVICE_ACCOUNT, &map), ["m", "0", "0s"]);
}

#[test]
fn columns_are_as_many_as_cells() {
    for kind in kinds::all() {
        assert_eq!(kind.row(&json!({}), now()).len(), kind.columns().len(), "{}", kind.kind);
        let columns = kind.column_definitions();
        assert_eq!(columns.as_array().map(Vec::len), Some(kind.columns().len()));
    }
}
