//! Defaults, compared with what a Kubernetes API server answers.

use super::*;
use crate::kinds;

#[test]
fn pods_get_what_kubernetes_gives_them() {
    let mut pod = json!({"spec": {
        "containers": [{"name": "a", "image": "nginx",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5}}],
        "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "x"}},
                    {"name": "h", "hostPath": {"path": "/"}}]}});
    kinds::POD.default(&mut pod);
    assert_eq!(
        pod,
        json!({"spec": {
            "containers": [{"name": "a", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"},
                              "requests": {"cpu": "500m", "memory": "1Gi"}},
                "env": [{"name": "IP", "valueFrom":
                         {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1,
                    "failureThreshold": 3},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "e", "emptyDir": {}},
                        {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
                        {"name": "h", "hostPath": {"path": "/", "type": ""}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30}})
    );
    let once = pod.clone();
    kinds::POD.default(&mut pod);
    assert_eq!(pod, once);
}

#[test]
fn deployments_get_a_strategy_and_limits() {
    let mut object = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "a", "image": "nginx:1", "resources": {"limits": {"cpu": "1"}}}]}}}});
    kinds::DEPLOYMENT.default(&mut object);
    let spec = &object["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate",
               "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(
        (&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]),
        (&json!(10), &json!(600))
    );
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}}));
    let mut recreate = json!({"spec": {"strategy": {"type": "Recreate"}, "replicas": 0}});
    kinds::DEPLOYMENT.default(&mut recreate);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn image_tags() {
    for (image, tag) in [
        ("nginx", Some("latest")),
        ("nginx:1.25", Some("1.25")),
        ("nginx:latest", Some("latest")),
        ("host:5000/nginx", Some("latest")),
        ("host:5000/a/nginx:2", Some("2")),
        ("nginx@sha256:00", None),
        ("nginx:1@sha256:00", Some("1")),
    ] {
        assert_eq!(image_tag(image), tag, "{image}");
    }
}

#[test]
fn services_by_type() {
    let mut service = json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}});
    kinds::SERVICE.default(&mut service);
    assert_eq!(
        service,
        json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None",
                        "internalTrafficPolicy": "Cluster",
                        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80},
                                  {"port": 81, "protocol": "TCP", "targetPort": "web"}]},
               "status": {"loadBalancer": {}}})
    );
    let mut service = json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}});
    kinds::SERVICE.default(&mut service);
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(
        service["spec"]["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
    let mut external = json!({"spec": {"type": "ExternalName"}});
    kinds::SERVICE.default(&mut external);
    assert_eq!(external["spec"].get("internalTrafficPolicy"), None);
}

#[test]
fn the_rest() {
    let mut secret = json!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}});
    kinds::SECRET.default(&mut secret);
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eQ==", "b": "eg=="}}));
    let mut namespace = json!({"metadata": {"name": "x"}});
    kinds::NAMESPACE.default(&mut namespace);
    assert_eq!(meta::label(&namespace, "kubernetes.io/metadata.name"), Some("x"));
    assert_eq!(namespace["status"]["phase"], "Active");
    let mut node = json!({"status": {"capacity": {"cpu": "4"}}});
    kinds::NODE.default(&mut node);
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "4"}));
    let mut slice = json!({"ports": [{"port": 80}]});
    kinds::ENDPOINT_SLICE.default(&mut slice);
    assert_eq!(
        slice,
        json!({"endpoints": [], "ports": [{"name": "", "port": 80, "protocol": "TCP"}]})
    );
}
