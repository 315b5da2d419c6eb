//! `expose`: a Service in front of the pods of something that exists.

use crate::fault::Fault;
use crate::resource::Resource;
use crate::session::Session;
use crate::targets::one;
use crate::writing::{self, Writing};
use edge_api::{Object, kinds, meta};
use serde_json::{Map, json};

/// Make a Service for a Deployment, ReplicaSet, Service or Pod
#[derive(Debug, clap::Args)]
pub(crate) struct Expose {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    /// The port of the Service; the container's when it has one only
    #[arg(long)]
    port: Option<String>,
    /// The port of the pods, as a number or a name; the same as --port when left out
    #[arg(long)]
    target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long, default_value = "TCP")]
    protocol: String,
    /// The name of the Service; that of the object when left out
    #[arg(long)]
    name: Option<String>,
    /// ClusterIP, NodePort or LoadBalancer
    #[arg(long = "type", default_value = "ClusterIP",
          value_parser = ["ClusterIP", "NodePort", "LoadBalancer"])]
    kind: String,
    /// The address of the Service; `None` for a headless one
    #[arg(long)]
    cluster_ip: Option<String>,
    /// Other addresses that lead to the Service
    #[arg(long, value_name = "IP")]
    external_ip: Option<String>,
    /// Select pods by these labels instead
    #[arg(long)]
    selector: Option<String>,
    /// Labels of the Service
    #[arg(short, long)]
    labels: Option<String>,
    /// ClientIP or None
    #[arg(long)]
    session_affinity: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Expose, session: &mut Session) -> Result<(), Fault> {
    let target = one(session, &args.words).await?;
    let object = target.read(session).await?;
    let service = service(&args, &target.name, &object)?;
    let resource = Resource::from(kinds::SERVICE);
    let created = match args.writing.is_local() {
        true => service,
        false => {
            let params = args.writing.params();
            writing::create(session, &resource, &target.namespace, &service, &params).await?
        }
    };
    args.writing.report(session, &resource, &created, "exposed")
}

fn service(args: &Expose, name: &str, object: &Object) -> Result<Object, Fault> {
    let selector = match &args.selector {
        Some(text) => pairs(text)?,
        None => selector(object)?,
    };
    let ports: Vec<Object> = match &args.port {
        Some(list) => list
            .split(',')
            .map(|text| match text.trim().parse::<u16>() {
                Ok(port) => Ok(json!({"port": port, "protocol": args.protocol})),
                Err(_) => Err(Fault::text(format!("--port: {text:?} is not a port number"))),
            })
            .collect::<Result<_, _>>()?,
        None => own_ports(object),
    };
    if ports.is_empty() {
        return Err(Fault::text(
            "couldn't find port via --port flag or introspection: say --port=NUMBER",
        ));
    }
    let several = ports.len() > 1;
    let ports: Vec<Object> = ports
        .into_iter()
        .enumerate()
        .map(|(n, mut port)| {
            port["targetPort"] = match args.target_port.as_deref() {
                Some(text) => text.parse::<u16>().map_or(json!(text), |number| json!(number)),
                None => port["port"].clone(),
            };
            if several {
                port["name"] = json!(format!("port-{}", n + 1));
            }
            port
        })
        .collect();
    let labels = match &args.labels {
        Some(text) => Some(pairs(text)?),
        None => meta::labels(object).cloned(),
    };
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": args.name.as_deref().unwrap_or(name)},
        "spec": {"ports": ports, "selector": selector},
    });
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        service["metadata"]["labels"] = Object::Object(labels);
    }
    let spec = &mut service["spec"];
    if args.kind != "ClusterIP" {
        spec["type"] = json!(args.kind);
    }
    if let Some(address) = &args.cluster_ip {
        spec["clusterIP"] = json!(address);
    }
    if let Some(address) = &args.external_ip {
        spec["externalIPs"] = json!([address]);
    }
    if let Some(affinity) = &args.session_affinity {
        spec["sessionAffinity"] = json!(affinity);
    }
    Ok(service)
}

