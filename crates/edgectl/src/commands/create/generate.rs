//! Deployments, Services, Namespaces and ServiceAccounts from a few words.

use crate::fault::Fault;
use crate::writing::Writing;
use edge_api::Object;
use serde_json::json;

/// An object that has a name and nothing else
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    pub(super) writing: Writing,
}

impl Named {
    pub(super) fn object(&self, kind: &str) -> Object {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": self.name}})
    }
}

/// A Deployment
#[derive(Debug, clap::Args)]
pub(super) struct Deployment {
    /// Its name
    name: String,
    /// An image for each container
    #[arg(long, required = true)]
    image: Vec<String>,
    /// The number of pods
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    pub(super) writing: Writing,
    /// The program and its arguments, after `--`
    #[arg(last = true)]
    command: Vec<String>,
}

impl Deployment {
    pub(super) fn object(&self) -> Result<Object, Fault> {
        if self.image.len() > 1 && !self.command.is_empty() {
            return Err(Fault::text("cannot specify multiple --image options and a command"));
        }
        let mut containers = Vec::new();
        for image in &self.image {
            let mut container = json!({"name": container_name(image), "image": image,
                                       "resources": {}});
            if let Some(port) = self.port {
                container["ports"] = json!([{"containerPort": port}]);
            }
            if !self.command.is_empty() {
                container["command"] = json!(self.command);
            }
            containers.push(container);
        }
        let labels = json!({"app": self.name});
        Ok(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        }))
    }
}

/// The last part of an image's name, in characters that a container's name may have.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let bare = last.split(['@', ':']).next().unwrap_or(last);
    let name: String = bare
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-').to_string();
    if name.is_empty() { "container".to_string() } else { name }
}

/// A Service
#[derive(Debug, clap::Args)]
pub(super) struct ServiceArgs {
    #[command(subcommand)]
    kind: ServiceKind,
}

#[derive(Debug, clap::Subcommand)]
enum ServiceKind {
    /// Reached within the cluster
    #[command(name = "clusterip")]
    ClusterIp(Ports),
    /// Reached at a port of every node
    #[command(name = "nodeport")]
    NodePort(Ports),
    /// Reached at an address from outside
    #[command(name = "loadbalancer")]
    LoadBalancer(Ports),
    /// Another name for a host outside
    #[command(name = "externalname")]
    ExternalName(External),
}

#[derive(Debug, clap::Args)]
struct Ports {
    /// The name of the Service, whose pods carry the label app=NAME
    name: String,
    /// PORT or PORT:TARGET; may be given several times
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// The port of the nodes
    #[arg(long)]
    node_port: Option<u16>,
    /// The address of the Service; `None` for a headless one
    #[arg(long)]
    clusterip: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, clap::Args)]
struct External {
    /// The name of the Service
    name: String,
    /// The host
    #[arg(long)]
    external_name: String,
    #[command(flatten)]
    writing: Writing,
}

impl ServiceArgs {
    pub(super) fn object(self) -> Result<(Object, Writing), Fault> {
        let (kind, args) = match self.kind {
            ServiceKind::ClusterIp(args) => ("ClusterIP", args),
            ServiceKind::NodePort(args) => ("NodePort", args),
            ServiceKind::LoadBalancer(args) => ("LoadBalancer", args),
            ServiceKind::ExternalName(args) => {
                let spec = json!({"type": "ExternalName", "externalName": args.external_name,
                                  "selector": {"app": args.name}});
                return Ok((service(&args.name, spec), args.writing));
            }
        };
        let headless = args.clusterip.as_deref() == Some("None");
        if args.tcp.is_empty() && !headless {
            return Err(Fault::text("at least one tcp port specifier must be provided: --tcp=80"));
        }
        let mut ports = Vec::new();
        for text in &args.tcp {
            let (port, target) = text.split_once(':').unwrap_or((text, text));
            let number: u16 = port
                .parse()
                .map_err(|_| Fault::text(format!("--tcp: {port:?} is not a port number")))?;
            let target = target.parse::<u16>().map_or(json!(target), |number| json!(number));
            let name = text.replace(':', "-");
            let mut entry =
                json!({"name": name, "port": number, "protocol": "TCP", "targetPort": target});
            if let Some(node_port) = args.node_port.filter(|_| kind == "NodePort") {
                entry["nodePort"] = json!(node_port);
            }
            ports.push(entry);
        }
        let mut spec = json!({"type": kind, "ports": ports, "selector": {"app": args.name}});
        if let Some(address) = &args.clusterip {
            spec["clusterIP"] = json!(address);
        }
        Ok((service(&args.name, spec), args.writing))
    }
}

fn service(name: &str, spec: Object) -> Object {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    enum Line {
        Deployment(Deployment),
        Service(ServiceArgs),
    }

    #[test]
    fn containers_are_named_after_images() {
        let table = [
            ("nginx", "nginx"),
            ("registry:5000/team/Web_App:1.2", "web-app"),
            ("x/y@sha256:abc", "y"),
            ("docker.io/library/busybox:1.36", "busybox"),
        ];
        for (image, name) in table {
            assert_eq!(container_name(image), name, "{image}");
        }
    }

    #[test]
    fn a_deployment() {
        let line = "x deployment web --image=web:1 -r 3 --port 80";
        let Line::Deployment(args) = Line::parse_from(line.split(' ')) else { panic!() };
        let object = args.object().unwrap();
        assert_eq!(object["spec"]["replicas"], 3);
        assert_eq!(object["spec"]["selector"]["matchLabels"], json!({"app": "web"}));
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["ports"], json!([{"containerPort": 80}]));
    }

    #[test]
    fn services() {
        let made = |line: &str| match Line::parse_from(line.split(' ')) {
            Line::Service(args) => args.object().map(|(object, _)| object),
            Line::Deployment(_) => panic!("not a service"),
        };
        let spec = &made("x service nodeport web --tcp=80:http --node-port 30080").unwrap()["spec"];
        assert_eq!(
            spec["ports"][0],
            json!({"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http",
                   "nodePort": 30080})
        );
        assert!(made("x service clusterip web").is_err());
        let headless = made("x service clusterip web --clusterip=None").unwrap();
        assert_eq!(headless["spec"]["clusterIP"], "None");
    }
}
