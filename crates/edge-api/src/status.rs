//! `Status`, the answer to a request that failed: code, reason and message in Kubernetes' own
//! words. Clients decide by reason and people search for the messages, so none is made up here.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field::FieldError;
use crate::kinds::Kind;

mod reason;

pub use reason::Reason;

/// Why a request failed, or a plain success.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// the HTTP code
    pub code: u16,
    /// the machine-readable reason
    pub reason: Reason,
    /// the sentence for people
    pub message: String,
    /// what it is about; boxed, since errors should be small
    pub details: Option<Box<Details>>,
}

/// What a Status is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// the object's name
    pub name: String,
    /// the API group
    pub group: String,
    /// the resource (`pods`), or the kind (`Pod`) for an invalid object, as Kubernetes has it
    pub kind: String,
    /// the object's uid
    pub uid: String,
    /// one entry for each complaint
    pub causes: Vec<Cause>,
    /// when to try again
    pub retry_after_seconds: Option<u32>,
}

/// One complaint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cause {
    /// `FieldValueRequired`, …
    pub reason: String,
    /// the complaint without the field
    pub message: String,
    /// the field's path
    pub field: String,
}

impl Status {
    /// A failure with a reason and a message, without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Status {
        Status { code: reason.code(), reason, message: message.into(), details: None }
    }

    fn about(kind: &Kind, name: &str, reason: Reason, message: String) -> Status {
        let details = Details {
            name: name.to_string(),
            group: kind.group.to_string(),
            kind: kind.plural.to_string(),
            ..Details::default()
        };
        Status { details: Some(Box::new(details)), ..Status::new(reason, message) }
    }

    /// `pods "x" not found`
    pub fn not_found(kind: &Kind, name: &str) -> Status {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Status::about(kind, name, Reason::NotFound, message)
    }

    /// There is nothing at this path. The details are empty and not absent: `kubectl debug` looks
    /// into them to tell this answer from that of an object that is missing.
    pub fn no_such_path() -> Status {
        let message = "the server could not find the requested resource";
        Status { details: Some(Box::default()), ..Status::new(Reason::NotFound, message) }
    }

    /// `pods "x" already exists`
    pub fn already_exists(kind: &Kind, name: &str) -> Status {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Status::about(kind, name, Reason::AlreadyExists, message)
    }

    /// A conflict for some reason: `Operation cannot be fulfilled on pods "x": …`
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Status {
        let resource = kind.resource();
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Status::about(kind, name, Reason::Conflict, message)
    }

    /// The object was changed since the caller read it.
    pub fn modified(kind: &Kind, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Status::conflict(kind, name, why)
    }

    /// A precondition of a delete or update does not hold.
    pub fn precondition(kind: &Kind, name: &str, what: &str, want: &str, have: &str) -> Status {
        let why = format!(
            "Precondition failed: {what} in precondition: {want}, {what} in object meta: {have}"
        );
        let mut status = Status::new(Reason::Conflict, String::new());
        status.message = Status::conflict(kind, name, &why).message;
        status
    }

    /// `Deployment.apps "x" is invalid: spec.replicas: Invalid value: …`
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Status {
        let mut lines: Vec<String> = Vec::new();
        for error in errors {
            let line = error.to_string();
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let qualified = kind.qualified_kind();
        let message = match &lines[..] {
            [] => format!("{qualified} \"{name}\" is invalid"),
            [line] => format!("{qualified} \"{name}\" is invalid: {line}"),
            _ => format!("{qualified} \"{name}\" is invalid: [{}]", lines.join(", ")),
        };
        let cause = |error: &FieldError| Cause {
            reason: error.problem.reason().to_string(),
            message: error.body(),
            field: error.field.clone(),
        };
        let mut status = Status::about(kind, name, Reason::Invalid, message);
        if let Some(details) = &mut status.details {
            details.kind = kind.kind.to_string();
            details.causes = errors.iter().map(cause).collect();
        }
        status
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(Reason::BadRequest, message)
    }

    /// `pods "x" is forbidden: …`
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Status {
        let resource = kind.resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Status::about(kind, name, Reason::Forbidden, message)
    }

    /// Nobody we know.
    pub fn unauthorized() -> Status {
        Status::new(Reason::Unauthorized, "Unauthorized")
    }

    /// `the server does not allow this method on the requested resource`
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status::new(Reason::MethodNotAllowed, message)
    }

    /// `delete is not supported on resources of kind "nodes"`
    pub fn method_not_supported(kind: &Kind, verb: &str) -> Status {
        let message =
            format!("{verb} is not supported on resources of kind \"{}\"", kind.resource());
        Status::about(kind, "", Reason::MethodNotAllowed, message)
    }

    /// A watch or a page starts before the history we kept.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(Reason::Expired, message)
    }

    /// A watch from a revision we no longer have: `too old resource version: 5 (9)`
    pub fn too_old(wanted: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {wanted} ({oldest})"))
    }

    /// A page's token is from before the history we kept.
    pub fn continue_expired() -> Status {
        Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             must start a new list without the continue parameter.",
        )
    }

    /// The body is in a format we do not read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let accepted = accepted.join(", ");
        Status::new(
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 {accepted}"
            ),
        )
    }

    /// The client accepts nothing that we write.
    pub fn not_acceptable(offered: &[&str]) -> Status {
        let offered = offered.join(", ");
        let message = format!("only the following media types are accepted: {offered}");
        Status::new(Reason::NotAcceptable, message)
    }

    /// The body is larger than we take.
    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status::new(Reason::RequestEntityTooLarge, message)
    }

    /// Something on our side went wrong.
    pub fn internal(message: impl fmt::Display) -> Status {
        Status::new(Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    /// Not now; try again.
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(Reason::ServiceUnavailable, message)
    }

    /// The work took longer than it may.
    pub fn timeout(message: impl fmt::Display) -> Status {
        let message = format!("Timeout: {message}");
        Status::new(Reason::Timeout, message)
    }

    /// Too many at once; try again in some seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let details =
            Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() };
        let status = Status::new(Reason::TooManyRequests, message);
        Status { details: Some(Box::new(details)), ..status }
    }

    /// The `Status` of a delete that is done: `{"status":"Success","details":{…}}`.
    pub fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
        let details = Details {
            name: name.to_string(),
            group: kind.group.to_string(),
            kind: kind.plural.to_string(),
            uid: uid.to_string(),
            ..Details::default()
        };
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
               "details": details.to_json()})
    }

    /// The wire form of a failure.
    pub fn to_json(&self) -> Value {
        let mut object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                                "status": "Failure", "message": self.message});
        if self.reason != Reason::Unknown {
            object["reason"] = json!(self.reason.as_str());
        }
        if let Some(details) = &self.details {
            object["details"] = details.to_json();
        }
        object["code"] = json!(self.code);
        object
    }

    /// Reads a `Status`; `None` when the JSON is something else.
    pub fn from_json(value: &Value) -> Option<Status> {
        if value["kind"] != "Status" {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let code = value["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(200);
        let reason = Reason::parse(value["reason"].as_str().unwrap_or_default());
        let details = value.get("details").map(|details| {
            let cause = |cause: &Value| Cause {
                reason: text(&cause["reason"]),
                message: text(&cause["message"]),
                field: text(&cause["field"]),
            };
            Box::new(Details {
                name: text(&details["name"]),
                group: text(&details["group"]),
                kind: text(&details["kind"]),
                uid: text(&details["uid"]),
                causes: details["causes"].as_array().into_iter().flatten().map(cause).collect(),
                retry_after_seconds: details["retryAfterSeconds"]
                    .as_u64()
                    .and_then(|seconds| seconds.try_into().ok()),
            })
        });
        Some(Status { code, reason, message: text(&value["message"]), details })
    }

    /// Whether it says that the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    /// Whether it says that somebody else changed the object first.
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, text: &str| {
            if !text.is_empty() {
                map.insert(key.to_string(), json!(text));
            }
        };
        put("name", &self.name);
        put("group", &self.group);
        put("kind", &self.kind);
        put("uid", &self.uid);
        if !self.causes.is_empty() {
            let cause = |cause: &Cause| {
                let mut map = json!({"reason": cause.reason, "message": cause.message});
                if !cause.field.is_empty() {
                    map["field"] = json!(cause.field);
                }
                map
            };
            map.insert("causes".to_string(), self.causes.iter().map(cause).collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            map.insert("retryAfterSeconds".to_string(), json!(seconds));
        }
        Value::Object(map)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests;
