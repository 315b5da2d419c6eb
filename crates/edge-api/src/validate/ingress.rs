//! Ingresses and their classes, as `pkg/apis/networking/validation` has it: hosts, paths, backends
//! and the names of Secrets.

use serde_json::Value;

use super::{entries, immutable, list, one_of, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const SCOPES: [&str; 2] = ["Cluster", "Namespace"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];
const CONTROLLER_MAX: usize = 250;
/// The field's forerunner.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// `Ingress`
pub(crate) fn ingress(ingress: &Object, old: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&ingress["spec"], Path::new("spec"));
    let rules = list(&spec["rules"]);
    if rules.is_empty() && !spec["defaultBackend"].is_object() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&at, spec["rules"].clone(), detail);
    }
    if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"], &at.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        self::rule(rule, &at.child("rules").index(index), errors);
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        self::tls(tls, &at.child("tls").index(index), errors);
    }
    let class = &spec["ingressClassName"];
    if class.is_string() {
        let bad = names::dns1123_subdomain(text(class));
        errors.each(&at.child("ingressClassName"), class.clone(), bad);
    }
    let annotations = &ingress["metadata"]["annotations"];
    let annotated = entries(annotations).find(|(key, _)| *key == CLASS_ANNOTATION);
    if let (None, Some((_, annotated))) = (old, annotated)
        && class.is_string()
        && annotated != class
    {
        let detail = "must match `ingressClassName` when both are specified";
        let at = Path::new("annotations");
        errors.invalid(&at.child(CLASS_ANNOTATION), annotated.clone(), detail);
    }
}

fn host(host: &str, at: &Path<'_>, errors: &mut Errors) {
    let bad = match host.contains('*') {
        true => names::wildcard_subdomain(host),
        false => names::dns1123_subdomain(host),
    };
    errors.each(at, host, bad);
}

fn rule(rule: &Value, at: &Path<'_>, errors: &mut Errors) {
    let name = text(&rule["host"]);
    if !name.is_empty() {
        let at = at.child("host");
        if name.parse::<core::net::IpAddr>().is_ok() {
            errors.invalid(&at, name, "must be a DNS name, not an IP address");
        }
        host(name, &at, errors);
    }
    if !rule["http"].is_object() {
        return;
    }
    let at = at.child("http");
    let at = at.child("paths");
    let paths = list(&rule["http"]["paths"]);
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (index, path) in paths.iter().enumerate() {
        self::path(path, &at.index(index), errors);
    }
}

