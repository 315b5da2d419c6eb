//! What a pod's and a container's `securityContext` and `resources` come to for the runtime.

use edge_api::k8s::api::core::v1::{Container, PodSecurityContext, SecurityContext};
use edge_api::quantity::Quantity;
use edge_core::pod::{Desired, qos_class};

use crate::seams::{Limits, Security};

/// Oom scores as Kubernetes gives them: the guaranteed die last, those without requests first.
const OOM_GUARANTEED: i32 = -997;
const OOM_BEST_EFFORT: i32 = 1000;

fn number(value: Option<i64>) -> Option<u32> {
    value.and_then(|n| u32::try_from(n).ok())
}

/// The security settings of one container. What this board can't honour is refused by name.
pub(crate) fn security(pod: &Desired, container: &Container) -> Result<Security, String> {
    let none = (PodSecurityContext::default(), SecurityContext::default());
    let of_pod = pod.spec().security_context.as_ref().unwrap_or(&none.0);
    let own = container.security_context.as_ref().unwrap_or(&none.1);
    let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let seccomp_unconfined = match seccomp.map(|profile| profile.type_.as_str()) {
        None | Some("RuntimeDefault") => false,
        Some("Unconfined") => true,
        Some(other) => {
            return Err(format!(
                "seccompProfile type {other} is not supported; use RuntimeDefault or Unconfined"
            ));
        }
    };
    let names = |list: Option<&Vec<String>>| -> Vec<String> {
        let names = list.into_iter().flatten();
        names.map(|name| name.trim_start_matches("CAP_").to_ascii_uppercase()).collect()
    };
    let capabilities = own.capabilities.as_ref();
    let mut groups: Vec<u32> = of_pod
        .supplemental_groups
        .iter()
        .flatten()
        .filter_map(|group| u32::try_from(*group).ok())
        .collect();
    groups.extend(number(of_pod.fs_group));
    let sysctls = of_pod.sysctls.iter().flatten();
    Ok(Security {
        privileged: own.privileged.unwrap_or(false),
        add_capabilities: names(capabilities.and_then(|c| c.add.as_ref())),
        drop_capabilities: names(capabilities.and_then(|c| c.drop.as_ref())),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        allow_privilege_escalation: own.allow_privilege_escalation.unwrap_or(true),
        run_as_user: number(own.run_as_user.or(of_pod.run_as_user)),
        run_as_group: number(own.run_as_group.or(of_pod.run_as_group)),
        run_as_non_root: own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false),
        supplemental_groups: groups,
        seccomp_unconfined,
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
    })
}

fn amount(container: &Container, limit: bool, name: &str) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    let map = if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
    let quantity = Quantity::parse(&map?.get(name)?.0).ok()?;
    (!quantity.is_zero()).then_some(quantity)
}

/// The limits of one container.
pub(crate) fn limits(container: &Container) -> Limits {
    let unsigned = |n: i64| u64::try_from(n).ok();
    let request = amount(container, false, "cpu").or_else(|| amount(container, true, "cpu"));
    Limits {
        memory_bytes: amount(container, true, "memory").and_then(|q| unsigned(q.value())),
        cpu_limit_milli: amount(container, true, "cpu").and_then(|q| unsigned(q.milli())),
        cpu_request_milli: request.and_then(|q| unsigned(q.milli())).unwrap_or(0),
        pids: None,
    }
}

/// How soon the kernel shall choose the container when memory runs out.
pub(crate) fn oom_score(pod: &Desired, container: &Container, memory_bytes: u64) -> i32 {
    match qos_class(pod.spec()) {
        "Guaranteed" => OOM_GUARANTEED,
        "BestEffort" => OOM_BEST_EFFORT,
        _ => {
            let request = amount(container, false, "memory").map_or(0, |q| q.value());
            let part = 1000 * i128::from(request) / i128::from(memory_bytes.max(1));
            let score = (1000 - part).clamp(3, 999);
            i32::try_from(score).unwrap_or(OOM_BEST_EFFORT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(context: Value, container: Value) -> (Desired, Container) {
        let pod = json!({ "spec": { "securityContext": context, "containers": [container] } });
        let pod = Desired::new(serde_json::from_value(pod).unwrap());
        let container = pod.main()[0].clone();
        (pod, container)
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let (pod, c) = pod(
            json!({ "runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true, "fsGroup": 5,
                "supplementalGroups": [4], "sysctls": [{ "name": "a", "value": "1" }] }),
            json!({ "name": "a", "securityContext": { "runAsUser": 7,
                "capabilities": { "add": ["CAP_NET_ADMIN"], "drop": ["all"] } } }),
        );
        let got = security(&pod, &c).unwrap();
        assert_eq!((got.run_as_user, got.run_as_group), (Some(7), Some(2)));
        assert!(got.run_as_non_root && got.allow_privilege_escalation && !got.privileged);
        assert_eq!(got.add_capabilities, ["NET_ADMIN"]);
        assert_eq!(got.drop_capabilities, ["ALL"]);
        assert_eq!(got.supplemental_groups, [4, 5]);
        assert_eq!(got.sysctls["a"], "1");
    }

    #[test]
    fn local_seccomp_profiles_are_refused() {
        let (pod, c) =
            pod(json!({ "seccompProfile": { "type": "Localhost" } }), json!({ "name": "a" }));
        assert!(security(&pod, &c).unwrap_err().contains("Localhost"));
    }

    #[test]
    fn resources() {
        let (pod, c) = pod(
            json!({}),
            json!({ "name": "a", "resources": {
                "limits": { "memory": "64Mi", "cpu": "500m" },
                "requests": { "memory": "32Mi" } } }),
        );
        let got = limits(&c);
        assert_eq!(got.memory_bytes, Some(64 << 20));
        assert_eq!((got.cpu_limit_milli, got.cpu_request_milli), (Some(500), 500));
        assert_eq!(oom_score(&pod, &c, 320 << 20), 900);
    }
}
