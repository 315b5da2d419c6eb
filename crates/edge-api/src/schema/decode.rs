//! Reads what a client sent as an object of a kind: every value is checked against the table, then
//! brought to the one form that Kubernetes stores. Nulls, empty lists and unknown fields go away,
//! quantities and times become canonical.

use base64::Engine as _;
use serde_json::Value;

use super::{Definition, Field, Type, definition};
use crate::{quantity, time};

/// What was found besides the object.
#[derive(Debug, Default)]
pub struct Findings {
    /// the paths of fields that the kind does not have: `spec.foo`
    pub unknown: Vec<String>,
}

/// A value that has the wrong type, in the words of Go's JSON decoder.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeError(pub String);

/// Checks and normalises an object of a named type.
pub fn object(name: &str, value: &mut Value) -> Result<Findings, TypeError> {
    let mut findings = Findings::default();
    let Some(definition) = definition(name) else { return Ok(findings) };
    let mut walk = Walk { findings: &mut findings, path: String::new(), dotted: String::new() };
    walk.object(definition, value, None)?;
    Ok(findings)
}

/// Lists that mean something when they are empty: Kubernetes writes them even so.
const KEPT_EMPTY: &[(&str, &str)] =
    &[("discovery.v1.EndpointSlice", "endpoints"), ("core.v1.PodSpec", "containers")];

struct Walk<'a> {
    findings: &'a mut Findings,
    /// with indexes: `spec.containers[0].name`
    path: String,
    /// as Go names it: `spec.containers.name`
    dotted: String,
}

impl Walk<'_> {
    /// `holder` is the type and field that the object stands in, for the message.
    fn object(
        &mut self,
        definition: &'static Definition,
        value: &mut Value,
        holder: Option<&str>,
    ) -> Result<(), TypeError> {
        let found = word(value);
        let Value::Object(map) = value else {
            return Err(self.mismatch(found, holder, &go_type(&Type::Object(definition.name))));
        };
        let names: Vec<String> = map.keys().cloned().collect();
        for name in names {
            let lengths = (self.path.len(), self.dotted.len());
            self.enter(&name);
            match definition.field(&name) {
                None => {
                    self.findings.unknown.push(self.path.clone());
                    map.remove(&name);
                }
                Some(field) => {
                    if let Some(value) = map.get_mut(&name) {
                        self.value(&field.ty, value, definition.short_name())?;
                        if drops(definition, field, value) {
                            map.remove(&name);
                        }
                    }
                }
            }
            self.path.truncate(lengths.0);
            self.dotted.truncate(lengths.1);
        }
        Ok(())
    }

    fn enter(&mut self, name: &str) {
        for path in [&mut self.path, &mut self.dotted] {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
    }

    fn value(&mut self, ty: &Type, value: &mut Value, holder: &str) -> Result<(), TypeError> {
        if value.is_null() {
            return Ok(());
        }
        let found = word(value);
        match (ty, &mut *value) {
            (Type::Any, _) | (Type::Text, Value::String(_)) | (Type::Bool, Value::Bool(_)) => {}
            (Type::Object(name), value) => {
                if let Some(definition) = definition(name) {
                    self.object(definition, value, Some(holder))?;
                }
            }
            (Type::List(item), Value::Array(list)) => {
                let length = self.path.len();
                for (index, value) in list.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, value, holder)?;
                    self.path.truncate(length);
                }
            }
            (Type::Map(item), Value::Object(map)) => {
                let length = self.path.len();
                for (key, value) in map.iter_mut() {
                    self.path.push_str(&format!(".{key}"));
                    self.value(item, value, holder)?;
                    if value.is_null() && **item == Type::Text {
                        *value = Value::String(String::new());
                    }
                    self.path.truncate(length);
                }
            }
            (Type::Int32 | Type::Int64 | Type::Double, Value::Number(number)) => {
                let fits = match ty {
                    Type::Int32 => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                    Type::Int64 => number.as_i64().is_some(),
                    _ => true,
                };
                if !fits {
                    return Err(self.mismatch(
                        &format!("number {number}"),
                        Some(holder),
                        &go_type(ty),
                    ));
                }
            }
            (Type::Bytes, Value::String(text)) => bytes(text)?,
            (Type::Time | Type::MicroTime, Value::String(text)) => *value = instant(ty, text)?,
            (Type::Quantity, _) => {
                let canonical = quantity::canonical(value);
                let canonical = canonical.map_err(|error| TypeError(error.to_string()))?;
                *value = Value::String(canonical);
            }
            (Type::IntOrString, Value::String(_)) => {}
            (Type::IntOrString, Value::Number(number)) => {
                if number.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
                    return Err(self.mismatch(&format!("number {number}"), Some(holder), "int32"));
                }
            }
            (Type::IntOrString, _) => return Err(self.mismatch(found, Some(holder), "int32")),
            _ => return Err(self.mismatch(found, Some(holder), &go_type(ty))),
        }
        Ok(())
    }

    fn mismatch(&self, found: &str, holder: Option<&str>, wanted: &str) -> TypeError {
        let place = match holder {
            Some(holder) => format!("Go struct field {holder}.{}", self.dotted),
            None => "Go value".to_string(),
        };
        TypeError(format!("json: cannot unmarshal {found} into {place} of type {wanted}"))
    }
}