fn path(value: &Value, at: &Path<'_>, errors: &mut Errors) {
    let kind = &value["pathType"];
    if !kind.is_string() {
        errors.required(&at.child("pathType"), "pathType must be specified");
        return;
    }
    let path = text(&value["path"]);
    let absolute = path.starts_with('/');
    let here = at.child("path");
    match text(kind) {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.invalid(&here, path, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| path.contains(**bad)) {
                errors.invalid(&here, path, &format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS.iter().filter(|bad| path.ends_with(**bad)) {
                errors.invalid(&here, path, &format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !absolute && !path.is_empty() {
                errors.invalid(&here, path, "must be an absolute path");
            }
        }
        other => errors.not_supported(&at.child("pathType"), other, &PATH_TYPES),
    }
    backend(&value["backend"], &at.child("backend"), errors);
}

fn backend(backend: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_object(), resource.is_object()) {
        (true, true) => {
            errors.invalid(at, "", "cannot set both resource and service backends");
            return;
        }
        (false, true) => {
            reference(resource, &at.child("resource"), errors);
            return;
        }
        (false, false) => {
            errors.invalid(at, "", "resource or service backend is required");
            return;
        }
        (true, false) => {}
    }
    let below = at.child("service");
    match text(&service["name"]) {
        "" => errors.required(&below.child("name"), ""),
        name => errors.each(&below.child("name"), name, names::dns1035_label(name)),
    }
    let port = below.child("port");
    let name = text(&service["port"]["name"]);
    let number = service["port"]["number"].as_i64().unwrap_or(0);
    match (name.is_empty(), number == 0) {
        (false, false) => errors.invalid(at, "", "cannot set both port name & port number"),
        (false, true) => errors.each(&port.child("name"), name, names::port_name(name)),
        (true, false) => errors.each(&port.child("number"), number, names::port_number(number)),
        (true, true) => errors.required(at, "port name or number is required"),
    }
}

/// `core.v1.TypedLocalObjectReference`
fn reference(reference: &Value, at: &Path<'_>, errors: &mut Errors) {
    let group = &reference["apiGroup"];
    if group.is_string() {
        errors.each(&at.child("apiGroup"), group.clone(), names::dns1123_subdomain(text(group)));
    }
    for (field, detail) in [("kind", "kind is required"), ("name", "name is required")] {
        match text(&reference[field]) {
            "" => errors.required(&at.child(field), detail),
            name => errors.each(&at.child(field), name, names::path_segment(name)),
        }
    }
}

fn tls(tls: &Value, at: &Path<'_>, errors: &mut Errors) {
    for (index, name) in list(&tls["hosts"]).iter().enumerate() {
        host(text(name), &at.child("hosts").index(index), errors);
    }
    let secret = text(&tls["secretName"]);
    if !secret.is_empty() {
        errors.each(&at.child("secretName"), secret, names::dns1123_subdomain(secret));
    }
}

/// The status of an `Ingress`
pub(crate) fn ingress_status(ingress: &Object, errors: &mut Errors) {
    let at = Path::new("status");
    let at = at.child("loadBalancer");
    let at = at.child("ingress");
    for (index, entry) in list(&ingress["status"]["loadBalancer"]["ingress"]).iter().enumerate() {
        let at = at.index(index);
        let (ip, name) = (text(&entry["ip"]), text(&entry["hostname"]));
        if !ip.is_empty() {
            errors.each(&at.child("ip"), ip, names::ip(ip));
        }
        if !name.is_empty() {
            let at = at.child("hostname");
            errors.each(&at, name, names::dns1123_subdomain(name));
            if name.parse::<core::net::IpAddr>().is_ok() {
                errors.invalid(&at, name, "must be a DNS name, not an IP address");
            }
        }
    }
}

/// `IngressClass`
pub(crate) fn ingress_class(class: &Object, old: Option<&Object>, errors: &mut Errors) {
    let (spec, at) = (&class["spec"], Path::new("spec"));
    let controller = &spec["controller"];
    let here = at.child("controller");
    if let Some(old) = old {
        immutable(errors, &here, controller, &old["spec"]["controller"]);
    }
    let controller = text(controller);
    if controller.len() > CONTROLLER_MAX {
        errors.too_long(&here, CONTROLLER_MAX);
    }
    match controller.split_once('/') {
        _ if controller.is_empty() => errors.required(&here, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.each(&here, domain, names::dns1123_subdomain(domain));
            errors.each(&here, path, names::http_path(path));
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(&here, controller, detail);
        }
    }
    if spec["parameters"].is_object() {
        parameters(&spec["parameters"], &at.child("parameters"), errors);
    }
}

fn parameters(parameters: &Value, at: &Path<'_>, errors: &mut Errors) {
    reference(parameters, at, errors);
    let (scope, namespace) = (&parameters["scope"], &parameters["namespace"]);
    if !scope.is_string() {
        errors.required(&at.child("scope"), "");
        return;
    }
    if text(scope).is_empty() {
        errors.not_supported(&at.child("scope"), "", &SCOPES);
    }
    one_of(errors, &at.child("scope"), scope, &SCOPES);
    let here = at.child("namespace");
    match (text(scope), namespace.is_string()) {
        ("Namespace", false) => {
            errors.required(&here, "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", true) => {
            let bad = names::dns1123_label(text(namespace));
            errors.each(&here, namespace.clone(), bad);
        }
        ("Cluster", true) => errors.forbidden(&here, "`parameters.scope` is set to 'Cluster'"),
        _ => {}
    }
}
