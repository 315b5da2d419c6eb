//! What a client may send, what is stored of it, and what it is told otherwise.

use super::*;
use serde_json::json;

#[test]
fn unknown_fields_are_named_and_dropped() {
    let mut pod = json!({"spec": {"containers": [{"name": "a", "imagePull": "x"}], "foo": 1},
                         "metadata": {"labels": {"any": "thing"}}});
    let findings = object("core.v1.Pod", &mut pod).expect("types are right");
    assert_eq!(findings.unknown, ["spec.containers[0].imagePull", "spec.foo"]);
    assert_eq!(
        pod,
        json!({"spec": {"containers": [{"name": "a"}]}, "metadata": {"labels": {"any": "thing"}}})
    );
}

#[test]
fn objects_are_stored_in_one_form() {
    let mut pod = json!({
        "metadata": {"creationTimestamp": null, "labels": {}, "annotations": {"a": ""},
                     "deletionTimestamp": "2025-01-31T12:20:30.5+02:00"},
        "spec": {"containers": [{"command": [], "resources": {"limits": {"cpu": 0.5,
                 "memory": "1024Mi"}, "requests": {}}}], "nodeName": "",
                 "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": null}]}});
    object("core.v1.Pod", &mut pod).expect("types are right");
    assert_eq!(
        pod,
        json!({
            "metadata": {"annotations": {"a": ""}, "deletionTimestamp": "2025-01-31T10:20:30Z"},
            "spec": {"containers": [{"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
                     "nodeName": "",
                     "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b"}]}})
    );
    let mut lease = json!({"spec": {"renewTime": "2025-01-31T10:20:30Z"}});
    object("coordination.v1.Lease", &mut lease).expect("types are right");
    assert_eq!(lease["spec"]["renewTime"], "2025-01-31T10:20:30.000000Z");
    let mut slice = json!({"endpoints": [], "ports": []});
    object("discovery.v1.EndpointSlice", &mut slice).expect("types are right");
    assert_eq!(slice, json!({"endpoints": []}));
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    for (name, value, want) in [
        (
            "apps.v1.Deployment",
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of \
             type int32",
        ),
        (
            "apps.v1.Deployment",
            json!({"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}}),
            "json: cannot unmarshal number into Go struct field \
             Container.spec.template.spec.containers.name of type string",
        ),
        (
            "core.v1.Pod",
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of \
             type string",
        ),
        (
            "core.v1.Pod",
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "core.v1.Pod",
            json!({"spec": {"containers": {}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type \
             []v1.Container",
        ),
        (
            "core.v1.Pod",
            json!({"spec": {"priority": 3_000_000_000u64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority \
             of type int32",
        ),
        ("core.v1.Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
        ("core.v1.Secret", json!({"data": {"a": "%%"}}), "illegal base64 data at input byte 0"),
        (
            "core.v1.Pod",
            json!({"spec": {"overhead": {"cpu": "lots"}}}),
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        let mut value = value;
        let error = object(name, &mut value).expect_err(want);
        assert_eq!(error.0, want);
    }
}
