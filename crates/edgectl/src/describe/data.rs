//! The pages about ConfigMaps, Secrets and Namespaces.

use super::paper::Paper;
use super::{heading, text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge_api::Object;

pub(super) fn config_map(object: &Object, paper: &mut Paper) {
    heading(object, paper);
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.line(0, "");
    paper.line(0, "Data");
    paper.line(0, "====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        paper.line(0, format!("{key}:"));
        paper.line(0, "----");
        // A tab in the data is data, not a column.
        paper.line(0, text(value).replace('\t', "    "));
        paper.line(0, "");
    }
    paper.line(0, "");
    paper.line(0, "BinaryData");
    paper.line(0, "====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        paper.line(0, format!("{key}: {} bytes", size(value)));
    }
    paper.line(0, "");
}

pub(super) fn secret(object: &Object, paper: &mut Paper) {
    heading(object, paper);
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.line(0, "");
    paper.line(0, format!("Type:\t{}", text(&object["type"])));
    paper.line(0, "");
    paper.line(0, "Data");
    paper.line(0, "====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        paper.line(0, format!("{key}:\t{} bytes", size(value)));
    }
}

fn size(value: &Object) -> usize {
    STANDARD.decode(value.as_str().unwrap_or("")).map_or(0, |bytes| bytes.len())
}

pub(super) fn namespace(object: &Object, paper: &mut Paper) {
    heading(object, paper);
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.line(0, format!("Status:\t{}", text(&object["status"]["phase"])));
}
