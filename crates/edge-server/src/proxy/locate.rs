//! Which agent a request is for, and the path that it has there.

use crate::api::{Api, Place};
use crate::http::{Query, Target};
use edge_api::Object;
use edge_api::kinds;
use edge_api::status::{Reason, Status};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::net::IpAddr;

/// An agent and a path on it.
pub(super) struct Destination {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// With the query.
    pub(super) path: String,
}

impl Destination {
    /// The address as it stands in a URL.
    pub(super) fn host(&self) -> String {
        match self.address {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    }
}

/// Finds where a request goes; `None` for the log of a pod that has no board.
pub(super) fn destination(
    api: &Api,
    target: &Target,
    query: &Query,
    default_port: u16,
) -> Result<Option<Destination>, Status> {
    if target.kind == kinds::NODE {
        let node = api.object(Place::new(kinds::NODE, "", &target.name))?;
        let path = format!("/{}{}", target.rest, encoded(query, &[]));
        return reach(&node, &target.name, default_port, path).map(Some);
    }
    let pod = api.object(Place::new(kinds::POD, &target.namespace, &target.name))?;
    let container = match target.sub.as_str() {
        "portforward" => String::new(),
        _ => format!("/{}", container(&pod, &target.name, query.get("container"))?),
    };
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if name.is_empty() {
        if target.sub == "log" {
            return Ok(None);
        }
        let message = format!("pod {} does not have a host assigned", target.name);
        return Err(Status::bad_request(message));
    }
    let node = api.object(Place::new(kinds::NODE, "", name))?;
    let action = match target.sub.as_str() {
        "log" => "containerLogs",
        "portforward" => "portForward",
        other => other,
    };
    let query = encoded(query, &["container", "insecureSkipTLSVerifyBackend"]);
    let path = format!("/{action}/{}/{}{container}{query}", target.namespace, target.name);
    reach(&node, name, default_port, path).map(Some)
}

fn encoded(query: &Query, without: &[&str]) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut text = String::new();
    for (name, value) in query.pairs().iter().filter(|(n, _)| !without.contains(&n.as_str())) {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&format!("{}={}", escape(name), escape(value)));
    }
    text
}

/// The container that is meant: the one that is named, or the only one.
fn container(pod: &Object, name: &str, asked: Option<&str>) -> Result<String, Status> {
    let names = |field: &str| -> Vec<&str> {
        let list = pod["spec"][field].as_array();
        list.into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
    };
    let (plain, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    match (asked, plain.as_slice()) {
        (Some(asked), _) => {
            let known = [&plain, &init, &ephemeral].iter().any(|list| list.contains(&asked));
            known.then(|| asked.to_owned()).ok_or_else(|| {
                let message = format!("container {asked} is not valid for pod {name}");
                Status::bad_request(message)
            })
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                plain.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

fn reach(node: &Object, name: &str, port: u16, path: String) -> Result<Destination, Status> {
    let status = &node["status"];
    let addresses = status["addresses"].as_array();
    let address = addresses.into_iter().flatten().find(|a| a["type"] == "InternalIP");
    let address = address.and_then(|a| a["address"].as_str()?.parse().ok()).ok_or_else(|| {
        let message = format!("node {name} has not reported its address yet");
        Status::new(Reason::ServiceUnavailable, message)
    })?;
    let told = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = told.and_then(|port| u16::try_from(port).ok()).filter(|p| *p > 0).unwrap_or(port);
    Ok(Destination { node: name.to_owned(), address, port, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_only_container_need_not_be_named() {
        let one = json!({"spec": {"containers": [{"name": "web"}]}});
        assert_eq!(container(&one, "p", None).unwrap(), "web");
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}],
                                  "initContainers": [{"name": "i"}]}});
        assert_eq!(
            container(&two, "p", None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the \
             init containers: [i]"
        );
        assert_eq!(container(&two, "p", Some("i")).unwrap(), "i");
        assert_eq!(
            container(&two, "p", Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
    }

    #[test]
    fn a_nodes_own_port_counts() {
        let node = json!({"status": {
            "addresses": [{"type": "Hostname", "address": "n"},
                          {"type": "InternalIP", "address": "10.0.0.5"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}});
        let to = reach(&node, "n", 10250, "/healthz".to_owned()).unwrap();
        assert_eq!((to.host().as_str(), to.port), ("10.0.0.5", 10251));
        assert_eq!(reach(&json!({}), "n", 1, String::new()).err().unwrap().code, 503);
        let query = Query::parse("command=sh&command=-c&container=a&tty=true");
        assert_eq!(encoded(&query, &["container"]), "?command=sh&command=%2Dc&tty=true");
    }
}
