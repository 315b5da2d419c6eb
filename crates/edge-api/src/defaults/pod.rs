//! Defaults of pods and of the pod templates in other kinds.

use serde_json::{Value, json};

use super::{fill, fill_zero, items, object, some};
use crate::Object;

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The mode of files in volumes made from objects: 0644.
const FILE_MODE: i32 = 0o644;

/// `Pod`: what templates get, and requests from limits and host ports besides.
pub(crate) fn pod(pod: &mut Object) {
    object(pod, "spec");
    let host_network = pod["spec"]["hostNetwork"] == true;
    let spec = &mut pod["spec"];
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
    pod_spec(spec);
}

/// The pod template of a workload.
pub(crate) fn template(template: &mut Value) {
    object(template, "metadata");
    object(template, "spec");
    pod_spec(&mut template["spec"]);
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = some(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = object(resources, "requests");
    for (name, amount) in limits {
        requests.entry(name).or_insert(amount);
    }
}

fn host_ports(container: &mut Value) {
    for port in items(container, "ports") {
        let number = port["containerPort"].clone();
        fill_zero(port, "hostPort", number);
    }
}

fn pod_spec(spec: &mut Value) {
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "restartPolicy", "Always");
    fill_zero(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    same_service_account(spec);
    for list in CONTAINER_LISTS {
        items(spec, list).for_each(container);
    }
    items(spec, "volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; Kubernetes keeps both the same.
fn same_service_account(spec: &mut Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (new, old) = (text(&spec["serviceAccountName"]), text(&spec["serviceAccount"]));
    let name = if new.is_empty() { old } else { new };
    if !name.is_empty() {
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let policy = if image_tag(image) == Some("latest") { "Always" } else { "IfNotPresent" };
    fill_zero(container, "imagePullPolicy", policy);
    fill(container, "resources", json!({}));
    fill_zero(container, "terminationMessagePath", "/dev/termination-log");
    fill_zero(container, "terminationMessagePolicy", "File");
    items(container, "ports").for_each(|port| fill_zero(port, "protocol", "TCP"));
    for variable in items(container, "env") {
        if let Some(field) = some(variable, "valueFrom").and_then(|from| some(from, "fieldRef")) {
            fill_zero(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = some(container, name) {
            probe(found);
        }
    }
    if let Some(lifecycle) = some(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(get) = some(lifecycle, hook).and_then(|hook| some(hook, "httpGet")) {
                http_get(get);
            }
        }
    }
}

fn probe(probe: &mut Value) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    if let Some(get) = some(probe, "httpGet") {
        http_get(get);
    }
    if let Some(grpc) = some(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    fill_zero(get, "path", "/");
    fill_zero(get, "scheme", "HTTP");
}

/// The tag of an image reference: `latest` when it has neither tag nor digest, `None` when it is
/// pinned by digest alone.
pub fn image_tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => Some(tag),
        None if digest.is_some() => None,
        None => Some("latest"),
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |map| map.keys().filter(|k| *k != "name").count());
    if sources == 0 {
        fill(volume, "emptyDir", json!({}));
    }
    for name in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = some(volume, name) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = some(volume, "hostPath") {
        fill(source, "type", "");
    }
    if let Some(source) = some(volume, "downwardAPI") {
        downward(source);
    }
    if let Some(projected) = some(volume, "projected") {
        for source in items(projected, "sources") {
            if let Some(token) = some(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(api) = some(source, "downwardAPI") {
                downward(api);
            }
        }
    }
    if let Some(claim) = some(volume, "ephemeral")
        .and_then(|source| some(source, "volumeClaimTemplate"))
        .and_then(|template| some(template, "spec"))
    {
        fill(claim, "volumeMode", "Filesystem");
    }
}

fn downward(source: &mut Value) {
    for item in items(source, "items") {
        if let Some(field) = some(item, "fieldRef") {
            fill_zero(field, "apiVersion", "v1");
        }
    }
}
