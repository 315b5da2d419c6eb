//! Probes and lifecycle hooks: each has exactly one way of being carried out.

use serde_json::{Value, json};

use super::container::Role;
use super::{list, needs, not_negative, one_of, text};
use crate::field::{Errors, Path};
use crate::names;

const SIDECARS_ONLY: &str = "may not be set for init containers without restartPolicy=Always";

/// The probes of a container.
pub(super) fn probes(container: &Value, role: Role, at: &Path<'_>, errors: &mut Errors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[field];
        if probe.is_null() {
            continue;
        }
        let at = at.child(field);
        if role == Role::Init {
            errors.forbidden(&at, SIDECARS_ONLY);
            continue;
        }
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &at, errors);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            not_negative(errors, &at.child(number), &probe[number]);
        }
        let grace = &probe["terminationGracePeriodSeconds"];
        let grace_at = at.child("terminationGracePeriodSeconds");
        if field == "readinessProbe" {
            if !grace.is_null() {
                errors.invalid(&grace_at, grace.clone(), "must not be set for readinessProbes");
            }
        } else {
            if grace.as_i64().is_some_and(|seconds| seconds <= 0) {
                errors.invalid(&grace_at, grace.clone(), "must be greater than 0");
            }
            let threshold = &probe["successThreshold"];
            if *threshold != json!(1) {
                errors.invalid(&at.child("successThreshold"), threshold.clone(), "must be 1");
            }
        }
    }
}

/// The hooks of a container.
pub(super) fn lifecycle(container: &Value, role: Role, at: &Path<'_>, errors: &mut Errors) {
    let hooks = &container["lifecycle"];
    if hooks.is_null() {
        return;
    }
    let at = at.child("lifecycle");
    if role == Role::Init {
        errors.forbidden(&at, SIDECARS_ONLY);
        return;
    }
    for field in ["postStart", "preStop"] {
        if !hooks[field].is_null() {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(&hooks[field], &kinds, &at.child(field), errors);
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], at: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in kinds.iter().filter(|kind| !handler[**kind].is_null()) {
        count += 1;
        let (action, at) = (&handler[*kind], at.child(kind));
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if list(&action["command"]).is_empty() => {
                errors.required(&at.child("command"), "");
            }
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" => port(&action["port"], &at.child("port"), errors),
            "grpc" => {
                let number = action["port"].as_i64().unwrap_or(0);
                errors.each(&at.child("port"), number, names::port_number(number));
            }
            "sleep" => {
                let seconds = action["seconds"].as_i64().unwrap_or(0);
                if seconds < 0 {
                    let detail = "must be non-negative and less than terminationGracePeriodSeconds";
                    errors.invalid(&at.child("seconds"), seconds, detail);
                }
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(get: &Value, at: &Path<'_>, errors: &mut Errors) {
    needs(errors, &at.child("path"), &get["path"]);
    port(&get["port"], &at.child("port"), errors);
    one_of(errors, &at.child("scheme"), &get["scheme"], &["HTTP", "HTTPS"]);
    for (index, header) in list(&get["httpHeaders"]).iter().enumerate() {
        let at = at.child("httpHeaders");
        let name = text(&header["name"]);
        errors.each(&at.index(index).child("name"), name, names::http_header(name));
    }
}

/// A port by number or by name.
pub(super) fn port(port: &Value, at: &Path<'_>, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.each(at, name.as_str(), names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            errors.each(at, number, names::port_number(number));
        }
    }
}
