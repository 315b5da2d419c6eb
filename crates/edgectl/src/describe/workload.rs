//! The pages about Deployments and ReplicaSets, and the part about a pod template.

use super::containers::{Style, containers};
use super::paper::Paper;
use super::volumes::volumes;
use super::{Subject, heading, items, or_none, text};
use crate::pods::selector_text;
use edge_api::{Object, meta};

const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn deployment(subject: &Subject, paper: &mut Paper) {
    let object = &subject.object;
    let (spec, status) = (&object["spec"], &object["status"]);
    heading(object, paper);
    let created = paper.moment(&object["metadata"]["creationTimestamp"]);
    paper.line(0, format!("CreationTimestamp:\t{created}"));
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    let selector = selector_text(object).unwrap_or_default();
    paper.line(0, format!("Selector:\t{}", or_none(&selector)));
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    paper.line(
        0,
        format!(
            "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
            spec["replicas"].as_i64().unwrap_or(1),
            count("updatedReplicas"),
            count("replicas"),
            count("availableReplicas"),
            count("unavailableReplicas"),
        ),
    );
    let strategy = &spec["strategy"];
    paper.line(0, format!("StrategyType:\t{}", text(&strategy["type"])));
    let ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    paper.line(0, format!("MinReadySeconds:\t{ready}"));
    if strategy["rollingUpdate"].is_object() {
        let rolling = &strategy["rollingUpdate"];
        paper.line(
            0,
            format!(
                "RollingUpdateStrategy:\t{} max unavailable, {} max surge",
                text(&rolling["maxUnavailable"]),
                text(&rolling["maxSurge"]),
            ),
        );
    }
    paper.line(0, "Pod Template:");
    template(&spec["template"], paper);
    conditions(status, paper);
    replica_sets(subject, paper);
}

fn conditions(status: &Object, paper: &mut Paper) {
    let all = items(&status["conditions"]);
    if all.is_empty() {
        return;
    }
    paper.line(0, "Conditions:");
    let row =
        |one: &Object| vec![text(&one["type"]) + " ", text(&one["status"]), text(&one["reason"])];
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    paper.table(1, &["Type", "Status", "Reason"], &rows);
}

fn replica_sets(subject: &Subject, paper: &mut Paper) {
    let revision = meta::annotation(&subject.object, REVISION);
    let is_new = |set: &&Object| revision.is_some() && meta::annotation(set, REVISION) == revision;
    let say = |set: &Object| {
        format!(
            "{} ({}/{} replicas created)",
            meta::name(set),
            set["status"]["replicas"].as_i64().unwrap_or(0),
            set["spec"]["replicas"].as_i64().unwrap_or(0),
        )
    };
    let old: Vec<String> =
        subject.replica_sets.iter().filter(|set| !is_new(set)).map(say).collect();
    let old = old.join(", ");
    paper.line(0, format!("OldReplicaSets:\t{}", or_none(&old)));
    let new = subject.replica_sets.iter().find(is_new).map(say).unwrap_or_default();
    paper.line(0, format!("NewReplicaSet:\t{}", or_none(&new)));
}

pub(super) fn replica_set(subject: &Subject, paper: &mut Paper) {
    let object = &subject.object;
    let (spec, status) = (&object["spec"], &object["status"]);
    heading(object, paper);
    let selector = selector_text(object).unwrap_or_default();
    paper.line(0, format!("Selector:\t{}", or_none(&selector)));
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.controller(object);
    paper.line(
        0,
        format!(
            "Replicas:\t{} current / {} desired",
            status["replicas"].as_i64().unwrap_or(0),
            spec["replicas"].as_i64().unwrap_or(1),
        ),
    );
    let phase =
        |wanted: &str| subject.pods.iter().filter(|pod| pod["status"]["phase"] == wanted).count();
    paper.line(
        0,
        format!(
            "Pods Status:\t{} Running / {} Waiting / {} Succeeded / {} Failed",
            phase("Running"),
            phase("Pending"),
            phase("Succeeded"),
            phase("Failed"),
        ),
    );
    paper.line(0, "Pod Template:");
    template(&spec["template"], paper);
    conditions(status, paper);
}

/// What pods are made from.
pub(super) fn template(template: &Object, paper: &mut Paper) {
    let spec = &template["spec"];
    paper.map(1, "Labels", &template["metadata"]["labels"], "=");
    if template["metadata"]["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        paper.map(1, "Annotations", &template["metadata"]["annotations"], ": ");
    }
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty()) {
        paper.line(1, format!("Service Account:\t{account}"));
    }
    let style = Style { in_template: true };
    if !items(&spec["initContainers"]).is_empty() {
        containers("Init Containers", &spec["initContainers"], &Object::Null, style, paper);
    }
    containers("Containers", &spec["containers"], &Object::Null, style, paper);
    volumes(&spec["volumes"], style, paper);
    paper.map(1, "Node-Selectors", &spec["nodeSelector"], "=");
    paper.tolerations(1, &spec["tolerations"]);
}
