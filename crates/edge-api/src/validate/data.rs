//! ConfigMaps and Secrets: keys that can be file names, a size that fits, and what a Secret of a
//! given type has to hold.

use base64::Engine as _;
use serde_json::Value;

use super::{entries, immutable, text};
use crate::Object;
use crate::field::{Errors, Path};
use crate::names;

/// All data of one object together may have this many bytes.
const MAX: usize = 1 << 20;

const FROZEN: &str = "field is immutable when `immutable` is set";

fn decoded(value: &Value) -> Vec<u8> {
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text(value)).unwrap_or_default()
}

/// Once `immutable` is set, neither it nor the data may change.
fn frozen(object: &Object, old: Option<&Object>, fields: &[&str], errors: &mut Errors) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    if object["immutable"] != true {
        errors.forbidden(&Path::new("immutable"), FROZEN);
    }
    for field in fields {
        if object[*field] != old[*field] {
            errors.forbidden(&Path::new(field), FROZEN);
        }
    }
}

/// `ConfigMap`
pub(crate) fn config_map(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    let mut size = 0;
    let at = Path::new("data");
    for (key, value) in entries(&object["data"]) {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        size += text(value).len();
    }
    let at = Path::new("binaryData");
    for (key, value) in entries(&object["binaryData"]) {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        if !object["data"][key].is_null() {
            errors.invalid(&at.key(key), key.as_str(), "duplicate of key present in data");
        }
        size += decoded(value).len();
    }
    if size > MAX {
        errors.too_long(&Path::ROOT.key(""), MAX);
    }
    frozen(object, old, &["data", "binaryData"], errors);
}

/// `Secret`
pub(crate) fn secret(object: &Object, old: Option<&Object>, errors: &mut Errors) {
    let at = Path::new("data");
    let mut size = 0;
    for (key, value) in entries(&object["data"]) {
        errors.each(&at.key(key), key.as_str(), names::config_map_key(key));
        size += decoded(value).len();
    }
    if size > MAX {
        errors.too_long(&at, MAX);
    }
    typed(object, &at, errors);
    if let Some(old) = old {
        immutable(errors, &Path::new("type"), &object["type"], &old["type"]);
    }
    frozen(object, old, &["data"], errors);
}

/// What a Secret's type promises.
fn typed(object: &Object, at: &Path<'_>, errors: &mut Errors) {
    let data = &object["data"];
    let missing = |key: &str| data[key].is_null();
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            let metadata = Path::new("metadata");
            let annotations = metadata.child("annotations");
            let key = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"][key]).is_empty() {
                errors.required(&annotations.key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => json_in(data, ".dockercfg", at, errors),
        "kubernetes.io/dockerconfigjson" => json_in(data, ".dockerconfigjson", at, errors),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            errors.required(&at.key("username"), "");
            errors.required(&at.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if decoded(&data["ssh-privatekey"]).is_empty() => {
            errors.required(&at.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if missing(key) {
                    errors.required(&at.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn json_in(data: &Value, key: &str, at: &Path<'_>, errors: &mut Errors) {
    if data[key].is_null() {
        errors.required(&at.key(key), "");
        return;
    }
    let parsed: Result<Value, _> = serde_json::from_slice(&decoded(&data[key]));
    if let Err(error) = parsed {
        errors.invalid(&at.key(key), "<secret contents redacted>", &error.to_string());
    }
}
