//! The spec of a pod, of its own or in a template.

use serde_json::Value;

use super::{container, entries, list, meta, needs, needs_one_of, one_of, placement, pod_update};
use super::{not_negative, resources, text, volume};
use crate::field::{Errors, Path};
use crate::{Object, names};

const MAX_SECONDS: i64 = i32::MAX as i64;
const MAX_ID: i64 = i32::MAX as i64;

/// `Pod`
pub(crate) fn pod(pod: &Object, old: Option<&Object>, errors: &mut Errors) {
    match old {
        None => spec(&pod["spec"], &Path::new("spec"), errors),
        Some(old) => pod_update::update(&pod["spec"], &old["spec"], errors),
    }
}

/// A pod template: its labels, its annotations and its spec.
pub(super) fn template(template: &Value, at: &Path<'_>, errors: &mut Errors) {
    meta::maps(&template["metadata"], &at.child("metadata"), errors);
    spec(&template["spec"], &at.child("spec"), errors);
    if !list(&template["spec"]["ephemeralContainers"]).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&at.child("spec").child("ephemeralContainers"), detail);
    }
}

/// A pod's spec.
pub(super) fn spec(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let volumes = volume::volumes(&spec["volumes"], &at.child("volumes"), errors);
    container::all(spec, &volumes, at, errors);
    let policies = ["Always", "Never", "OnFailure"];
    needs_one_of(errors, &at.child("restartPolicy"), &spec["restartPolicy"], &policies);
    dns(spec, at, errors);
    meta::labels(&spec["nodeSelector"], &at.child("nodeSelector"), errors);
    security(spec, at, errors);
    for (index, secret) in list(&spec["imagePullSecrets"]).iter().enumerate() {
        needs(errors, &at.child("imagePullSecrets").index(index).child("name"), &secret["name"]);
    }
    placement::affinity(&spec["affinity"], &at.child("affinity"), errors);
    placement::tolerations(&spec["tolerations"], &at.child("tolerations"), errors);
    placement::spread(&spec["topologySpreadConstraints"], at, errors);
    for field in ["hostname", "subdomain"] {
        let value = text(&spec[field]);
        if !value.is_empty() {
            errors.each(&at.child(field), value, names::dns1123_label(value));
        }
    }
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let value = text(&spec[field]);
        if !value.is_empty() {
            errors.each(&at.child(field), value, names::dns1123_subdomain(value));
        }
    }
    host_aliases(spec, at, errors);
    let grace = "terminationGracePeriodSeconds";
    not_negative(errors, &at.child(grace), &spec[grace]);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        deadline(seconds, &at.child("activeDeadlineSeconds"), errors);
    }
    let policies = ["Never", "PreemptLowerPriority"];
    one_of(errors, &at.child("preemptionPolicy"), &spec["preemptionPolicy"], &policies);
    for (name, amount) in entries(&spec["overhead"]) {
        resources::amount(name, amount, &at.child("overhead").key(name), errors);
    }
    let mut gates: Vec<&str> = Vec::new();
    for (index, gate) in list(&spec["schedulingGates"]).iter().enumerate() {
        let (list, name) = (at.child("schedulingGates"), text(&gate["name"]));
        let here = list.index(index);
        errors.each(&here, name, names::qualified_name(name));
        if gates.contains(&name) {
            errors.duplicate(&here, name);
        }
        gates.push(name);
    }
    for (index, gate) in list(&spec["readinessGates"]).iter().enumerate() {
        let (list, kind) = (at.child("readinessGates"), text(&gate["conditionType"]));
        let here = list.index(index);
        errors.each(&here.child("conditionType"), kind, names::qualified_name(kind));
    }
}

/// A span of seconds that ends a pod.
pub(super) fn deadline(seconds: i64, at: &Path<'_>, errors: &mut Errors) {
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let detail = format!("must be between 1 and {MAX_SECONDS}, inclusive");
        errors.invalid(at, seconds, &detail);
    }
}

fn dns(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    needs_one_of(errors, &at.child("dnsPolicy"), &spec["dnsPolicy"], &policies);
    let (config, at) = (&spec["dnsConfig"], at.child("dnsConfig"));
    let servers = list(&config["nameservers"]);
    if text(&spec["dnsPolicy"]) == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        if config.is_null() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.required(&at, detail);
        } else {
            errors.required(&at.child("nameservers"), detail);
        }
    }
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.invalid(&at.child("nameservers"), config["nameservers"].clone(), detail);
    }
    for (index, server) in servers.iter().enumerate() {
        let here = at.child("nameservers");
        errors.each(&here.index(index), server.clone(), names::ip(text(server)));
    }
    if list(&config["searches"]).len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.invalid(&at.child("searches"), config["searches"].clone(), detail);
    }
    for (index, option) in list(&config["options"]).iter().enumerate() {
        if text(&option["name"]).is_empty() {
            errors.required(&at.child("options").index(index), "must not be empty");
        }
    }
}

/// A numeric user or group.
pub(super) fn id(value: &Value, at: &Path<'_>, errors: &mut Errors) {
    if let Some(id) = value.as_i64().filter(|id| !(0..=MAX_ID).contains(id)) {
        let detail = format!("must be between 0 and {MAX_ID}, inclusive");
        errors.invalid(at, id, &detail);
    }
}

fn security(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (context, at) = (&spec["securityContext"], at.child("securityContext"));
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context[field], &at.child(field), errors);
    }
    for (index, group) in list(&context["supplementalGroups"]).iter().enumerate() {
        id(group, &at.child("supplementalGroups").index(index), errors);
    }
    let policies = ["Always", "OnRootMismatch"];
    let field = "fsGroupChangePolicy";
    one_of(errors, &at.child(field), &context[field], &policies);
    for (index, setting) in list(&context["sysctls"]).iter().enumerate() {
        let sysctls = at.child("sysctls");
        let here = sysctls.index(index);
        let name = text(&setting["name"]);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if name.is_empty() {
            errors.required(&here.child("name"), "");
        } else if !name.bytes().all(plain) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&here.child("name"), name, detail);
        }
    }
    profile(&context["seccompProfile"], &at.child("seccompProfile"), errors);
}

/// A seccomp profile.
pub(super) fn profile(profile: &Value, at: &Path<'_>, errors: &mut Errors) {
    if profile.is_null() {
        return;
    }
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    needs_one_of(errors, &at.child("type"), &profile["type"], &kinds);
    let file = text(&profile["localhostProfile"]);
    match text(&profile["type"]) {
        "Localhost" if file.is_empty() => {
            let detail = "must be set when seccomp type is Localhost ";
            errors.required(&at.child("localhostProfile"), detail);
        }
        "RuntimeDefault" | "Unconfined" if !file.is_empty() => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.invalid(&at.child("localhostProfile"), file, detail);
        }
        _ => {}
    }
}

fn host_aliases(spec: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, alias) in list(&spec["hostAliases"]).iter().enumerate() {
        let aliases = at.child("hostAliases");
        let here = aliases.index(index);
        let ip = text(&alias["ip"]);
        errors.each(&here.child("ip"), ip, names::ip(ip));
        for (index, name) in list(&alias["hostnames"]).iter().enumerate() {
            let bad = names::dns1123_subdomain(text(name));
            errors.each(&here.child("hostnames").index(index), name.clone(), bad);
        }
    }
}
