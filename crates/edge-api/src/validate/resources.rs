//! Requests and limits: known names, amounts that make sense, and no request above its limit.

use serde_json::Value;

use super::{NOT_NEGATIVE, entries};
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Resources of other makers: `example.com/gpu`. They cannot be shared out twice.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// `resources` of a container.
pub(super) fn requirements(resources: &Value, at: &Path<'_>, errors: &mut Errors) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    let (limits_at, requests_at) = (at.child("limits"), at.child("requests"));
    for (name, value) in entries(limits) {
        amount(name, value, &limits_at.key(name), errors);
    }
    for (name, value) in entries(requests) {
        amount(name, value, &requests_at.key(name), errors);
        let Ok(request) = Quantity::read(value) else { continue };
        let strict = is_extended(name) || is_huge(name);
        match Quantity::read(&limits[name]) {
            Ok(limit) if strict && request != limit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&requests_at, request.to_string(), &detail);
            }
            Ok(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&requests_at, request.to_string(), &detail);
            }
            Err(_) if strict => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.required(&limits_at, detail);
            }
            _ => {}
        }
    }
}

/// One amount of one resource.
pub(super) fn amount(name: &str, value: &Value, at: &Path<'_>, errors: &mut Errors) {
    let bad = names::qualified_name(name);
    let named = bad.is_empty();
    errors.each(at, name, bad);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge(name);
    if named && !standard && !name.contains('/') {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
        errors.invalid(at, name, "must be a standard resource for containers");
    }
    let Ok(quantity) = Quantity::read(value) else { return };
    if quantity.sign() < 0 {
        errors.invalid(at, quantity.to_string(), NOT_NEGATIVE);
    }
    if (is_extended(name) || is_huge(name)) && !quantity.is_whole() {
        errors.invalid(at, quantity.to_string(), "must be an integer");
    }
}
