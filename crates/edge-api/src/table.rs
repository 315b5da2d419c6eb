//! Tables as `kubectl get` shows them: the columns of each kind, the cells of an object, and ages
//! in words. The words are what people read all day, so they are exactly Kubernetes' own.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::selector::LabelSelector;
use crate::{Object, meta, time};

mod access;
mod ingress;
mod network;
mod other;
mod pod;
mod policy;

pub(crate) use access::{ROLE, ROLE_BINDING};
pub(crate) use ingress::{INGRESS, INGRESS_CLASS};
pub(crate) use network::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
pub(crate) use other::{
    CONFIG_MAP, DEPLOYMENT, EVENT, LEASE, NAMESPACE, NODE, PLAIN, REPLICA_SET, SECRET,
    SERVICE_ACCOUNT,
};
pub(crate) use pod::POD;
pub use pod::status_word as pod_status;
pub(crate) use policy::NETWORK_POLICY;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// the heading: `Up-to-date`
    pub name: &'static str,
    /// `string` or `integer`
    pub ty: &'static str,
    /// `name` for the object's name
    pub format: &'static str,
    /// what it says
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide` only
    pub priority: i32,
}

/// The table of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// the columns
    pub(crate) columns: &'static [Column],
    /// the cells of one object
    pub(crate) cells: fn(&Object, Timestamp) -> Vec<Value>,
}

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, ty: "string", format: "", description, priority: 0 }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { ty: "integer", ..text(name, description) }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..text(name, description) }
}

const NAME: Column = Column {
    format: "name",
    ..text("Name", "Name must be unique within a namespace, or within the cluster.")
};
const AGE: Column = text("Age", "How long ago the object was made.");

impl Kind {
    /// The columns of a table of this kind.
    pub fn columns(&self) -> &'static [Column] {
        self.table.columns
    }

    /// The cells of an object, one for each column.
    pub fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        (self.table.cells)(object, now)
    }

    /// `columnDefinitions` of a `Table`.
    pub fn column_definitions(&self) -> Value {
        let column = |column: &Column| {
            json!({"name": column.name, "type": column.ty, "format": column.format,
                   "description": column.description, "priority": column.priority})
        };
        self.columns().iter().map(column).collect()
    }
}

/// A span of milliseconds as people read it: `45s`, `5m3s`, `3h`, `5d3h`, `2y34d`.
pub fn human_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit}{small}{small_unit}")
        }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match () {
        () if seconds < -1 => "<invalid>".to_string(),
        () if seconds < 0 => "0s".to_string(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

/// How long ago a time was; `<unknown>` when it is not set.
pub fn since(stamp: &Value, now: Timestamp) -> String {
    match stamp.as_str().and_then(time::parse) {
        Some(ms) => human_duration(now.as_millisecond().saturating_sub(ms)),
        None => "<unknown>".to_string(),
    }
}

fn age(object: &Object, now: Timestamp) -> Value {
    json!(since(&object["metadata"]["creationTimestamp"], now))
}

fn name(object: &Object) -> Value {
    json!(meta::name(object))
}

/// Text, or a word for its absence.
fn or<'a>(value: &'a Value, absent: &'a str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(absent)
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_string() } else { text }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// A label selector of a spec, as text.
fn selector_text(selector: &Value) -> String {
    LabelSelector::from_object(selector).map_or("<error>".to_string(), |s| or_none(s.to_string()))
}

/// A plain map of labels, as text.
fn labels_text(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(pairs.join(","))
}

/// One field of each container, joined by commas: names or images.
fn containers_text(template: &Value, field: &str) -> String {
    let containers = list(&template["spec"]["containers"]);
    let texts: Vec<&str> = containers.iter().map(|c| c[field].as_str().unwrap_or("")).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests;
