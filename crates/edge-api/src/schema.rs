//! The shapes of all objects as one small table: which fields a type has, and of which type each
//! is. It is derived from the `k8s-openapi` types (a test traces them and proves it current), so
//! that checking an object, merging a patch and describing the API need no code for each type.

use std::sync::OnceLock;

pub mod decode;
mod merge;

pub use merge::Merge;

/// The table: one line for each type, its name and then `field:type`. See [`Type`] for the codes.
const TABLE: &str = include_str!("schema/types.txt");

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `s`: text
    Text,
    /// `b`: true or false
    Bool,
    /// `i`: a number of 32 bits
    Int32,
    /// `l`: a number of 64 bits
    Int64,
    /// `d`: a number with a fraction
    Double,
    /// `q`: a quantity
    Quantity,
    /// `x`: a number or text
    IntOrString,
    /// `t`: a time in whole seconds
    Time,
    /// `u`: a time in microseconds
    MicroTime,
    /// `y`: bytes in base64
    Bytes,
    /// `*`: any JSON
    Any,
    /// `[T`: a list
    List(Box<Type>),
    /// `{T`: a map from text
    Map(Box<Type>),
    /// `@name`: an object of a named type
    Object(Name),
}

/// The name of a type: `core.v1.Container`, `meta.v1.ObjectMeta`.
pub type Name = &'static str;

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// the field's name in JSON
    pub name: &'static str,
    /// the field's type
    pub ty: Type,
    /// how a strategic merge patch treats it
    pub merge: Merge,
}

/// One named type.
#[derive(Debug)]
pub struct Definition {
    /// `core.v1.Container`
    pub name: Name,
    /// its fields, sorted by name
    pub fields: Vec<Field>,
}

impl Definition {
    /// A field by name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(at)
    }

    /// The name of the Go type: `Container`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The name in an OpenAPI document: `io.k8s.api.core.v1.Container`.
    pub fn openapi_name(&self) -> String {
        openapi_name(self.name)
    }
}

/// The name of a type in an OpenAPI document.
pub fn openapi_name(name: &str) -> String {
    if name.starts_with("meta.") {
        format!("io.k8s.apimachinery.pkg.apis.{name}")
    } else {
        format!("io.k8s.api.{name}")
    }
}

/// Every type, sorted by name.
pub fn definitions() -> &'static [Definition] {
    static TYPES: OnceLock<Vec<Definition>> = OnceLock::new();
    TYPES.get_or_init(|| TABLE.lines().filter_map(read_line).collect())
}

/// A type by name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    let all = definitions();
    let at = all.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    all.get(at)
}

fn read_line(line: &'static str) -> Option<Definition> {
    let mut words = line.split(' ');
    let name = words.next().filter(|name| !name.is_empty())?;
    let fields = words.filter_map(|word| {
        let (field, code) = word.split_once(':')?;
        Some(Field { name: field, ty: read_type(code)?, merge: merge::of(name, field) })
    });
    Some(Definition { name, fields: fields.collect() })
}

fn read_type(code: &'static str) -> Option<Type> {
    let rest = code.get(1..)?;
    Some(match code.as_bytes()[0] {
        b's' => Type::Text,
        b'b' => Type::Bool,
        b'i' => Type::Int32,
        b'l' => Type::Int64,
        b'd' => Type::Double,
        b'q' => Type::Quantity,
        b'x' => Type::IntOrString,
        b't' => Type::Time,
        b'u' => Type::MicroTime,
        b'y' => Type::Bytes,
        b'*' => Type::Any,
        b'[' => Type::List(Box::new(read_type(rest)?)),
        b'{' => Type::Map(Box::new(read_type(rest)?)),
        b'@' => Type::Object(rest),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
