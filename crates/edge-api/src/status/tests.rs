//! Statuses word for word as Kubernetes gives them.

use super::*;
use crate::field::{Errors, Path};
use crate::kinds;

#[test]
fn messages_codes_and_details() {
    for (status, code, reason, message) in [
        (Status::not_found(kinds::POD, "x"), 404, "NotFound", "pods \"x\" not found"),
        (
            Status::already_exists(kinds::DEPLOYMENT, "x"),
            409,
            "AlreadyExists",
            "deployments.apps \"x\" already exists",
        ),
        (
            Status::modified(kinds::DEPLOYMENT, "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"x\": the object has been \
             modified; please apply your changes to the latest version and try again",
        ),
        (Status::forbidden(kinds::POD, "x", "no"), 403, "Forbidden", "pods \"x\" is forbidden: no"),
        (Status::too_old(5, 9), 410, "Expired", "too old resource version: 5 (9)"),
        (
            Status::too_large(3_145_728),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
        (Status::unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
        (
            Status::precondition(kinds::POD, "x", "UID", "a", "b"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"x\": Precondition failed: UID in \
             precondition: a, UID in object meta: b",
        ),
    ] {
        assert_eq!(status.code, code);
        assert_eq!(status.reason.as_str(), reason);
        assert_eq!(status.message, message);
        assert_eq!(Status::from_json(&status.to_json()), Some(status));
    }
    let json = Status::not_found(kinds::DEPLOYMENT, "x").to_json();
    assert_eq!(
        json,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "message": "deployments.apps \"x\" not found", "reason": "NotFound",
               "details": {"name": "x", "group": "apps", "kind": "deployments"}, "code": 404})
    );
}

#[test]
fn invalid_lists_causes() {
    let mut errors = Errors::new();
    errors.required(&Path::new("spec").child("selector"), "");
    let one = Status::invalid(kinds::DEPLOYMENT, "x", &errors.into_vec());
    assert_eq!(one.message, "Deployment.apps \"x\" is invalid: spec.selector: Required value");
    assert_eq!(one.code, 422);
    let mut errors = Errors::new();
    errors.required(&Path::new("a"), "");
    errors.invalid(&Path::new("b"), 1, "no");
    let two = Status::invalid(kinds::POD, "x", &errors.into_vec());
    assert_eq!(two.message, "Pod \"x\" is invalid: [a: Required value, b: Invalid value: 1: no]");
    let details = two.to_json()["details"].clone();
    assert_eq!(details["kind"], "Pod");
    assert_eq!(
        details["causes"][1],
        json!({"reason": "FieldValueInvalid", "message": "Invalid value: 1: no", "field": "b"})
    );
}

#[test]
fn deleted_is_a_success() {
    let json = Status::deleted(kinds::POD, "x", "u");
    assert_eq!(json["status"], "Success");
    assert_eq!(json["details"], json!({"name": "x", "kind": "pods", "uid": "u"}));
    assert_eq!(Status::from_json(&json!({"kind": "Pod"})), None);
}
