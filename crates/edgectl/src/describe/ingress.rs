//! The page about an Ingress.

use super::paper::Paper;
use super::{items, or_none, text};
use edge_api::{Object, meta};

pub(super) fn write(object: &Object, paper: &mut Paper) {
    let spec = &object["spec"];
    paper.line(0, format!("Name:\t{}", meta::name(object)));
    paper.labels(object);
    paper.line(0, format!("Namespace:\t{}", meta::namespace(object)));
    let entries = items(&object["status"]["loadBalancer"]["ingress"]);
    let addresses: Vec<String> = entries
        .iter()
        .map(|entry| format!("{}{}", text(&entry["ip"]), text(&entry["hostname"])))
        .collect();
    paper.line(0, format!("Address:\t{}", addresses.join(",")));
    let class = text(&spec["ingressClassName"]);
    paper.line(0, format!("Ingress Class:\t{}", or_none(&class)));
    let default = match spec["defaultBackend"].is_object() {
        true => backend(&spec["defaultBackend"]),
        false => "<default>".to_string(),
    };
    paper.line(0, format!("Default backend:\t{default}"));
    let tls = items(&spec["tls"]);
    if !tls.is_empty() {
        paper.line(0, "TLS:");
    }
    for entry in tls {
        let hosts: Vec<String> = items(&entry["hosts"]).iter().map(text).collect();
        let (secret, hosts) = (text(&entry["secretName"]), hosts.join(","));
        match secret.is_empty() {
            true => paper.line(1, format!("SNI routes {hosts}")),
            false => paper.line(1, format!("{secret} terminates {hosts}")),
        }
    }
    paper.line(0, "Rules:");
    paper.line(0, "  Host\tPath\tBackends");
    paper.line(0, "  ----\t----\t--------");
    let rules = items(&spec["rules"]).iter().filter(|rule| rule["http"].is_object());
    let mut count = 0;
    for rule in rules {
        count += 1;
        let host = text(&rule["host"]);
        paper.line(0, format!("  {}\t", if host.is_empty() { "*" } else { &host }));
        for path in items(&rule["http"]["paths"]) {
            let (shown, backend) = (text(&path["path"]), backend(&path["backend"]));
            paper.line(0, format!("    \t{shown} \t{backend}"));
        }
    }
    if count == 0 {
        paper.line(0, format!("  *\t*\t{default}"));
    }
    paper.annotations(&object["metadata"]["annotations"]);
}

fn backend(backend: &Object) -> String {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    if resource.is_object() {
        let words = ["apiGroup", "kind", "name"].map(|field| text(&resource[field]));
        return format!("APIGroup: {}, Kind: {}, Name: {}", words[0], words[1], words[2]);
    }
    let port = match text(&service["port"]["name"]) {
        name if name.is_empty() => text(&service["port"]["number"]),
        name => name,
    };
    format!("{}:{port}", text(&service["name"]))
}
