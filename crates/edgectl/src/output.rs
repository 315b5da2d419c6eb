//! Turning objects into text: tables, YAML, JSON, names, JSONPath, columns of one's own.

pub(crate) mod age;
pub(crate) mod columns;
pub(crate) mod jsonpath;
pub(crate) mod tabs;
pub(crate) mod yaml;

use crate::fault::Fault;
use crate::resource::Resource;
use columns::Columns;
use edge_api::Object;
use edge_api::kinds::split_api_version;
use jsonpath::Template;
use serde::Serialize;

/// What `-o` asked for.
#[derive(Debug)]
pub(crate) enum Format {
    /// The server's table; `wide` shows the less important columns too.
    Table {
        wide: bool,
    },
    Yaml,
    Json,
    Name,
    Template(Template),
    Columns(Columns),
}

impl Format {
    /// Reads the value of `-o`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Format, Fault> {
        let Some(text) = text else { return Ok(Format::Table { wide: false }) };
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("" | "table", None) => Ok(Format::Table { wide: false }),
            ("wide", None) => Ok(Format::Table { wide: true }),
            ("yaml", None) => Ok(Format::Yaml),
            ("json", None) => Ok(Format::Json),
            ("name", None) => Ok(Format::Name),
            ("jsonpath", Some(template)) => Ok(Format::Template(Template::parse(template)?)),
            ("jsonpath-file", Some(path)) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|error| Fault::io(format!("read {path}"), error))?;
                Ok(Format::Template(Template::parse(&text)?))
            }
            ("custom-columns", Some(spec)) => Ok(Format::Columns(Columns::parse(spec)?)),
            ("jsonpath" | "custom-columns", None) => {
                Err(Fault::text(format!("-o {name} needs a template: -o {name}=…")))
            }
            _ => Err(Fault::text(format!(
                "unable to match a printer suitable for the output format {text:?}, allowed \
                 formats are: custom-columns, json, jsonpath, jsonpath-file, name, wide, yaml"
            ))),
        }
    }

    /// Whether a table was asked for.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Format::Table { .. })
    }

    /// Prints one object, or one list. Tables are not made here.
    pub(crate) fn render(&self, object: &Object) -> Result<String, Fault> {
        match self {
            Format::Table { .. } => Ok(String::new()),
            Format::Yaml => Ok(yaml::write(object)),
            Format::Json => json(object),
            Format::Name => Ok(names(object)),
            Format::Template(template) => template.render(object),
            Format::Columns(columns) => columns.render(object),
        }
    }
}

/// JSON, indented by four as `kubectl` does.
pub(crate) fn json(object: &Object) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    object
        .serialize(&mut serializer)
        .map_err(|error| Fault::text(format!("write JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `pod/web` for an object, a line for each item of a list.
fn names(object: &Object) -> String {
    match object["items"].as_array() {
        Some(items) => items.iter().map(names).collect(),
        None => format!("{}\n", reference(object)),
    }
}

/// `deployment.apps/web`.
pub(crate) fn reference(object: &Object) -> String {
    let (group, _) = split_api_version(object["apiVersion"].as_str().unwrap_or(""));
    let kind = object["kind"].as_str().unwrap_or("").to_ascii_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    match group {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

/// Takes out what people do not want to see.
pub(crate) fn tidy(object: &mut Object) {
    if let Some(items) = object.get_mut("items").and_then(Object::as_array_mut) {
        items.iter_mut().for_each(tidy);
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Object::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// Several objects as one `List`, as `kubectl` prints them.
pub(crate) fn list_of(items: Vec<Object>) -> Object {
    serde_json::json!({
        "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items,
    })
}

/// `pod/web` from the parts.
pub(crate) fn name_of(resource: &Resource, name: &str) -> String {
    format!("{}/{name}", resource.singular_name())
}
