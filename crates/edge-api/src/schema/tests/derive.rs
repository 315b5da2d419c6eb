//! Derives the table from the `k8s-openapi` types, in tests only: a deserializer that hands every
//! type one of everything it asks for, and writes down what it asked for.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{StrDeserializer, UnitDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::k8s::Resource;
use crate::k8s::api;

#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl serde::de::Error for Failed {
    fn custom<T: fmt::Display>(message: T) -> Failed {
        Failed(message.to_string())
    }
}

/// What was learned: the fields of each type, and the text that asks are answered with.
struct Notes {
    types: BTreeMap<String, Vec<(String, String)>>,
    api_version: &'static str,
    kind: &'static str,
}

/// Answers one value, and leaves the code of its type in `code`.
struct Tracer<'a> {
    notes: &'a mut Notes,
    code: &'a mut String,
    text: &'static str,
}

impl<'a> Tracer<'a> {
    fn note(self, code: &str) -> StrDeserializer<'static, Failed> {
        self.code.push_str(code);
        self.text.into_deserializer()
    }
}

/// `k8s_openapi::v1_33::api::core::v1::container::Container` is `core.v1.Container`.
fn definition_name(rust: &str) -> String {
    let parts: Vec<&str> = rust.split("::").skip(2).collect();
    let skip = if parts[0] == "api" { 1 } else { 3 };
    let mut kept: Vec<&str> = parts[skip..parts.len() - 2].to_vec();
    kept.push(parts[parts.len() - 1]);
    kept.join(".")
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let name = type_name::<V::Value>();
        let code = if name.ends_with("IntOrString") { "x" } else { "*" };
        match code {
            "x" => self.note(code).deserialize_any(visitor),
            _ => {
                self.code.push_str(code);
                UnitDeserializer::<Failed>::new().deserialize_any(visitor)
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('b');
        visitor.visit_bool(false)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('i');
        visitor.visit_i32(0)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('l');
        visitor.visit_i64(0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('d');
        visitor.visit_f64(0.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.note("s").deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.note("s").deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        if type_name::<V::Value>().ends_with("ByteString") {
            self.code.push('y');
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let (code, answer) = match name {
            "Quantity" => ("q", "0"),
            "Time" => ("t", "1970-01-01T00:00:00Z"),
            "MicroTime" => ("u", "1970-01-01T00:00:00.000000Z"),
            _ => {
                self.code.push('*');
                return visitor.visit_newtype_struct(UnitDeserializer::<Failed>::new());
            }
        };
        self.code.push_str(code);
        visitor.visit_newtype_struct(StrDeserializer::<Failed>::new(answer))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('[');
        visitor.visit_seq(Once { notes: self.notes, code: self.code, done: false })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.code.push('{');
        visitor.visit_map(Once { notes: self.notes, code: self.code, done: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let name = definition_name(type_name::<V::Value>());
        self.code.push_str(&format!("@{name}"));
        let known = self.notes.types.contains_key(&name);
        if !known {
            self.notes.types.insert(name.clone(), Vec::new());
        }
        let fields = if known { &[][..] } else { fields };
        visitor.visit_map(Fields { notes: self.notes, name, fields, field: "" })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier
    }
}

/// A list of one item, or a map of one entry.
struct Once<'a> {
    notes: &'a mut Notes,
    code: &'a mut String,
    done: bool,
}

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Failed;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failed> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        seed.deserialize(Tracer { notes: self.notes, code: self.code, text: "" }).map(Some)
    }
}

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Failed;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failed> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        seed.deserialize(StrDeserializer::<Failed>::new("key")).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failed> {
        seed.deserialize(Tracer { notes: self.notes, code: self.code, text: "" })
    }
}

/// The fields of a struct, one after the other.
struct Fields<'a> {
    notes: &'a mut Notes,
    name: String,
    fields: &'static [&'static str],
    field: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Failed;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failed> {
        let Some((field, rest)) = self.fields.split_first() else { return Ok(None) };
        (self.field, self.fields) = (field, rest);
        seed.deserialize(StrDeserializer::<Failed>::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failed> {
        let text = match self.field {
            "apiVersion" => self.notes.api_version,
            "kind" => self.notes.kind,
            _ => "",
        };
        let mut code = String::new();
        let value = seed.deserialize(Tracer { notes: self.notes, code: &mut code, text })?;
        let fields = self.notes.types.get_mut(&self.name);
        let fields = fields.ok_or_else(|| Failed::custom("a type that nobody started"))?;
        fields.push((self.field.to_string(), code));
        Ok(value)
    }
}

fn trace<T: DeserializeOwned + Resource>(notes: &mut Notes) {
    (notes.api_version, notes.kind) = (T::API_VERSION, T::KIND);
    let mut code = String::new();
    T::deserialize(Tracer { notes, code: &mut code, text: "" })
        .unwrap_or_else(|failed| panic!("{}: {failed}", T::KIND));
}

fn derived() -> Vec<String> {
    let mut notes = Notes { types: BTreeMap::new(), api_version: "", kind: "" };
    let notes_mut = &mut notes;
    trace::<api::apps::v1::Deployment>(notes_mut);
    trace::<api::apps::v1::ReplicaSet>(notes_mut);
    trace::<api::authentication::v1::SelfSubjectReview>(notes_mut);
    trace::<api::authentication::v1::TokenRequest>(notes_mut);
    trace::<api::authentication::v1::TokenReview>(notes_mut);
    trace::<api::authorization::v1::LocalSubjectAccessReview>(notes_mut);
    trace::<api::authorization::v1::SelfSubjectAccessReview>(notes_mut);
    trace::<api::authorization::v1::SelfSubjectRulesReview>(notes_mut);
    trace::<api::authorization::v1::SubjectAccessReview>(notes_mut);
    trace::<api::autoscaling::v1::Scale>(notes_mut);
    trace::<api::coordination::v1::Lease>(notes_mut);
    trace::<api::core::v1::Binding>(notes_mut);
    trace::<api::core::v1::ConfigMap>(notes_mut);
    trace::<api::core::v1::Endpoints>(notes_mut);
    trace::<api::core::v1::Event>(notes_mut);
    trace::<api::core::v1::Namespace>(notes_mut);
    trace::<api::core::v1::Node>(notes_mut);
    trace::<api::core::v1::Pod>(notes_mut);
    trace::<api::core::v1::Secret>(notes_mut);
    trace::<api::core::v1::Service>(notes_mut);
    trace::<api::core::v1::ServiceAccount>(notes_mut);
    trace::<api::discovery::v1::EndpointSlice>(notes_mut);
    trace::<api::networking::v1::Ingress>(notes_mut);
    trace::<api::networking::v1::IngressClass>(notes_mut);
    trace::<api::networking::v1::NetworkPolicy>(notes_mut);
    trace::<api::policy::v1::Eviction>(notes_mut);
    trace::<api::rbac::v1::ClusterRole>(notes_mut);
    trace::<api::rbac::v1::ClusterRoleBinding>(notes_mut);
    trace::<api::rbac::v1::Role>(notes_mut);
    trace::<api::rbac::v1::RoleBinding>(notes_mut);
    notes
        .types
        .iter()
        .map(|(name, fields)| {
            let mut fields: Vec<String> =
                fields.iter().map(|(field, code)| format!(" {field}:{code}")).collect();
            fields.sort();
            format!("{name}{}", fields.concat())
        })
        .collect()
}

/// When this fails, put the lines that it prints in the place of `types.txt`:
/// `cargo test -q -p edge-api table_is_current -- --nocapture | sed -n 's/^type //p'`.
#[test]
fn table_is_current() {
    let derived = derived();
    let current = super::super::TABLE.lines().eq(derived.iter().map(String::as_str));
    if !current {
        println!();
        derived.iter().for_each(|line| println!("type {line}"));
    }
    assert!(current, "src/schema/types.txt is not what the k8s-openapi types say");
}
