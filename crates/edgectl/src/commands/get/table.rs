//! The server's tables as text.

use super::{Ask, Get};
use crate::output::Format;
use crate::output::age;
use crate::output::tabs::Rows;
use edge_api::Object;
use jiff::Timestamp;
use serde_json::json;

/// Prints the tables of one kind, in columns that stay lined up.
pub(super) struct Printer {
    wide: bool,
    /// Headers are still to be printed.
    headers: bool,
    namespace: bool,
    /// Goes before each name, as in `deployment.apps/`.
    prefix: String,
    labels: bool,
    label_columns: Vec<String>,
    /// Which of the server's columns are shown, and how they are called.
    columns: Vec<(usize, String)>,
    rows: Rows,
}

impl Printer {
    pub(super) fn new(args: &Get, format: &Format, ask: &Ask, with_kind: bool) -> Printer {
        Printer {
            wide: matches!(format, Format::Table { wide: true }),
            headers: !args.no_headers,
            namespace: ask.across,
            prefix: match with_kind {
                true => format!("{}/", ask.target.resource.singular_name()),
                false => String::new(),
            },
            labels: args.show_labels,
            label_columns: args.label_columns.clone(),
            columns: Vec::new(),
            rows: Rows::default(),
        }
    }

    /// The rows of a table as lines, with headers the first time.
    pub(super) fn render(&mut self, table: &Object) -> String {
        if let Some(defined) = table["columnDefinitions"].as_array().filter(|d| !d.is_empty()) {
            self.columns = defined
                .iter()
                .enumerate()
                .filter(|(_, c)| self.wide || c["priority"].as_i64().unwrap_or(0) == 0)
                .map(|(n, c)| (n, c["name"].as_str().unwrap_or("").to_uppercase()))
                .collect();
        }
        let mut lines = Vec::new();
        if std::mem::take(&mut self.headers) {
            lines.push(self.header());
        }
        for row in table["rows"].as_array().into_iter().flatten() {
            lines.push(self.line(row));
        }
        self.rows.render(&lines)
    }

    fn header(&self) -> Vec<String> {
        let mut line = Vec::new();
        if self.namespace {
            line.push("NAMESPACE".to_string());
        }
        line.extend(self.columns.iter().map(|(_, name)| name.clone()));
        for label in &self.label_columns {
            let short = label.rsplit('/').next().unwrap_or(label);
            line.push(short.to_uppercase());
        }
        if self.labels {
            line.push("LABELS".to_string());
        }
        line
    }

    fn line(&self, row: &Object) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let mut line = Vec::new();
        if self.namespace {
            line.push(metadata["namespace"].as_str().unwrap_or("").to_string());
        }
        for (place, (n, _)) in self.columns.iter().enumerate() {
            let text = cell(&row["cells"][*n]);
            line.push(if place == 0 { format!("{}{text}", self.prefix) } else { text });
        }
        for label in &self.label_columns {
            let value = metadata["labels"][label.as_str()].as_str();
            line.push(value.unwrap_or("").to_string());
        }
        if self.labels {
            line.push(labels(&metadata["labels"]));
        }
        line
    }
}

/// `a=b,c=d`, or `<none>`.
fn labels(labels: &Object) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if pairs.is_empty() { "<none>".to_string() } else { pairs.join(",") }
}

fn cell(value: &Object) -> String {
    match value {
        Object::Null => "<none>".to_string(),
        Object::String(text) => match text.split_once(['\n', '\r']) {
            Some((first, _)) => format!("{first}..."),
            None => text.clone(),
        },
        other => other.to_string(),
    }
}

/// A table; made here, with names and ages, when the server gave plain objects.
pub(super) fn of(mut object: Object) -> Object {
    if object["kind"] == "Table" {
        return object;
    }
    let metadata = object["metadata"].clone();
    let items = match object["items"].take() {
        Object::Array(items) => items,
        _ => vec![object],
    };
    let now = Timestamp::now();
    let row = |item: Object| {
        let created = item["metadata"]["creationTimestamp"].as_str().unwrap_or("");
        let cells = json!([item["metadata"]["name"], age::since(created, now)]);
        json!({"cells": cells, "object": item})
    };
    json!({
        "kind": "Table",
        "metadata": metadata,
        "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Age", "priority": 0}],
        "rows": items.into_iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer() -> Printer {
        Printer {
            wide: false,
            headers: true,
            namespace: false,
            prefix: String::new(),
            labels: false,
            label_columns: Vec::new(),
            columns: Vec::new(),
            rows: Rows::default(),
        }
    }

    fn pods() -> Object {
        json!({"kind": "Table",
               "columnDefinitions": [{"name": "Name", "priority": 0},
                                     {"name": "Ready", "priority": 0},
                                     {"name": "IP", "priority": 1}],
               "rows": [{"cells": ["web-1", "1/1", "10.42.0.2"],
                         "object": {"metadata": {"namespace": "shop",
                                                 "labels": {"app": "web", "x.io/tier": "f"}}}},
                        {"cells": ["b", "0/1", null], "object": {"metadata": {}}}]})
    }

    #[test]
    fn plain_and_wide() {
        assert_eq!(printer().render(&pods()), "NAME    READY\nweb-1   1/1\nb       0/1\n");
        let mut wide = Printer { wide: true, ..printer() };
        assert_eq!(
            wide.render(&pods()),
            "NAME    READY   IP\nweb-1   1/1     10.42.0.2\nb       0/1     <none>\n"
        );
    }

    #[test]
    fn namespaces_kinds_and_labels() {
        let mut all = Printer {
            namespace: true,
            prefix: "pod/".to_string(),
            labels: true,
            label_columns: vec!["x.io/tier".to_string()],
            ..printer()
        };
        assert_eq!(
            all.render(&pods()),
            "NAMESPACE   NAME        READY   TIER   LABELS\n\
             shop        pod/web-1   1/1     f      app=web,x.io/tier=f\n\
             \x20           pod/b       0/1            <none>\n"
        );
    }

    #[test]
    fn later_tables_have_neither_headers_nor_column_definitions() {
        let mut printer = printer();
        printer.render(&pods());
        let next = json!({"rows": [{"cells": ["two\nlines", 3], "object": {"metadata": {}}}]});
        assert_eq!(printer.render(&next), "two...   3\n");
    }

    #[test]
    fn objects_become_a_table_of_names() {
        let list = json!({"kind": "FooList", "metadata": {"resourceVersion": "7"},
                          "items": [{"metadata": {"name": "a"}}]});
        let table = of(list);
        assert_eq!(table["metadata"]["resourceVersion"], "7");
        assert_eq!(printer().render(&table), "NAME   AGE\na      <unknown>\n");
    }
}
