//! The rules of a kind: the functions of its row, and the steps of a request that call them.

use serde_json::Value;

use super::Kind;
use crate::field::Errors;
use crate::schema::decode;
use crate::status::Status;
use crate::strategy::{self, Stamp};
use crate::{Object, defaults, names, validate};

/// The functions of a row.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// writes the defaults
    pub(crate) default: fn(&mut Object),
    /// finishes a new object
    pub(crate) create: fn(&mut Object),
    /// finishes a changed object
    pub(crate) update: fn(&mut Object, &Object),
    /// whether a change counts as a new generation
    pub(crate) changed: fn(&Object, &Object) -> bool,
    /// what a name must look like
    pub(crate) name: names::Check,
    /// finds what is wrong with the spec, or with its change
    pub(crate) validate: fn(&Object, Option<&Object>, &mut Errors),
    /// finds what is wrong with the status
    pub(crate) validate_status: fn(&Object, &mut Errors),
    /// metadata that a status update cannot change
    pub(crate) status_keeps: &'static [&'static str],
}

/// What most kinds have: nothing special.
pub(super) const PLAIN: Rules = Rules {
    default: defaults::nothing,
    create: strategy::keep,
    update: strategy::keep_both,
    changed: strategy::spec_changed,
    name: names::dns1123_subdomain,
    validate: validate::nothing,
    validate_status: validate::any_status,
    status_keeps: &["ownerReferences"],
};

/// What to do with fields that a kind does not have (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// drop them silently
    Ignore,
    /// drop them and say so
    #[default]
    Warn,
    /// refuse the request
    Strict,
}

impl Strictness {
    /// Reads the `fieldValidation` parameter; an empty one is `Warn`.
    pub fn parse(text: &str) -> Option<Strictness> {
        match text {
            "" | "Warn" => Some(Strictness::Warn),
            "Ignore" => Some(Strictness::Ignore),
            "Strict" => Some(Strictness::Strict),
            _ => None,
        }
    }
}

/// What was found while an object was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// the paths of fields that the kind does not have, unless they are ignored
    pub unknown_fields: Vec<String>,
}

impl Decoded {
    /// The texts of the `Warning` headers: `unknown field "spec.foo"`.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unknown_fields.iter().map(|path| format!("unknown field \"{path}\""))
    }
}

/// Checks and normalises a value of any type of the schema: `autoscaling.v1.Scale`,
/// `core.v1.Binding`, `meta.v1.DeleteOptions`.
pub fn decode_type(
    schema: &str,
    value: &mut Value,
    strictness: Strictness,
) -> Result<Decoded, Status> {
    let short = schema.rsplit('.').next().unwrap_or(schema);
    let version = schema.rsplit('.').nth(1).unwrap_or("v1").to_string();
    let refuse = |why: String| {
        Status::bad_request(format!(
            "{short} in version \"{version}\" cannot be handled as a {short}: {why}"
        ))
    };
    let findings = decode::object(schema, value).map_err(|error| refuse(error.0))?;
    let decoded = match strictness {
        Strictness::Ignore => Decoded::default(),
        _ => Decoded { unknown_fields: findings.unknown },
    };
    if strictness == Strictness::Strict && !decoded.unknown_fields.is_empty() {
        let list: Vec<String> = decoded.warnings().collect();
        return Err(refuse(format!("strict decoding error: {}", list.join(", "))));
    }
    Ok(decoded)
}

impl Kind {
    /// Reads what a client sent as an object of this kind: checks every type, and brings the object
    /// to the form that is stored (no nulls, no unknown fields, canonical quantities and times).
    pub fn decode(&self, object: &mut Object, strictness: Strictness) -> Result<Decoded, Status> {
        if let Some(map) = object.as_object_mut() {
            let expected = self.api_version();
            let given = |map: &serde_json::Map<String, Value>, field: &str| {
                map.get(field).and_then(Value::as_str).unwrap_or_default().to_string()
            };
            let (version, kind) = (given(map, "apiVersion"), given(map, "kind"));
            if !version.is_empty() && version != expected {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({version}) does not match the expected API \
                     version ({expected})"
                )));
            }
            if !kind.is_empty() && kind != self.kind {
                return Err(Status::bad_request(format!(
                    "{kind} in version \"{}\" cannot be handled as a {}: the kind in the data does \
                     not match the expected kind",
                    self.version, self.kind
                )));
            }
            map.insert("apiVersion".to_string(), Value::String(expected));
            map.insert("kind".to_string(), Value::String(self.kind.to_string()));
        }
        decode_type(self.schema, object, strictness)
    }

    /// Writes Kubernetes' defaults where the author left something out.
    pub fn default(&self, object: &mut Object) {
        (self.rules.default)(object);
    }

    /// Prepares a decoded object to be created: name, uid, times, generation, a fresh status.
    pub fn prepare_create(&self, object: &mut Object, stamp: &Stamp) -> Result<(), Status> {
        strategy::create(self, object, stamp)
    }

    /// Prepares an object to replace `old`: status and system metadata stay as they are.
    pub fn prepare_update(&self, new: &mut Object, old: &Object) {
        strategy::update(self, new, old);
    }

    /// Prepares an object whose status alone is to replace that of `old`.
    pub fn prepare_status_update(&self, new: &mut Object, old: &Object) {
        strategy::status_update(self, new, old);
    }
}
