//! Small readings of a pod that several parts need: its containers, its quality of service, what it
//! asks for, whether it is ready.

use serde_json::Value;

use crate::Object;
use crate::quantity::Quantity;

/// The containers of a list of the spec: `containers`, `initContainers`.
pub fn containers<'a>(pod: &'a Object, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map_or(&[], Vec::as_slice)
}

/// Whether an init container stays up beside the main ones (a sidecar).
pub fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// A condition of the status by type.
pub fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of the status is `True`.
pub fn has_condition(object: &Object, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Whether the pod takes traffic.
pub fn is_ready(pod: &Object) -> bool {
    has_condition(pod, "Ready")
}

/// Whether all of the pod's containers are done for good.
pub fn is_finished(pod: &Object) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// `Guaranteed`, `Burstable` or `BestEffort`: who is killed last when memory runs out.
pub fn qos_class(pod: &Object) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let lists = ["containers", "initContainers"];
    for container in lists.into_iter().flat_map(|list| containers(pod, list)) {
        let amount = |part: &str, name: &str| {
            let value = &container["resources"][part][name];
            Quantity::read(value).ok().filter(|quantity| !quantity.is_zero())
        };
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount("requests", name), amount("limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// How much of a resource the pod asks for, in thousandths: all containers and sidecars at once,
/// or the largest step of its start, whichever is more; and its overhead.
pub fn requested_milli(pod: &Object, resource: &str) -> i64 {
    let amount =
        |container: &Value| Quantity::milli_of(&container["resources"]["requests"][resource]);
    let (mut sidecars, mut start) = (0i64, 0i64);
    for container in containers(pod, "initContainers") {
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(amount(container));
            start = start.max(sidecars);
        } else {
            start = start.max(sidecars.saturating_add(amount(container)));
        }
    }
    let sum = |total: i64, container| total.saturating_add(amount(container));
    let running = containers(pod, "containers").iter().fold(sidecars, sum);
    let overhead = Quantity::milli_of(&pod["spec"]["overhead"][resource]);
    running.max(start).saturating_add(overhead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: Value) -> Object {
        json!({"spec": {"containers": [{"name": "a", "resources": resources}]}})
    }

    #[test]
    fn quality_of_service() {
        for (resources, want) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"},
                       "requests": {"cpu": "1000m", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                "Burstable",
            ),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
        ] {
            assert_eq!(qos_class(&pod(resources.clone())), want, "{resources}");
        }
    }

    #[test]
    fn requests_add_up() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let mut pod = json!({"spec": {
            "containers": [{"resources": cpu("100m")}, {"resources": cpu("200m")}]}});
        assert_eq!(requested_milli(&pod, "cpu"), 300);
        pod["spec"]["initContainers"] = json!([{"resources": cpu("1")}]);
        assert_eq!(requested_milli(&pod, "cpu"), 1000);
        pod["spec"]["initContainers"] = json!([
            {"resources": cpu("900m"), "restartPolicy": "Always"}, {"resources": cpu("200m")}]);
        assert_eq!(requested_milli(&pod, "cpu"), 1200);
        pod["spec"]["overhead"] = json!({"cpu": "50m"});
        assert_eq!(requested_milli(&pod, "cpu"), 1250);
    }
}
