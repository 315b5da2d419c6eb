//! `expose`: a Service in front of the pods of something that exists. `kubectl`'s rules and words.

use crate::fault::Fault;
use crate::resource::Resource;
use crate::session::Session;
use crate::targets::{Files, Which, expand};
use crate::writing::{self, Writing};
use edge_api::{Object, kinds, meta};
use serde_json::{Map, json};

/// The longest name of a Service.
const NAME: usize = 63;

/// Make a Service for a Deployment, ReplicaSet, ReplicationController, Service or Pod
#[derive(Debug, clap::Args)]
pub(crate) struct Expose {
    /// TYPE NAME…, or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The port of the Service; the containers' ports when left out
    #[arg(long)]
    port: Option<String>,
    /// The port of the pods, as a number or a name; the same as --port when left out
    #[arg(long, alias = "container-port")]
    target_port: Option<String>,
    /// TCP, UDP or SCTP; the containers' own when left out
    #[arg(long)]
    protocol: Option<String>,
    /// The name of the Service; that of the object when left out
    #[arg(long)]
    name: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type")]
    kind: Option<String>,
    /// The address of the Service; `None` for a headless one
    #[arg(long)]
    cluster_ip: Option<String>,
    /// Another address that leads to the Service
    #[arg(long, value_name = "IP")]
    external_ip: Option<String>,
    /// The address that a load balancer shall give it
    #[arg(long, value_name = "IP")]
    load_balancer_ip: Option<String>,
    /// Select pods by these labels instead
    #[arg(long)]
    selector: Option<String>,
    /// Labels of the Service; those of the object when left out
    #[arg(short, long)]
    labels: Option<String>,
    /// ClientIP or None
    #[arg(long)]
    session_affinity: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

pub(crate) async fn run(args: Expose, session: &mut Session) -> Result<(), Fault> {
    let targets = expand(session, &args.words, &args.files, &Which::default(), false).await?;
    if targets.is_empty() {
        return Err(Fault::text("no objects passed to expose"));
    }
    for target in targets {
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
        args.writing.report(session, &resource, &created, "exposed")?;
    }
    Ok(())
}

fn service(args: &Expose, name: &str, object: &Object) -> Result<Object, Fault> {
    check_kind(object)?;
    let selector = match &args.selector {
        Some(text) => pairs(text)?,
        None => selector(object)?,
    };
    let labels = match &args.labels {
        Some(text) => Some(pairs(text)?),
        None => meta::labels(object).cloned(),
    };
    let name = args.name.as_deref().unwrap_or_else(|| {
        let mut end = name.len().min(NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        &name[..end]
    });
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": ports(args, object)?, "selector": selector},
    });
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        service["metadata"]["labels"] = Object::Object(labels);
    }
    let spec = &mut service["spec"];
    if let Some(address) = &args.external_ip {
        spec["externalIPs"] = json!([address]);
    }
    if let Some(kind) = &args.kind {
        spec["type"] = json!(kind);
        if let (Some(address), "LoadBalancer") = (&args.load_balancer_ip, kind.as_str()) {
            spec["loadBalancerIP"] = json!(address);
        }
    }
    match args.session_affinity.as_deref() {
        Some(affinity @ ("None" | "ClientIP")) => spec["sessionAffinity"] = json!(affinity),
        Some(other) => return Err(Fault::text(format!("unknown session affinity: {other}"))),
        None => {}
    }
    if let Some(address) = &args.cluster_ip {
        spec["clusterIP"] = json!(address);
    }
    Ok(service)
}

fn check_kind(object: &Object) -> Result<(), Fault> {
    let kind = object["kind"].as_str().unwrap_or("");
    let version = object["apiVersion"].as_str().unwrap_or("");
    match (kinds::split_api_version(version).0, kind) {
        (_, "Pod" | "Service" | "ReplicationController" | "Deployment" | "ReplicaSet") => Ok(()),
        ("", kind) => Err(Fault::text(format!("cannot expose a {kind}"))),
        (group, kind) => Err(Fault::text(format!("cannot expose a {kind}.{group}"))),
    }
}

