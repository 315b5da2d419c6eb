//! The page about a NetworkPolicy: who may reach its pods, and whom they may reach.

use super::paper::Paper;
use super::{heading, items, text};
use edge_api::Object;
use edge_api::selector::LabelSelector;

pub(super) fn write(object: &Object, paper: &mut Paper) {
    let spec = &object["spec"];
    heading(object, paper);
    paper.line(0, format!("Created on:\t{}", text(&object["metadata"]["creationTimestamp"])));
    paper.labels(object);
    paper.annotations(&object["metadata"]["annotations"]);
    paper.line(0, "Spec:");
    let pods = match selector(&spec["podSelector"]) {
        all if all == "<none>" => {
            "<none> (Allowing the specific traffic to all pods in this namespace)".to_owned()
        }
        some => some,
    };
    paper.line(1, format!("PodSelector:     {pods}"));
    let types: Vec<String> = items(&spec["policyTypes"]).iter().map(text).collect();
    for (word, field, peers) in [("Ingress", "ingress", "From"), ("Egress", "egress", "To")] {
        if types.iter().any(|found| found == word) {
            paper.line(1, format!("Allowing {field} traffic:"));
            rules(field, items(&spec[field]), peers, paper);
        } else {
            paper.line(1, format!("Not affecting {field} traffic"));
        }
    }
    paper.line(1, format!("Policy Types: {}", types.join(", ")));
}

fn selector(selector: &Object) -> String {
    let found = LabelSelector::from_object(selector);
    let text = found.map_or("<error>".to_owned(), |found| found.to_string());
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn rules(direction: &str, rules: &[Object], peers: &str, paper: &mut Paper) {
    if rules.is_empty() {
        let what = format!("<none> (Selected pods are isolated for {direction} connectivity)");
        paper.line(2, what);
    }
    for (index, rule) in rules.iter().enumerate() {
        if index > 0 {
            paper.line(2, "----------");
        }
        let ports = items(&rule["ports"]);
        if ports.is_empty() {
            paper.line(2, "To Port: <any> (traffic allowed to all ports)");
        }
        for port in ports {
            let number = match (text(&port["port"]), port["endPort"].as_u64()) {
                (first, Some(last)) => format!("{first}-{last}"),
                (first, None) if first.is_empty() => "<any>".to_owned(),
                (first, None) => first,
            };
            paper.line(2, format!("To Port: {number}/{}", text(&port["protocol"])));
        }
        let list = items(&rule[peers.to_ascii_lowercase()]);
        if list.is_empty() {
            let side = if peers == "From" { "source" } else { "destination" };
            paper.line(2, format!("{peers}: <any> (traffic not restricted by {side})"));
        }
        for peer in list {
            paper.line(2, format!("{peers}:"));
            for (title, field) in
                [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")]
            {
                if !peer[field].is_null() {
                    paper.line(3, format!("{title}: {}", selector(&peer[field])));
                }
            }
            let block = &peer["ipBlock"];
            if !block.is_null() {
                let except: Vec<String> = items(&block["except"]).iter().map(text).collect();
                paper.line(3, "IPBlock:");
                paper.line(4, format!("CIDR: {}", text(&block["cidr"])));
                paper.line(4, format!("Except: {}", except.join(", ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Subject, page};
    use serde_json::json;

    #[test]
    fn a_policy() {
        let object = json!({
            "kind": "NetworkPolicy",
            "metadata": {"name": "db", "namespace": "shop",
                         "creationTimestamp": "2024-01-02T00:00:00Z"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [{
                    "ports": [{"port": 5432, "protocol": "TCP"},
                              {"port": 7000, "endPort": 7009, "protocol": "UDP"}],
                    "from": [{"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}},
                             {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                }, {}],
                "policyTypes": ["Ingress"],
            },
        });
        let text = page(&Subject { object, ..Subject::default() }, jiff::Timestamp::UNIX_EPOCH);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let spec = lines.iter().position(|line| *line == "Spec:").expect("a spec");
        assert_eq!(
            lines[spec + 1..],
            [
                "  PodSelector:     app=db",
                "  Allowing ingress traffic:",
                "    To Port: 5432/TCP",
                "    To Port: 7000-7009/UDP",
                "    From:",
                "      NamespaceSelector: a=b",
                "      PodSelector: <none>",
                "    From:",
                "      IPBlock:",
                "        CIDR: 10.0.0.0/8",
                "        Except: 10.1.0.0/16",
                "    ----------",
                "    To Port: <any> (traffic allowed to all ports)",
                "    From: <any> (traffic not restricted by source)",
                "  Not affecting egress traffic",
                "  Policy Types: Ingress",
            ]
        );
    }
}
