//! Lines with levels and columns, and the parts that many pages share.

use super::{items, or_none, text};
use crate::output::{age, tabs};
use edge_api::{Object, meta};
use jiff::Timestamp;
use std::fmt::Display;

/// Annotations that are only noise to a reader.
const HIDDEN: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The longest value of an annotation that stays on the line of its key.
const LONG: usize = 140;

/// A page in the making.
pub(crate) struct Paper {
    text: String,
    now: Timestamp,
}

impl Paper {
    pub(super) fn new(now: Timestamp) -> Paper {
        Paper { text: String::new(), now }
    }

    /// A line, indented by two spaces for each level. Tabs in it make columns.
    pub(super) fn line(&mut self, level: usize, line: impl Display) {
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// The whole, with its columns lined up.
    pub(super) fn finish(self) -> String {
        tabs::DESCRIBE.align(&self.text)
    }

    /// `Labels:` and one pair a line.
    pub(super) fn map(&mut self, level: usize, title: &str, map: &Object, between: &str) {
        let pairs = map.as_object().into_iter().flatten();
        let mut lines = pairs.map(|(key, value)| format!("{key}{between}{}", text(value)));
        let first = lines.next();
        self.line(level, format!("{title}:\t{}", first.as_deref().unwrap_or("<none>")));
        for line in lines {
            self.line(level, format!("\t{line}"));
        }
    }

    /// Labels, in the middle of a page.
    pub(super) fn labels(&mut self, object: &Object) {
        self.map(0, "Labels", &object["metadata"]["labels"], "=");
    }

    /// Annotations; long values stand below their keys.
    pub(super) fn annotations(&mut self, annotations: &Object) {
        let mut title = "Annotations:";
        for (key, value) in annotations.as_object().into_iter().flatten() {
            if key == HIDDEN {
                continue;
            }
            let value = text(value);
            let value = value.strip_suffix('\n').unwrap_or(&value);
            if value.contains('\n') || value.len() + key.len() + 2 > LONG {
                self.line(0, format!("{title}\t{key}:"));
                for line in value.lines() {
                    self.line(0, format!("\t  {line}"));
                }
            } else {
                self.line(0, format!("{title}\t{key}: {value}"));
            }
            title = "";
        }
        if !title.is_empty() {
            self.line(0, "Annotations:\t<none>");
        }
    }

    /// A moment as `kubectl` writes it, in UTC.
    pub(super) fn moment(&self, value: &Object) -> String {
        match value.as_str().map(str::parse::<Timestamp>) {
            Some(Ok(moment)) => moment.strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
            _ => "<unset>".to_string(),
        }
    }

    /// How long ago a moment was.
    pub(super) fn age(&self, value: &Object) -> String {
        age::since(value.as_str().unwrap_or(""), self.now)
    }

    /// `Controlled By:`, when something does.
    pub(super) fn controller(&mut self, object: &Object) {
        if let Some(owner) = meta::controller(object) {
            self.line(0, format!("Controlled By:\t{}/{}", owner.kind, owner.name));
        }
    }

    /// A table: its header is underlined, and its rows stand one level deeper than its title.
    pub(super) fn table(&mut self, level: usize, header: &[&str], rows: &[Vec<String>]) {
        self.line(level, header.join("\t"));
        let under: Vec<String> = header.iter().map(|word| "-".repeat(word.len())).collect();
        self.line(level, under.join("\t"));
        for row in rows {
            self.line(level, row.join("\t"));
        }
    }

    /// `Events:`, oldest first.
    pub(super) fn events(&mut self, events: &[Object]) {
        if events.is_empty() {
            self.line(0, "Events:\t<none>");
            return;
        }
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in events {
            let row = self.event(event).join("\t");
            self.line(1, row);
        }
    }

    fn event(&self, event: &Object) -> Vec<String> {
        let first = moment_of(event, &["firstTimestamp", "eventTime"]);
        let last = match event["series"]["lastObservedTime"].as_str() {
            Some(_) => &event["series"]["lastObservedTime"],
            None => moment_of(event, &["lastTimestamp", "eventTime", "firstTimestamp"]),
        };
        let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
        let when = match count {
            0 | 1 => self.age(if first.is_null() { last } else { first }),
            count => format!("{} (x{count} over {})", self.age(last), self.age(first)),
        };
        let source = event["source"]["component"].as_str().filter(|text| !text.is_empty());
        let source = source.or(event["reportingComponent"].as_str()).unwrap_or("");
        let message = event["message"].as_str().unwrap_or("").trim();
        vec![
            text(&event["type"]),
            text(&event["reason"]),
            when,
            source.to_string(),
            message.replace('\n', " "),
        ]
    }

    /// `Tolerations:`, one a line.
    pub(super) fn tolerations(&mut self, level: usize, tolerations: &Object) {
        let mut title = "Tolerations:";
        for one in items(tolerations) {
            let (key, value) = (text(&one["key"]), text(&one["value"]));
            let mut line = key;
            if !value.is_empty() {
                line = format!("{line}={value}");
            }
            let effect = text(&one["effect"]);
            if !effect.is_empty() {
                line = format!("{line}:{effect}");
            }
            if one["operator"] == "Exists" && value.is_empty() {
                line =
                    if line.is_empty() { "op=Exists".into() } else { format!("{line} op=Exists") };
            }
            if let Some(seconds) = one["tolerationSeconds"].as_i64() {
                line = format!("{line} for {seconds}s");
            }
            self.line(level, format!("{title}\t{line}"));
            title = "";
        }
        if !title.is_empty() {
            self.line(level, "Tolerations:\t<none>");
        }
    }

    /// A line with a title and a text, or `<none>`.
    pub(super) fn field(&mut self, level: usize, title: &str, value: &Object) {
        let value = text(value);
        self.line(level, format!("{title}:\t{}", or_none(&value)));
    }
}

fn moment_of<'a>(event: &'a Object, fields: &[&str]) -> &'a Object {
    let found = fields.iter().map(|field| &event[*field]).find(|value| value.is_string());
    found.unwrap_or(&Object::Null)
}