/// The Service's ports: those that were typed, or else those of the containers. Several get names.
fn ports(args: &Expose, object: &Object) -> Result<Vec<Object>, Fault> {
    let own = own_ports(object);
    let numbers: Vec<u16> = match &args.port {
        Some(list) => list.split(',').map(number).collect::<Result<_, _>>()?,
        None => {
            let mut numbers: Vec<u16> = Vec::new();
            for (number, _) in &own {
                if !numbers.contains(number) {
                    numbers.push(*number);
                }
            }
            numbers
        }
    };
    if numbers.is_empty() && args.cluster_ip.as_deref() != Some("None") {
        return Err(Fault::text("couldn't find port via --port flag or introspection"));
    }
    let mut ports = Vec::new();
    for (n, port) in numbers.iter().enumerate() {
        let target = match args.target_port.as_deref() {
            Some(text) => text.parse::<u16>().map_or(json!(text), |number| json!(number)),
            None => json!(port),
        };
        let mut known: Vec<&str> = Vec::new();
        for (_, protocol) in own.iter().filter(|(number, _)| number == port) {
            if !known.contains(&protocol.as_str()) {
                known.push(protocol);
            }
        }
        let protocols = match (&args.protocol, known.is_empty()) {
            (Some(typed), _) => vec![typed.as_str()],
            (None, true) => vec!["TCP"],
            (None, false) => known,
        };
        for protocol in &protocols {
            let mut made = json!({"port": port, "protocol": protocol, "targetPort": target});
            if protocols.len() > 1 {
                made["name"] = json!(format!("port-{}-{}", n + 1, protocol.to_lowercase()));
            } else if numbers.len() > 1 {
                made["name"] = json!(format!("port-{}", n + 1));
            }
            ports.push(made);
        }
    }
    Ok(ports)
}

fn number(text: &str) -> Result<u16, Fault> {
    let number = text.trim().parse::<u16>();
    number.map_err(|_| Fault::text(format!("--port: {text:?} is not a port number")))
}

/// The labels that select the pods of an object.
fn selector(object: &Object) -> Result<Map<String, Object>, Fault> {
    let fail = |why: &str| {
        let text = "couldn't retrieve selectors via --selector flag or introspection";
        Err(Fault::text(format!("{text}: {why}")))
    };
    let labels = |found: &Object| found.as_object().filter(|labels| !labels.is_empty()).cloned();
    let kind = object["kind"].as_str().unwrap_or("");
    let selector = &object["spec"]["selector"];
    match kind {
        "Pod" => match labels(&object["metadata"]["labels"]) {
            Some(found) => Ok(found),
            None => fail("the pod has no labels and cannot be exposed"),
        },
        "Service" => match labels(selector) {
            Some(found) => Ok(found),
            None => fail("the service has no pod selector set"),
        },
        "ReplicationController" => Ok(labels(selector).unwrap_or_default()),
        _ => {
            let expressions = selector["matchExpressions"].as_array();
            if expressions.is_some_and(|expressions| !expressions.is_empty()) {
                let shown = &selector["matchExpressions"];
                let why = "to map-based selector format; say --selector=KEY=VALUE";
                return fail(&format!("couldn't convert expressions - {shown} {why}"));
            }
            match labels(&selector["matchLabels"]) {
                Some(found) => Ok(found),
                None => Err(Fault::text("selector must be specified")),
            }
        }
    }
}

