//! `kube-root-ca.crt`: every namespace has a ConfigMap with the cluster's authority, so that pods
//! know whom they talk to.

use edge_api::{Object, kinds, meta};
use serde_json::json;

use crate::plan::{Action, Plan};
use crate::view::{Round, View};

/// The ConfigMap's name.
pub const NAME: &str = "kube-root-ca.crt";

const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when \
                           using internal endpoints such as the internal service IP or \
                           kubernetes.default.svc. No other usage is guaranteed across \
                           distributions of Kubernetes clusters.";

/// The ConfigMap as it should be.
pub fn object(namespace: &str, ca_pem: &str) -> Object {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "annotations": { "kubernetes.io/description": DESCRIPTION },
        },
        "data": { "ca.crt": ca_pem },
    })
}

/// Makes it where it is missing, and mends it where it says something else.
pub fn plan(view: &View, _round: &Round) -> Plan {
    let mut plan = Plan::default();
    if view.root_ca.is_empty() {
        return plan;
    }
    for namespace in view.list(kinds::NAMESPACE).filter(|namespace| !meta::is_deleting(namespace)) {
        let name = meta::name(namespace);
        let want = object(name, &view.root_ca);
        match view.get(kinds::CONFIG_MAP, name, NAME) {
            None => plan.push(Action::Create { kind: kinds::CONFIG_MAP, object: want }),
            // One that is immutable can't be mended, and is what it was when that was set.
            Some(have) if have["data"] == want["data"] || have["immutable"] == true => {}
            Some(have) => {
                let mut mended = Object::clone(have);
                mended["data"] = want["data"].clone();
                plan.push(Action::update(kinds::CONFIG_MAP, mended));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn made_once_and_mended() {
        let mut view = View::default();
        let round = Round { now_ms: 0, seed: 0 };
        view.put(kinds::NAMESPACE, Arc::new(json!({"metadata": {"name": "a"}})));
        let going = json!({"metadata": {"name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        view.put(kinds::NAMESPACE, Arc::new(going));
        assert!(plan(&view, &round).is_empty(), "nobody has said what the authority is");
        view.root_ca = "PEM".into();
        let first = plan(&view, &round);
        let [Action::Create { object, .. }] = &first.actions[..] else { panic!("{first:?}") };
        assert_eq!(object["data"]["ca.crt"], "PEM");
        view.put(kinds::CONFIG_MAP, Arc::new(object.clone()));
        assert!(plan(&view, &round).is_empty());
        let mut other = object.clone();
        other["data"] = json!({"ca.crt": "another's"});
        other["metadata"]["labels"] = json!({"kept": "yes"});
        view.put(kinds::CONFIG_MAP, Arc::new(other));
        let again = plan(&view, &round);
        let [Action::Update { object, .. }] = &again.actions[..] else { panic!("{again:?}") };
        assert_eq!(
            (&object["data"]["ca.crt"], &object["metadata"]["labels"]["kept"]),
            (&json!("PEM"), &json!("yes"))
        );
    }
}
