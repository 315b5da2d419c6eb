//! The page about a Service.

use super::paper::Paper;
use super::{Subject, heading, items, or_none, text};
use edge_api::Object;

/// More endpoints than this are only counted.
const SHOWN: usize = 3;

pub(super) fn write(subject: &Subject, paper: &mut Paper) {
    let object = &subject.object;
    let spec = &object["spec"];
    heading(object, paper);
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    let pairs = spec["selector"].as_object().into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", text(value))).collect();
    let selector = pairs.join(",");
    paper.line(0, format!("Selector:\t{}", or_none(&selector)));
    paper.line(0, format!("Type:\t{}", text(&spec["type"])));
    if spec["ipFamilyPolicy"].is_string() {
        paper.line(0, format!("IP Family Policy:\t{}", text(&spec["ipFamilyPolicy"])));
    }
    for (title, field) in [("IP Families", "ipFamilies"), ("IP", ""), ("IPs", "clusterIPs")] {
        if field.is_empty() {
            paper.line(0, format!("IP:\t{}", text(&spec["clusterIP"])));
            continue;
        }
        let all: Vec<String> = items(&spec[field]).iter().map(text).collect();
        let all = all.join(",");
        paper.line(0, format!("{title}:\t{}", or_none(&all)));
    }
    for (title, field) in [("External IPs", "externalIPs"), ("External Name", "externalName")] {
        let all: Vec<String> = items(&spec[field]).iter().map(text).collect();
        let value = if all.is_empty() { text(&spec[field]) } else { all.join(",") };
        if !value.is_empty() {
            paper.line(0, format!("{title}:\t{value}"));
        }
    }
    for port in items(&spec["ports"]) {
        one_port(port, &subject.slices, paper);
    }
    paper.field(0, "Session Affinity", &spec["sessionAffinity"]);
    for (title, field) in [
        ("External Traffic Policy", "externalTrafficPolicy"),
        ("Internal Traffic Policy", "internalTrafficPolicy"),
    ] {
        if spec[field].is_string() {
            paper.line(0, format!("{title}:\t{}", text(&spec[field])));
        }
    }
}

fn one_port(port: &Object, slices: &[Object], paper: &mut Paper) {
    let name = text(&port["name"]);
    let shown = if name.is_empty() { "<unset>" } else { &name };
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    paper.line(0, format!("Port:\t{shown}\t{}/{protocol}", text(&port["port"])));
    let target = match &port["targetPort"] {
        Object::String(name) => name.clone(),
        other => other.to_string(),
    };
    paper.line(0, format!("TargetPort:\t{target}/{protocol}"));
    if port["nodePort"].as_i64().unwrap_or(0) > 0 {
        paper.line(0, format!("NodePort:\t{shown}\t{}/{protocol}", text(&port["nodePort"])));
    }
    let endpoints = endpoints(&name, slices);
    paper.line(0, format!("Endpoints:\t{endpoints}"));
}

/// The ready addresses behind one port.
fn endpoints(port: &str, slices: &[Object]) -> String {
    let mut found = Vec::new();
    for slice in slices {
        let number = items(&slice["ports"])
            .iter()
            .find(|candidate| candidate["name"].as_str().unwrap_or("") == port)
            .and_then(|candidate| candidate["port"].as_i64());
        let Some(number) = number else { continue };
        for endpoint in items(&slice["endpoints"]) {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            for address in items(&endpoint["addresses"]).iter().map(text) {
                found.push(match address.contains(':') {
                    true => format!("[{address}]:{number}"),
                    false => format!("{address}:{number}"),
                });
            }
        }
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    match (found.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => found.join(","),
        (false, more) => format!("{} + {more} more...", found.join(",")),
    }
}
