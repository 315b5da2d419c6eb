//! The part of a page about volumes.

use super::containers::Style;
use super::paper::Paper;
use super::{items, text};
use edge_api::Object;

pub(super) fn volumes(list: &Object, style: Style, paper: &mut Paper) {
    let space = style.title();
    if items(list).is_empty() {
        paper.line(0, format!("{space}Volumes:\t<none>"));
        return;
    }
    paper.line(0, format!("{space}Volumes:"));
    for volume in items(list) {
        paper.line(1, format!("{}{}:", style.name(), text(&volume["name"])));
        one(volume, paper);
    }
}

fn one(volume: &Object, paper: &mut Paper) {
    let Some((kind, source)) =
        volume.as_object().into_iter().flatten().find(|(key, _)| *key != "name")
    else {
        paper.line(2, "<unknown>");
        return;
    };
    let optional = source["optional"] == true;
    let mut put = |title: &str, value: &str| paper.line(2, format!("{title}:\t{value}"));
    match kind.as_str() {
        "hostPath" => {
            put("Type", "HostPath (bare host directory volume)");
            put("Path", &text(&source["path"]));
            put("HostPathType", &text(&source["type"]));
        }
        "emptyDir" => {
            put("Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
            put("Medium", &text(&source["medium"]));
            let limit = text(&source["sizeLimit"]);
            put("SizeLimit", if limit.is_empty() { "<unset>" } else { &limit });
        }
        "configMap" => {
            put("Type", "ConfigMap (a volume populated by a ConfigMap)");
            put("Name", &text(&source["name"]));
            put("Optional", &optional.to_string());
        }
        "secret" => {
            put("Type", "Secret (a volume populated by a Secret)");
            put("SecretName", &text(&source["secretName"]));
            put("Optional", &optional.to_string());
        }
        "persistentVolumeClaim" => {
            put(
                "Type",
                "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same \
                 namespace)",
            );
            put("ClaimName", &text(&source["claimName"]));
            put("ReadOnly", &(source["readOnly"] == true).to_string());
        }
        "projected" => {
            put("Type", "Projected (a volume that contains injected data from multiple sources)");
            items(&source["sources"]).iter().for_each(|part| projected(part, paper));
        }
        "downwardAPI" => {
            put("Type", "DownwardAPI (a volume populated by information about the pod)");
            put("Items", "");
            for item in items(&source["items"]) {
                let from = text(&item["fieldRef"]["fieldPath"]);
                paper.line(3, format!("{from} -> {}", text(&item["path"])));
            }
        }
        other => put("Type", other),
    }
}

fn projected(part: &Object, paper: &mut Paper) {
    let mut put = |title: &str, value: &str| paper.line(2, format!("{title}:\t{value}"));
    if part["serviceAccountToken"].is_object() {
        let seconds = part["serviceAccountToken"]["expirationSeconds"].as_i64().unwrap_or(3600);
        put("TokenExpirationSeconds", &seconds.to_string());
    }
    if part["configMap"].is_object() {
        put("ConfigMapName", &text(&part["configMap"]["name"]));
        put("Optional", &(part["configMap"]["optional"] == true).to_string());
    }
    if part["secret"].is_object() {
        put("SecretName", &text(&part["secret"]["name"]));
        put("Optional", &(part["secret"]["optional"] == true).to_string());
    }
    if part["downwardAPI"].is_object() {
        put("DownwardAPI", "true");
    }
}
