//! Taking in what a client sent: JSON or YAML into an object, the header fields checked against
//! the path, and unknown or doubled fields reported as the client asked.

use super::options::FieldValidation;
use crate::http::BodyType;
use edge_api::Object;
use edge_api::kinds::{Kind, Strictness};
use edge_api::meta;
use edge_api::status::Status;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// An object as a client sent it.
#[derive(Debug)]
pub(crate) struct Body {
    /// The object.
    pub(crate) object: Object,
    /// Fields that stood there twice; the last one counted.
    pub(crate) doubled: Vec<String>,
}

impl From<Object> for Body {
    fn from(object: Object) -> Body {
        Body { object, doubled: Vec::new() }
    }
}

/// Reads a body into an object.
pub(crate) fn parse(bytes: &[u8], body: BodyType, kind: &Kind) -> Result<Body, Status> {
    let fail = |why: String| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get \
             version/kind; {why}",
            kind.kind
        ))
    };
    let body = match body {
        BodyType::Json => parse_json(bytes).map_err(|e| fail(format!("json parse error: {e}")))?,
        BodyType::Yaml => {
            let object: Object = serde_yaml::from_slice(bytes)
                .map_err(|e| fail(format!("error converting YAML to JSON: yaml: {e}")))?;
            Body::from(object)
        }
    };
    if body.object.is_object() { Ok(body) } else { Err(fail("it is not an object".to_owned())) }
}

/// Reads the body of a request that is not an object of its path's kind.
pub(crate) fn parse_options(bytes: &[u8], body: BodyType) -> Result<Object, Status> {
    let object: Object = match body {
        BodyType::Json => serde_json::from_slice(bytes)
            .map_err(|e| Status::bad_request(format!("the body is not JSON: {e}")))?,
        BodyType::Yaml => serde_yaml::from_slice(bytes)
            .map_err(|e| Status::bad_request(format!("the body is not YAML: {e}")))?,
    };
    if object.is_object() {
        Ok(object)
    } else {
        Err(Status::bad_request("the body must be an object"))
    }
}

/// Reads JSON, noting fields that stand there twice.
pub(crate) fn parse_json(bytes: &[u8]) -> serde_json::Result<Body> {
    let mut doubled = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let object =
        Watchful { path: String::new(), doubled: &mut doubled }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(Body { object, doubled })
}

/// How many doubled fields are remembered; more say nothing new.
const DOUBLED: usize = 16;

struct Watchful<'a> {
    path: String,
    doubled: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Watchful<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Watchful<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            match seq.next_element_seed(Watchful { path, doubled: &mut *self.doubled })? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{key}", self.path);
            if map.contains_key(&key) && self.doubled.len() < DOUBLED {
                self.doubled.push(path.clone());
            }
            let value = access.next_value_seed(Watchful { path, doubled: &mut *self.doubled })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Checks header, types and fields, and brings the object to the form that is stored; the answer
/// is the warnings that the client should see.
pub(crate) fn decode(
    kind: &Kind,
    body: &mut Body,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let decoded = kind.decode(&mut body.object, Strictness::Warn)?;
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let mut complaints: Vec<String> =
        body.doubled.iter().map(|path| format!("duplicate field \"{path}\"")).collect();
    complaints.extend(decoded.warnings());
    if validation == FieldValidation::Strict && !complaints.is_empty() {
        return Err(Status::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: strict decoding error: \
             {}",
            complaints.join(", "),
            name = kind.kind,
            version = kind.version,
        )));
    }
    Ok(complaints)
}

/// Checks the namespace in the object against the path's, and fills it in.
pub(crate) fn check_namespace(
    kind: &Kind,
    object: &mut Object,
    namespace: &str,
) -> Result<(), Status> {
    if !kind.namespaced {
        meta::remove(object, "namespace");
        return Ok(());
    }
    if namespace.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let given = meta::namespace(object);
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::set(object, "namespace", namespace);
    Ok(())
}

/// Reads a value of a type that is only looked into.
pub(crate) fn peek<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_fields_are_noted_and_the_last_counts() {
        let body = parse_json(br#"{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":3}"#).unwrap();
        assert_eq!(body.object, serde_json::json!({"a": 3, "b": {"c": [{"d": 2}]}}));
        assert_eq!(body.doubled, ["b.c[0].d", "a"]);
        assert!(parse_json(b"{} x").is_err());
        let deep = "[".repeat(100_000);
        assert!(parse_json(deep.as_bytes()).is_err());
    }
}