/// The labels that select the pods of an object.
fn selector(object: &Object) -> Result<Map<String, Object>, Fault> {
    let kind = object["kind"].as_str().unwrap_or("");
    let found = match kind {
        "Pod" => &object["metadata"]["labels"],
        "Service" => &object["spec"]["selector"],
        "Deployment" | "ReplicaSet" => {
            if object["spec"]["selector"]["matchExpressions"]
                .as_array()
                .is_some_and(|e| !e.is_empty())
            {
                return Err(Fault::text(
                    "couldn't convert expressions to labels: say --selector=KEY=VALUE",
                ));
            }
            &object["spec"]["selector"]["matchLabels"]
        }
        _ => return Err(Fault::text(format!("cannot expose a {kind}"))),
    };
    match found.as_object() {
        Some(labels) if !labels.is_empty() => Ok(labels.clone()),
        _ => Err(Fault::text(format!(
            "the {} has no labels and cannot be exposed",
            kind.to_ascii_lowercase()
        ))),
    }
}

/// The ports that an object's containers, or the Service itself, name.
fn own_ports(object: &Object) -> Vec<Object> {
    let spec = match object["kind"].as_str() {
        Some("Pod") => &object["spec"],
        Some("Service") => {
            let ports = object["spec"]["ports"].as_array().into_iter().flatten();
            return ports
                .map(|port| json!({"port": port["port"], "protocol": port["protocol"]}))
                .collect();
        }
        _ => &object["spec"]["template"]["spec"],
    };
    let containers = spec["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    ports
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            json!({"port": port["containerPort"], "protocol": protocol})
        })
        .collect()
}

/// `a=b,c=d` as a map.
pub(crate) fn pairs(text: &str) -> Result<Map<String, Object>, Fault> {
    let mut map = Map::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Fault::text(format!("{pair:?} is not KEY=VALUE")))?;
        map.insert(key.trim().to_string(), json!(value.trim()));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        expose: Expose,
    }

    fn made(line: &str, object: &Object) -> Result<Object, String> {
        let words = std::iter::once("expose").chain(line.split_whitespace());
        let args = Line::parse_from(words).expose;
        service(&args, "web", object).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_deployment_with_one_port() {
        let deployment = json!({
            "kind": "Deployment", "metadata": {"labels": {"team": "a"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                     "template": {"spec": {"containers": [{"ports": [{"containerPort": 80}]}]}}},
        });
        assert_eq!(
            made("", &deployment).unwrap(),
            json!({"apiVersion": "v1", "kind": "Service",
                   "metadata": {"name": "web", "labels": {"team": "a"}},
                   "spec": {"selector": {"app": "web"},
                            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]}})
        );
        let node =
            made("--port 8080,9090 --target-port http --type NodePort --name x", &deployment);
        let spec = &node.unwrap()["spec"];
        assert_eq!(spec["type"], "NodePort");
        assert_eq!(
            spec["ports"][1],
            json!({"name": "port-2", "port": 9090, "targetPort": "http",
                                            "protocol": "TCP"})
        );
    }

    #[test]
    fn what_cannot_be_exposed() {
        let pod = json!({"kind": "Pod", "metadata": {}, "spec": {}});
        assert!(made("--port 80", &pod).unwrap_err().contains("no labels"));
        let labelled = json!({"kind": "Pod", "metadata": {"labels": {"a": "b"}}, "spec": {}});
        assert!(made("", &labelled).unwrap_err().contains("couldn't find port"));
        assert!(made("--port x", &labelled).unwrap_err().contains("not a port number"));
        let secret = json!({"kind": "Secret", "metadata": {}});
        assert!(made("--port 1", &secret).unwrap_err().contains("cannot expose a Secret"));
    }
}
