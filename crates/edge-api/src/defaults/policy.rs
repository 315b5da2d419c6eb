//! Defaults of NetworkPolicies: which directions a policy is about, and TCP.

use serde_json::json;

use super::{fill, items, object};
use crate::Object;

/// `NetworkPolicy`
pub(crate) fn network_policy(policy: &mut Object) {
    object(policy, "spec");
    let spec = &mut policy["spec"];
    object(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in items(spec, direction) {
            items(rule, "ports").for_each(|port| fill(port, "protocol", "TCP"));
        }
    }
    let said = |field: &str| spec[field].as_array().is_some_and(|list| !list.is_empty());
    if !said("policyTypes") {
        let both = said("egress");
        let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec["policyTypes"] = types;
    }
}
