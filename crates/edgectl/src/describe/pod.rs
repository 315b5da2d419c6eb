//! The page about a pod.

use super::containers::{Style, containers};
use super::paper::Paper;
use super::volumes::volumes;
use super::{heading, items, or_none, text};
use edge_api::{Object, meta};

pub(super) fn write(pod: &Object, paper: &mut Paper) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    heading(pod, paper);
    paper.line(0, format!("Priority:\t{}", spec["priority"].as_i64().unwrap_or(0)));
    if let Some(class) = spec["priorityClassName"].as_str().filter(|name| !name.is_empty()) {
        paper.line(0, format!("Priority Class Name:\t{class}"));
    }
    paper.line(
        0,
        format!("Service Account:\t{}", spec["serviceAccountName"].as_str().unwrap_or("default")),
    );
    match (spec["nodeName"].as_str().unwrap_or(""), text(&status["hostIP"])) {
        ("", _) => paper.line(0, "Node:\t<none>"),
        (node, address) => paper.line(0, format!("Node:\t{node}/{address}")),
    }
    if status["startTime"].is_string() {
        paper.line(0, format!("Start Time:\t{}", paper.moment(&status["startTime"])));
    }
    paper.labels(pod);
    paper.annotations(&pod["metadata"]["annotations"]);
    if meta::is_deleting(pod) {
        let since = paper.age(&pod["metadata"]["deletionTimestamp"]);
        paper.line(0, format!("Status:\tTerminating (lasts {since})"));
        let grace = meta::deletion_grace_seconds(pod).unwrap_or(30);
        paper.line(0, format!("Termination Grace Period:\t{grace}s"));
    } else {
        paper.line(0, format!("Status:\t{}", text(&status["phase"])));
    }
    for (title, field) in [("Reason", "reason"), ("Message", "message")] {
        let value = text(&status[field]);
        if !value.is_empty() {
            paper.line(0, format!("{title}:\t{value}"));
        }
    }
    addresses(status, paper);
    paper.controller(pod);
    let style = Style { in_template: false };
    if !items(&spec["initContainers"]).is_empty() {
        let statuses = &status["initContainerStatuses"];
        containers("Init Containers", &spec["initContainers"], statuses, style, paper);
    }
    containers("Containers", &spec["containers"], &status["containerStatuses"], style, paper);
    conditions(status, paper);
    volumes(&spec["volumes"], style, paper);
    let quality = text(&status["qosClass"]);
    paper.line(0, format!("QoS Class:\t{}", or_none(&quality)));
    paper.map(0, "Node-Selectors", &spec["nodeSelector"], "=");
    paper.tolerations(0, &spec["tolerations"]);
}

fn addresses(status: &Object, paper: &mut Paper) {
    paper.line(0, format!("IP:\t{}", text(&status["podIP"])));
    let all = items(&status["podIPs"]);
    if all.is_empty() {
        paper.line(0, "IPs:\t<none>");
        return;
    }
    paper.line(0, "IPs:");
    for one in all {
        paper.line(1, format!("IP:\t{}", text(&one["ip"])));
    }
}

fn conditions(status: &Object, paper: &mut Paper) {
    let all = items(&status["conditions"]);
    if all.is_empty() {
        return;
    }
    paper.line(0, "Conditions:");
    paper.line(1, "Type\tStatus");
    for one in all {
        paper.line(1, format!("{} \t{} ", text(&one["type"]), text(&one["status"])));
    }
}