/// Whether Kubernetes would not write this field at all.
fn drops(definition: &Definition, field: &Field, value: &Value) -> bool {
    let kept = || KEPT_EMPTY.contains(&(definition.name, field.name));
    match (value, &field.ty) {
        (Value::Null, _) => true,
        (Value::Array(list), Type::List(_)) => list.is_empty() && !kept(),
        (Value::Object(map), Type::Map(_)) => map.is_empty(),
        _ => false,
    }
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A type as Go names it.
pub fn go_type(ty: &Type) -> String {
    match ty {
        Type::Text => "string".to_string(),
        Type::Bool => "bool".to_string(),
        Type::Int32 => "int32".to_string(),
        Type::Int64 => "int64".to_string(),
        Type::Double => "float64".to_string(),
        Type::Quantity => "resource.Quantity".to_string(),
        Type::IntOrString => "intstr.IntOrString".to_string(),
        Type::Time => "v1.Time".to_string(),
        Type::MicroTime => "v1.MicroTime".to_string(),
        Type::Bytes => "[]uint8".to_string(),
        Type::Any => "interface {}".to_string(),
        Type::List(item) => format!("[]{}", go_type(item)),
        Type::Map(item) => format!("map[string]{}", go_type(item)),
        Type::Object(name) => {
            let mut parts = name.rsplit('.');
            let (short, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or("v1"));
            format!("{version}.{short}")
        }
    }
}

fn bytes(text: &str) -> Result<(), TypeError> {
    use base64::DecodeError;
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len() / 4 * 4,
            };
            Err(TypeError(format!("illegal base64 data at input byte {at}")))
        }
    }
}

fn instant(ty: &Type, text: &str) -> Result<Value, TypeError> {
    if text.is_empty() && *ty == Type::Time {
        return Ok(Value::Null);
    }
    let Some(at) = time::parse_timestamp(text) else {
        let layout = match ty {
            Type::MicroTime => "2006-01-02T15:04:05.000000Z07:00",
            _ => "2006-01-02T15:04:05Z07:00",
        };
        return Err(TypeError(format!("parsing time \"{text}\" as \"{layout}\": cannot parse")));
    };
    let format = match ty {
        Type::MicroTime => "%Y-%m-%dT%H:%M:%S%.6fZ",
        _ => "%Y-%m-%dT%H:%M:%SZ",
    };
    Ok(Value::String(at.strftime(format).to_string()))
}

#[cfg(test)]
mod tests;
