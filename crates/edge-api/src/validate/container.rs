//! Containers of a pod: their names, images, ports, mounts and the rest that is theirs alone.

use serde_json::Value;

use super::volume::VolumeNames;
use super::{env, list, needs, needs_one_of, one_of, pod, probe, resources, text};
use crate::field::{Errors, Path};
use crate::names;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Which list a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    /// runs to its end before the next one starts
    Init,
    /// an init container that stays up
    Sidecar,
}

/// All containers of a pod's spec.
pub(super) fn all(spec: &Value, volumes: &VolumeNames<'_>, at: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    let mut host_ports: Vec<String> = Vec::new();
    if list(&spec["containers"]).is_empty() {
        errors.required(&at.child("containers"), "");
    }
    for field in ["containers", "initContainers"] {
        for (index, container) in list(&spec[field]).iter().enumerate() {
            let at = at.child(field);
            let at = at.index(index);
            let role = match (field, text(&container["restartPolicy"])) {
                ("containers", _) => Role::Main,
                (_, "Always") => Role::Sidecar,
                _ => Role::Init,
            };
            let name = text(&container["name"]);
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            } else {
                errors.each(&at.child("name"), name, names::dns1123_label(name));
                if seen.contains(&name) {
                    errors.duplicate(&at.child("name"), name);
                }
                seen.push(name);
            }
            one(container, role, volumes, &at, errors);
            if role == Role::Main {
                unique_host_ports(container, &mut host_ports, &at, errors);
            }
            if spec["hostNetwork"] == true {
                same_host_ports(container, &at, errors);
            }
        }
    }
}

fn one(
    container: &Value,
    role: Role,
    volumes: &VolumeNames<'_>,
    at: &Path<'_>,
    errors: &mut Errors,
) {
    image(container, at, errors);
    restart_policy(container, role, at, errors);
    probe::lifecycle(container, role, at, errors);
    probe::probes(container, role, at, errors);
    let policies = ["FallbackToLogsOnError", "File"];
    let field = "terminationMessagePolicy";
    needs_one_of(errors, &at.child(field), &container[field], &policies);
    ports(&container["ports"], &at.child("ports"), errors);
    env::variables(&container["env"], &at.child("env"), errors);
    env::sources(&container["envFrom"], &at.child("envFrom"), errors);
    mounts(&container["volumeMounts"], volumes, &at.child("volumeMounts"), errors);
    devices(&container["volumeDevices"], volumes, &at.child("volumeDevices"), errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    let field = "imagePullPolicy";
    needs_one_of(errors, &at.child(field), &container[field], &policies);
    resources::requirements(&container["resources"], &at.child("resources"), errors);
    security(&container["securityContext"], &at.child("securityContext"), errors);
}

/// The image of a container.
pub(super) fn image(container: &Value, at: &Path<'_>, errors: &mut Errors) {
    let image = text(&container["image"]);
    if image.is_empty() {
        errors.required(&at.child("image"), "");
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&at.child("image"), image, detail);
    }
}

fn restart_policy(container: &Value, role: Role, at: &Path<'_>, errors: &mut Errors) {
    let at = at.child("restartPolicy");
    match role {
        Role::Main if !container["restartPolicy"].is_null() => {
            errors.forbidden(&at, "may not be set for non-init containers");
        }
        Role::Init if !container["restartPolicy"].is_null() => {
            errors.not_supported(&at, text(&container["restartPolicy"]), &["Always"]);
        }
        _ => {}
    }
}

fn ports(ports: &Value, at: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in list(ports).iter().enumerate() {
        let at = at.index(index);
        let name = text(&port["name"]);
        if !name.is_empty() {
            let bad = names::port_name(name);
            let good = bad.is_empty();
            errors.each(&at.child("name"), name, bad);
            if good && seen.contains(&name) {
                errors.duplicate(&at.child("name"), name);
            }
            seen.push(name);
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => errors.required(&at.child("containerPort"), ""),
            number => errors.each(&at.child("containerPort"), number, names::port_number(number)),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) {
            errors.each(&at.child("hostPort"), number, names::port_number(number));
        }
        needs_one_of(errors, &at.child("protocol"), &port["protocol"], &PROTOCOLS);
    }
}

fn unique_host_ports(
    container: &Value,
    seen: &mut Vec<String>,
    at: &Path<'_>,
    errors: &mut Errors,
) {
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let Some(number) = port["hostPort"].as_i64().filter(|number| *number != 0) else {
            continue;
        };
        let key = format!("{}/{}/{number}", text(&port["protocol"]), text(&port["hostIP"]));
        if seen.contains(&key) {
            errors.duplicate(&at.child("ports").index(index).child("hostPort"), key);
        } else {
            seen.push(key);
        }
    }
}

fn same_host_ports(container: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let host_port = port["hostPort"].as_i64().unwrap_or(0);
        if host_port != 0 && port["containerPort"] != port["hostPort"] {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            let at = at.child("ports");
            let number = port["containerPort"].clone();
            errors.invalid(&at.index(index).child("containerPort"), number, detail);
        }
    }
}

fn mounts(mounts: &Value, volumes: &VolumeNames<'_>, at: &Path<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, mount) in list(mounts).iter().enumerate() {
        let at = at.index(index);
        if needs(errors, &at.child("name"), &mount["name"]) {
            let name = text(&mount["name"]);
            if !volumes.contains(name) {
                errors.not_found(&at.child("name"), name);
            }
        }
        let path = text(&mount["mountPath"]);
        if path.is_empty() {
            errors.required(&at.child("mountPath"), "");
        }
        if seen.contains(&path) {
            errors.invalid(&at.child("mountPath"), path, "must be unique");
        }
        seen.push(path);
        for field in ["subPath", "subPathExpr"] {
            inside(text(&mount[field]), &at.child(field), errors);
        }
        if !text(&mount["subPath"]).is_empty() && !text(&mount["subPathExpr"]).is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&at.child("subPathExpr"), mount["subPathExpr"].clone(), detail);
        }
        let field = "mountPropagation";
        let allowed = ["Bidirectional", "HostToContainer", "None"];
        one_of(errors, &at.child(field), &mount[field], &allowed);
    }
}

/// A path that stays inside of what it is relative to.
pub(super) fn inside(path: &str, at: &Path<'_>, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        errors.invalid(at, path, "must not contain '..'");
    }
}

fn devices(devices: &Value, volumes: &VolumeNames<'_>, at: &Path<'_>, errors: &mut Errors) {
    for (index, device) in list(devices).iter().enumerate() {
        let at = at.index(index);
        if needs(errors, &at.child("name"), &device["name"]) {
            let name = text(&device["name"]);
            if !volumes.contains(name) {
                errors.not_found(&at.child("name"), name);
            }
        }
        needs(errors, &at.child("devicePath"), &device["devicePath"]);
    }
}

fn security(context: &Value, at: &Path<'_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        pod::id(&context[field], &at.child(field), errors);
    }
    if context["allowPrivilegeEscalation"] == false && context["privileged"] == true {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(at, context.clone(), detail);
    }
    pod::profile(&context["seccompProfile"], &at.child("seccompProfile"), errors);
}
