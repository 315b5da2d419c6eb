//! The ServiceAccount of a pod: its name, its pull secrets, and the volume with its token at the
//! place where client libraries look for it. As Kubernetes' admission plugin of that name does it.

use crate::api::{Api, Place};
use edge_api::kinds;
use edge_api::status::Status;
use edge_api::{Object, meta, names};
use edge_core::controllers::root_ca;
use serde_json::{Value, json};

/// Where client libraries look for the token, the authority and the namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How the volume's name begins.
const VOLUME: &str = "kube-api-access-";
/// Seconds for which the volume's token is asked. The odd number says that nobody chose it.
const SECONDS: i64 = 3607;

/// Gives a new pod its account, and what comes with it.
pub(super) fn complete(api: &Api, pod: &mut Object) -> Result<(), Status> {
    let namespace = meta::namespace(pod).to_owned();
    let given = |field: &str| pod["spec"][field].as_str().filter(|name| !name.is_empty());
    let name = given("serviceAccountName").or(given("serviceAccount")).unwrap_or("default");
    let name = name.to_owned();
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let account = match api.object(Place::new(kinds::SERVICE_ACCOUNT, &namespace, &name)) {
        Ok(account) => account,
        Err(status) if status.is_not_found() => {
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" \
                 not found"
            );
            let shown = match meta::name(pod) {
                "" => meta::generate_name(pod),
                name => name,
            };
            return Err(Status::forbidden(kinds::POD, shown, &why));
        }
        Err(status) => return Err(status),
    };
    if wants_token(pod, &account) {
        mount(pod, api.random());
    }
    let none = |value: &Value| value.as_array().is_none_or(|list| list.is_empty());
    if none(&pod["spec"]["imagePullSecrets"]) && !none(&account["imagePullSecrets"]) {
        pod["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    Ok(())
}

/// The pod's word counts, then the account's; by default a pod gets one.
fn wants_token(pod: &Object, account: &Object) -> bool {
    let said = pod["spec"]["automountServiceAccountToken"].as_bool();
    said.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true)
}

/// Mounts the volume in each container that has nothing at its place.
fn mount(pod: &mut Object, random: u64) {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut all_names = volumes.filter_map(|volume| volume["name"].as_str());
    let own = all_names.find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let there = own.is_some();
    let name = own.unwrap_or_else(|| names::generated(VOLUME, &names::suffix(random)));
    let mut needed = false;
    for field in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            if mounts.into_iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mount = json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH });
            push(container, "volumeMounts", mount);
            needed = true;
        }
    }
    if needed && !there {
        push(&mut pod["spec"], "volumes", volume(&name));
    }
}

fn push(object: &mut Value, field: &str, item: Value) {
    match object.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.push(item),
        None => object[field] = json!([item]),
    }
}

fn volume(name: &str) -> Value {
    let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
    let field = json!({ "apiVersion": "v1", "fieldPath": "metadata.namespace" });
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": SECONDS, "path": "token" } },
                { "configMap": { "name": root_ca::NAME, "items": items } },
                { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": field }] } },
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_without_its_own_gets_the_token() {
        let mut pod = json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [
                {"name": "a", "volumeMounts": [{"name": "x", "mountPath": "/x"}]},
                {"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]},
            ],
        }});
        mount(&mut pod, 7);
        let spec = &pod["spec"];
        let name = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(name.starts_with(VOLUME) && name.len() == VOLUME.len() + 5, "{name}");
        let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
        assert_eq!(spec["initContainers"][0]["volumeMounts"], json!([mount]));
        assert_eq!(spec["containers"][0]["volumeMounts"][1], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(spec["volumes"][0]["projected"]["defaultMode"], 420);
        assert_eq!(
            spec["volumes"][0]["projected"]["sources"][0],
            json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}})
        );
        let before = pod.clone();
        super::mount(&mut pod, 9);
        assert_eq!(pod, before, "once");
    }

    #[test]
    fn a_volume_that_is_there_is_used_and_none_is_added_in_vain() {
        let mut pod = json!({"spec": {"volumes": [{"name": "kube-api-access-own"}],
            "containers": [{"name": "a"}]}});
        mount(&mut pod, 7);
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-own");
        let own = json!([{"name": "x", "mountPath": MOUNT_PATH}]);
        let mut pod = json!({"spec": {"containers": [{"name": "a", "volumeMounts": own}]}});
        mount(&mut pod, 7);
        assert!(pod["spec"]["volumes"].is_null());
    }

    #[test]
    fn the_pods_word_counts_before_the_accounts() {
        let pod = |said: Value| json!({"spec": {"automountServiceAccountToken": said}});
        let account = |said: Value| json!({"automountServiceAccountToken": said});
        for (of_pod, of_account, wanted) in [
            (Value::Null, Value::Null, true),
            (Value::Null, json!(false), false),
            (json!(true), json!(false), true),
            (json!(false), json!(true), false),
        ] {
            assert_eq!(wants_token(&pod(of_pod), &account(of_account)), wanted);
        }
    }
}
