//! Errors about one field of an object, with the path, type and wording Kubernetes gives them, and
//! the paths themselves. A path is a chain on the stack: it costs nothing until it is printed.

use std::fmt;

use serde_json::Value;

/// Where in an object something is: `spec.containers[0].name`.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The whole object.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// A path of one name.
    pub const fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, segment: Segment::Name(name) }
    }

    /// A field below this one. The name may hold dots: `child("a.b")` reads as two steps.
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// An element of this list.
    pub const fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// An entry of this map: `metadata.labels[app]`.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    fn is_root(&self) -> bool {
        matches!(self.segment, Segment::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Name(name) if self.parent.is_none_or(Path::is_root) => f.write_str(name),
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What kind of complaint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// a needed value is missing
    Required,
    /// a value breaks a rule
    Invalid,
    /// a value is not one of those allowed
    NotSupported,
    /// a value that must be unique is there twice
    Duplicate,
    /// a reference points at nothing
    NotFound,
    /// a value may not be set here
    Forbidden,
    /// a value has too many bytes
    TooLong,
    /// a list has too many items
    TooMany,
    /// a value has the wrong type
    TypeInvalid,
}

impl Problem {
    /// The cause's reason in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Problem::Required => "FieldValueRequired",
            Problem::Invalid => "FieldValueInvalid",
            Problem::NotSupported => "FieldValueNotSupported",
            Problem::Duplicate => "FieldValueDuplicate",
            Problem::NotFound => "FieldValueNotFound",
            Problem::Forbidden => "FieldValueForbidden",
            Problem::TooLong => "FieldValueTooLong",
            Problem::TooMany => "FieldValueTooMany",
            Problem::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Problem::Required => "Required value",
            Problem::Invalid | Problem::TypeInvalid => "Invalid value",
            Problem::NotSupported => "Unsupported value",
            Problem::Duplicate => "Duplicate value",
            Problem::NotFound => "Not found",
            Problem::Forbidden => "Forbidden",
            Problem::TooLong => "Too long",
            Problem::TooMany => "Too many",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Problem::Required | Problem::Forbidden | Problem::TooLong)
    }
}

/// One complaint about one field. Displays as `spec.replicas: Invalid value: -1: must be …`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// what kind of complaint
    pub problem: Problem,
    /// the field's path
    pub field: String,
    /// the offending value
    pub value: Value,
    /// what the rule is
    pub detail: String,
}

impl FieldError {
    /// The message without the path, as it stands in `details.causes[].message`.
    pub fn body(&self) -> String {
        let mut text = self.problem.words().to_string();
        if self.problem.shows_value() {
            // serde_json quotes a string much as Go's %q does.
            text.push_str(&format!(": {}", self.value));
        }
        if !self.detail.is_empty() {
            text.push_str(&format!(": {}", self.detail));
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// The complaints gathered while an object is validated.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// No complaints yet.
    pub fn new() -> Errors {
        Errors::default()
    }

    /// Adds a complaint.
    pub fn push(&mut self, problem: Problem, at: &Path<'_>, value: &Value, detail: &str) {
        let (field, detail) = (at.to_string(), detail.to_string());
        self.0.push(FieldError { problem, field, value: value.clone(), detail });
    }

    /// A needed value is missing.
    pub fn required(&mut self, at: &Path<'_>, detail: &str) {
        self.push(Problem::Required, at, &Value::Null, detail);
    }

    /// A value breaks a rule.
    pub fn invalid(&mut self, at: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.push(Problem::Invalid, at, &value.into(), detail);
    }

    /// A value breaks each of these rules.
    pub fn each(&mut self, at: &Path<'_>, value: impl Into<Value>, details: Vec<String>) {
        if details.is_empty() {
            return;
        }
        let value = value.into();
        for detail in details {
            self.push(Problem::Invalid, at, &value, &detail);
        }
    }

    /// A value that must be unique is there twice.
    pub fn duplicate(&mut self, at: &Path<'_>, value: impl Into<Value>) {
        self.push(Problem::Duplicate, at, &value.into(), "");
    }

    /// A reference points at nothing.
    pub fn not_found(&mut self, at: &Path<'_>, value: impl Into<Value>) {
        self.push(Problem::NotFound, at, &value.into(), "");
    }

    /// A value may not be set here.
    pub fn forbidden(&mut self, at: &Path<'_>, detail: &str) {
        self.push(Problem::Forbidden, at, &Value::Null, detail);
    }

    /// A value is not one of those allowed.
    pub fn not_supported(&mut self, at: &Path<'_>, value: impl Into<Value>, allowed: &[&str]) {
        let quoted: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.push(Problem::NotSupported, at, &value.into(), &detail);
    }

    /// A value has more than `max` bytes.
    pub fn too_long(&mut self, at: &Path<'_>, max: usize) {
        let detail = format!("may not be more than {max} bytes");
        self.push(Problem::TooLong, at, &Value::Null, &detail);
    }

    /// How many complaints there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The complaints.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("name").to_string(), "spec.containers[0].name");
        let labels = Path::ROOT.child("metadata.labels");
        assert_eq!(labels.key("app").to_string(), "metadata.labels[app]");
        assert_eq!(Path::ROOT.to_string(), "");
    }

    #[test]
    fn errors_read_as_kubernetes_words_them() {
        let mut errors = Errors::new();
        let at = Path::new("spec");
        errors.required(&at.child("containers"), "");
        errors.required(&at.child("selector"), "must be set");
        errors.invalid(&at.child("replicas"), -1, "must be greater than or equal to 0");
        errors.invalid(&at.child("name"), "A b", "bad");
        errors.duplicate(&at.child("ports").index(1), "http");
        errors.not_found(&at.child("volumeMounts").index(0).child("name"), "data");
        errors.not_supported(&at.child("restartPolicy"), "Maybe", &["Always", "Never"]);
        errors.forbidden(&at.child("x"), "not here");
        errors.too_long(&at.child("y"), 5);
        let lines: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "spec.containers: Required value",
                "spec.selector: Required value: must be set",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.name: Invalid value: \"A b\": bad",
                "spec.ports[1]: Duplicate value: \"http\"",
                "spec.volumeMounts[0].name: Not found: \"data\"",
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \
                 \"Never\"",
                "spec.x: Forbidden: not here",
                "spec.y: Too long: may not be more than 5 bytes",
            ]
        );
    }
}
