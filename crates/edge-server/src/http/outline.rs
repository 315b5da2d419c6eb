//! What a board is shown of objects that are no business of its own: what a NetworkPolicy goes by,
//! and nothing that a pod is given to keep (its variables, commands, volumes, annotations).

use edge_api::Object;
use serde_json::{Map, Value, json};

/// These fields of an object, as far as it has them.
fn pick(object: &Value, fields: &[&str]) -> Value {
    let have =
        fields.iter().filter_map(|field| Some(((*field).to_owned(), object.get(field)?.clone())));
    Value::Object(have.collect::<Map<String, Value>>())
}

fn containers(spec: &Value, field: &str) -> Value {
    let list = spec[field].as_array().into_iter().flatten();
    list.map(|container| pick(container, &["name", "ports", "restartPolicy"])).collect()
}

/// The outline of a pod or a namespace.
pub(super) fn of(object: &Object) -> Object {
    let metadata = [
        "name",
        "namespace",
        "uid",
        "labels",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ];
    let mut out = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": pick(&object["metadata"], &metadata),
    });
    if object["kind"] == "Pod" {
        let spec = &object["spec"];
        out["spec"] = pick(spec, &["nodeName", "hostNetwork"]);
        for field in ["containers", "initContainers"].into_iter().filter(|f| spec[*f].is_array()) {
            out["spec"][field] = containers(spec, field);
        }
        out["status"] = pick(&object["status"], &["phase", "podIP", "podIPs"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_pod_is_shown_but_what_selectors_and_ports_go_by() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"app": "x"}, "annotations": {"secret": "s"}},
            "spec": {"nodeName": "n", "volumes": [{"secret": {"secretName": "s"}}], "containers": [
                {"name": "c", "image": "secret", "env": [{"name": "A", "value": "secret"}],
                 "command": ["secret"], "ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": "10.42.0.9", "message": "secret"},
        });
        let seen = of(&pod);
        assert!(!seen.to_string().contains("secret"), "{seen}");
        assert_eq!(seen["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
        assert_eq!(
            (&seen["status"]["podIP"], &seen["spec"]["nodeName"]),
            (&json!("10.42.0.9"), &json!("n"))
        );
        assert!(seen["spec"].get("initContainers").is_none());
    }
}
