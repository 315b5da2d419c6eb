//! Changing an object by patch: JSON patch, merge patch and strategic merge patch, and working out
//! the patch that `apply` sends.

use serde_json::Value;

use crate::Object;
use crate::kinds::Kind;
use crate::status::{Reason, Status};

mod strategic;
mod three_way;

pub use strategic::strategic_merge;
pub use three_way::{diff, three_way, three_way_merge};

/// More operations than this in one JSON patch are refused.
const MAX_OPERATIONS: usize = 10_000;

/// How a patch is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902
    Json,
    /// RFC 7386
    Merge,
    /// Kubernetes' own, which merges lists by key
    Strategic,
    /// server-side apply
    Apply,
}

impl PatchType {
    /// All of them.
    pub const ALL: [PatchType; 4] =
        [PatchType::Json, PatchType::Merge, PatchType::Strategic, PatchType::Apply];

    /// The media type of the request.
    pub fn content_type(self) -> &'static str {
        match self {
            PatchType::Json => "application/json-patch+json",
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }

    /// Reads the media type of a request; parameters such as `charset` do not matter.
    pub fn from_content_type(text: &str) -> Option<PatchType> {
        let media = text.split(';').next().unwrap_or_default().trim();
        PatchType::ALL.into_iter().find(|kind| kind.content_type() == media)
    }
}

/// The current object with a patch applied; the result is to be decoded and validated like any
/// object that a client sent.
pub fn apply(
    kind: &Kind,
    how: PatchType,
    current: &Object,
    patch: &Value,
) -> Result<Object, Status> {
    match how {
        PatchType::Json => json_patch(current, patch),
        PatchType::Merge => {
            if !patch.is_object() {
                return Err(not_a_map(patch));
            }
            let mut object = current.clone();
            merge_patch(&mut object, patch);
            Ok(object)
        }
        PatchType::Strategic => strategic_merge(kind, current, patch),
        PatchType::Apply => Err(Status::unsupported_media_type(&[
            PatchType::Json.content_type(),
            PatchType::Merge.content_type(),
            PatchType::Strategic.content_type(),
        ])),
    }
}

fn not_a_map(patch: &Value) -> Status {
    let found = match patch {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        _ => "value",
    };
    Status::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type \
         map[string]interface {{}}"
    ))
}

/// A patch that is well formed but cannot be applied to this object.
fn unprocessable(why: impl std::fmt::Display) -> Status {
    let message = "the server rejected our request due to an error in our request";
    Status::new(Reason::Invalid, format!("{message}: {why}"))
}

/// Applies a JSON patch (RFC 6902), all of it or nothing.
pub fn json_patch(current: &Object, patch: &Value) -> Result<Object, Status> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {operations}"
        );
        return Err(Status::new(Reason::RequestEntityTooLarge, message));
    }
    let patch: json_patch::Patch = serde::Deserialize::deserialize(patch)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut object = current.clone();
    json_patch::patch(&mut object, &patch).map_err(unprocessable)?;
    Ok(object)
}

/// Applies a merge patch (RFC 7386): maps merge, null removes, all else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests;
