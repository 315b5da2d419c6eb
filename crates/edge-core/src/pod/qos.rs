//! The quality-of-service class that a pod's requests and limits amount to.

use edge_api::k8s::api::core::v1::{Container, PodSpec};
use edge_api::quantity::Quantity;

/// The resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

enum Side {
    Request,
    Limit,
}

/// One resource of one container in thousandths; zero is the same as none.
fn amount(container: &Container, side: &Side, resource: &str) -> Option<i64> {
    let resources = container.resources.as_ref()?;
    let map = match side {
        Side::Request => resources.requests.as_ref(),
        Side::Limit => resources.limits.as_ref(),
    };
    let quantity = Quantity::parse(&map?.get(resource)?.0).ok()?;
    Some(quantity.milli()).filter(|milli| *milli > 0)
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let init = spec.init_containers.iter().flatten();
    let mut guaranteed = true;
    let mut best_effort = true;
    for container in init.chain(&spec.containers) {
        for resource in COUNTED {
            let limit = amount(container, &Side::Limit, resource);
            let request = amount(container, &Side::Request, resource);
            best_effort &= limit.is_none() && request.is_none();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (best_effort, guaranteed) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(resources: serde_json::Value) -> &'static str {
        let spec = json!({ "containers": [{ "name": "a", "resources": resources }] });
        qos_class(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn classes() {
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({ "requests": { "cpu": "0" } })), "BestEffort");
        assert_eq!(class(json!({ "requests": { "cpu": "100m" } })), "Burstable");
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(class(json!({ "limits": both })), "Guaranteed");
        let same = json!({ "cpu": "1000m", "memory": "1024Mi" });
        assert_eq!(class(json!({ "limits": both, "requests": same })), "Guaranteed");
        assert_eq!(class(json!({ "limits": both, "requests": { "cpu": "500m" } })), "Burstable");
        assert_eq!(class(json!({ "limits": { "cpu": "1" } })), "Burstable");
    }
}
