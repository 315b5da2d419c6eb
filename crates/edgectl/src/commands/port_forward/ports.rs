//! Which ports a person means: numbers, names of containers' ports, and a Service's ports, which
//! lead to others. `kubectl`'s rules and words.

use crate::fault::Fault;
use edge_api::{Object, meta};
use std::fmt;

/// A local port and the pod's port behind it. A local 0 is any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) local: u16,
    pub(super) remote: u16,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {}}}", self.local, self.remote)
    }
}

/// The pairs that words like `8080:80`, `:http` and `80` mean.
pub(super) fn pairs(
    words: &[String],
    service: Option<&Object>,
    pod: &Object,
) -> Result<Vec<Pair>, Fault> {
    words.iter().map(|word| pair(word, service, pod)).collect()
}

fn pair(word: &str, service: Option<&Object>, pod: &Object) -> Result<Pair, Fault> {
    let mut parts = word.split(':');
    let (local, remote) = match (parts.next(), parts.next(), parts.next()) {
        (Some(only), None, _) => (only, only),
        (Some(local), Some(remote), None) => (local, remote),
        _ => return Err(Fault::text(format!("invalid port format '{word}'"))),
    };
    let (asked, target) = match service {
        Some(service) => of_service(remote, service, pod)?,
        None => {
            let number = number_of(remote, pod)?;
            (number, number)
        }
    };
    check_protocol(word, asked, target, service, pod)?;
    let local = match local {
        "" => 0,
        same if same == remote => asked,
        text => text
            .parse()
            .map_err(|error| Fault::text(format!("error parsing local port '{text}': {error}")))?,
    };
    if target == 0 {
        return Err(Fault::text("remote port must be > 0"));
    }
    Ok(Pair { local, remote: target })
}

fn parse(text: &str) -> Option<Result<u16, Fault>> {
    let number: i64 = text.parse().ok()?;
    Some(u16::try_from(number).map_err(|_| {
        Fault::text(format!("error parsing remote port '{text}': value out of range"))
    }))
}

/// A pod's port by number, or by the name that a container gave it.
fn number_of(text: &str, pod: &Object) -> Result<u16, Fault> {
    parse(text).unwrap_or_else(|| named_in_pod(text, pod))
}

fn named_in_pod(name: &str, pod: &Object) -> Result<u16, Fault> {
    let mut all = container_ports(pod);
    let found =
        all.find(|port| port["name"] == name).and_then(|port| number(&port["containerPort"]));
    found.ok_or_else(|| {
        Fault::text(format!("Pod '{}' does not have a named port '{name}'", meta::name(pod)))
    })
}

fn container_ports(pod: &Object) -> impl Iterator<Item = &Object> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.flat_map(|container| container["ports"].as_array().into_iter().flatten())
}

fn number(value: &Object) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

/// A Service's port, and the pod's port behind it.
fn of_service(text: &str, service: &Object, pod: &Object) -> Result<(u16, u16), Fault> {
    let name = meta::name(service);
    let ports = || service["spec"]["ports"].as_array().into_iter().flatten();
    let asked = match parse(text) {
        Some(number) => number?,
        None => {
            let found = ports().find(|port| port["name"] == text).and_then(|p| number(&p["port"]));
            found.ok_or_else(|| {
                Fault::text(format!("Service '{name}' does not have a named port '{text}'"))
            })?
        }
    };
    let found = ports().find(|port| number(&port["port"]) == Some(asked)).ok_or_else(|| {
        Fault::text(format!("Service {name} does not have a service port {asked}"))
    })?;
    let target = match &found["targetPort"] {
        _ if service["spec"]["clusterIP"] == "None" => asked,
        Object::String(name) => named_in_pod(name, pod)?,
        target => number(target).filter(|port| *port > 0).unwrap_or(asked),
    };
    Ok((asked, target))
}

/// Only TCP can be forwarded: a port that is known for UDP alone is refused.
fn check_protocol(
    word: &str,
    asked: u16,
    target: u16,
    service: Option<&Object>,
    pod: &Object,
) -> Result<(), Fault> {
    let (ports, key, port): (Vec<&Object>, _, _) = match service {
        Some(service) => {
            (service["spec"]["ports"].as_array().into_iter().flatten().collect(), "port", asked)
        }
        None => (container_ports(pod).collect(), "containerPort", target),
    };
    let same = || ports.iter().filter(|entry| number(&entry[key]) == Some(port));
    let is = |entry: &&&Object, protocol| entry["protocol"].as_str().unwrap_or("TCP") == protocol;
    if same().any(|entry| is(&entry, "UDP")) && !same().any(|entry| is(&entry, "TCP")) {
        return Err(Fault::text(format!("UDP protocol is not supported for {word}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(word: &str, service: Option<&Object>) -> String {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [
            {"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53,
             "protocol": "UDP"}, {"containerPort": 9000}]}]}});
        match pairs(&[word.to_owned()], service, &pod) {
            Ok(pairs) => pairs[0].to_string(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_pods_ports() {
        for (word, wanted) in [
            ("80", "{80 80}"),
            ("8000:80", "{8000 80}"),
            (":80", "{0 80}"),
            ("http", "{8080 8080}"),
            ("80:http", "{80 8080}"),
            ("8000:https", "error: Pod 'p' does not have a named port 'https'"),
            ("1:2:3", "error: invalid port format '1:2:3'"),
            ("x:80", "error: error parsing local port 'x': invalid digit found in string"),
            ("0", "error: remote port must be > 0"),
            ("70000", "error: error parsing remote port '70000': value out of range"),
            ("53", "error: UDP protocol is not supported for 53"),
        ] {
            assert_eq!(seen(word, None), wanted, "{word}");
        }
    }

    #[test]
    fn a_services_ports_lead_to_others() {
        let ports = json!([
            {"name": "web", "port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 9000},
            {"port": 82}, {"name": "names", "port": 53, "protocol": "UDP"}]);
        let mut service = json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
        for (word, wanted) in [
            ("80", "{80 8080}"),
            ("web", "{80 8080}"),
            (":web", "{0 8080}"),
            ("1234:81", "{1234 9000}"),
            ("82", "{82 82}"),
            ("83", "error: Service s does not have a service port 83"),
            ("wob", "error: Service 's' does not have a named port 'wob'"),
            ("names", "error: UDP protocol is not supported for names"),
        ] {
            assert_eq!(seen(word, Some(&service)), wanted, "{word}");
        }
        service["spec"]["clusterIP"] = json!("None");
        assert_eq!(seen("81", Some(&service)), "{81 81}");
    }
}
