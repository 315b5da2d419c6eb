//! The page about an object whose kind has none of its own: its metadata, then every field, with
//! the names of fields spelt out.

use super::paper::Paper;
use super::{heading, text};
use edge_api::Object;

/// Metadata that nobody reads.
const SKIPPED: [&str; 5] = ["managedFields", "name", "namespace", "labels", "annotations"];

pub(super) fn write(object: &Object, paper: &mut Paper) {
    heading(object, paper);
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.line(0, format!("API Version:\t{}", text(&object["apiVersion"])));
    paper.line(0, format!("Kind:\t{}", text(&object["kind"])));
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let mut metadata = value.clone();
                if let Some(map) = metadata.as_object_mut() {
                    SKIPPED.iter().for_each(|skipped| drop(map.remove(*skipped)));
                }
                field(0, key, &metadata, paper);
            }
            _ => field(0, key, value, paper),
        }
    }
}

fn field(level: usize, key: &str, value: &Object, paper: &mut Paper) {
    let title = spell(key);
    match value {
        Object::Object(map) if map.is_empty() => {}
        Object::Object(map) => {
            paper.line(level, format!("{title}:"));
            map.iter().for_each(|(key, value)| field(level + 1, key, value, paper));
        }
        Object::Array(items) => {
            paper.line(level, format!("{title}:"));
            for item in items {
                match item {
                    Object::Object(map) => {
                        map.iter().for_each(|(key, value)| field(level + 1, key, value, paper));
                    }
                    other => paper.line(level + 1, text(other).replace('\t', " ")),
                }
            }
        }
        other => paper.line(level, format!("{title}:\t{}", text(other).replace('\t', " "))),
    }
}

/// `maxSurge` is `Max Surge`, `clusterIP` is `Cluster IP`.
fn spell(key: &str) -> String {
    if key.contains(['.', '/', '-']) {
        return key.to_string();
    }
    let mut title = String::new();
    let mut before = ' ';
    for c in key.chars() {
        match title.is_empty() {
            true => title.extend(c.to_uppercase()),
            false => {
                if c.is_uppercase() && before.is_lowercase() {
                    title.push(' ');
                }
                title.push(c);
            }
        }
        before = c;
    }
    title
}