/// The ports, with their protocols, that an object's containers or the Service itself name.
fn own_ports(object: &Object) -> Vec<(u16, String)> {
    let read = |port: &Object, key: &str| {
        let number = u16::try_from(port[key].as_u64()?).ok()?;
        Some((number, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
    };
    let spec = match object["kind"].as_str() {
        Some("Pod") => &object["spec"],
        Some("Service") => {
            let ports = object["spec"]["ports"].as_array().into_iter().flatten();
            return ports.filter_map(|port| read(port, "port")).collect();
        }
        _ => &object["spec"]["template"]["spec"],
    };
    let containers = spec["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    ports.filter_map(|port| read(port, "containerPort")).collect()
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

    fn deployment(ports: Object) -> Object {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"team": "a"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                     "template": {"spec": {"containers": [{"ports": ports}]}}},
        })
    }

    #[test]
    fn a_deployment_with_one_port() {
        let deployment = deployment(json!([{"containerPort": 80}]));
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
            json!({"name": "port-2", "port": 9090, "targetPort": "http", "protocol": "TCP"})
        );
    }

    #[test]
    fn protocols_are_the_containers() {
        let dns = deployment(json!([
            {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53},
            {"containerPort": 80}, {"containerPort": 123, "protocol": "UDP"}]));
        let names = |line: &str| -> Vec<String> {
            let made = made(line, &dns).unwrap();
            let ports = made["spec"]["ports"].as_array().unwrap().iter();
            ports.map(|p| format!("{} {} {}", p["name"], p["port"], p["protocol"])).collect()
        };
        assert_eq!(
            names(""),
            [
                "\"port-1-udp\" 53 \"UDP\"",
                "\"port-1-tcp\" 53 \"TCP\"",
                "\"port-2\" 80 \"TCP\"",
                "\"port-3\" 123 \"UDP\""
            ]
        );
        assert_eq!(names("--port 123"), ["null 123 \"UDP\""]);
        assert_eq!(names("--port 123 --protocol TCP"), ["null 123 \"TCP\""]);
    }

    #[test]
    fn addresses_and_kinds() {
        let one = deployment(json!([]));
        let headless = made("--cluster-ip None", &one).unwrap();
        assert_eq!(
            (&headless["spec"]["clusterIP"], &headless["spec"]["ports"]),
            (&json!("None"), &json!([]))
        );
        let line = "--port 80 --type LoadBalancer --load-balancer-ip 192.0.2.9 --external-ip \
                    192.0.2.8 --session-affinity ClientIP";
        let spec = made(line, &one).unwrap()["spec"].clone();
        assert_eq!(spec["loadBalancerIP"], "192.0.2.9");
        assert_eq!(spec["externalIPs"], json!(["192.0.2.8"]));
        assert_eq!(spec["sessionAffinity"], "ClientIP");
        assert!(
            made("--port 80 --load-balancer-ip 192.0.2.9", &one).unwrap()["spec"]
                .get("loadBalancerIP")
                .is_none()
        );
    }

    #[test]
    fn what_cannot_be_exposed() {
        let pod = json!({"kind": "Pod", "metadata": {}, "spec": {}});
        let of = "error: couldn't retrieve selectors via --selector flag or introspection: ";
        assert_eq!(
            made("--port 80", &pod).unwrap_err(),
            format!("{of}the pod has no labels and cannot be exposed")
        );
        let service = json!({"kind": "Service", "metadata": {}, "spec": {}});
        assert_eq!(
            made("--port 80", &service).unwrap_err(),
            format!("{of}the service has no pod selector set")
        );
        let labelled = json!({"kind": "Pod", "metadata": {"labels": {"a": "b"}}, "spec": {}});
        assert_eq!(
            made("", &labelled).unwrap_err(),
            "error: couldn't find port via --port flag or introspection"
        );
        assert!(made("--port x", &labelled).unwrap_err().contains("not a port number"));
        assert_eq!(
            made("--port 1 --session-affinity x", &labelled).unwrap_err(),
            "error: unknown session affinity: x"
        );
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}});
        assert_eq!(made("--port 1", &secret).unwrap_err(), "error: cannot expose a Secret");
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {}});
        assert_eq!(made("--port 1", &set).unwrap_err(), "error: cannot expose a StatefulSet.apps");
    }
}
