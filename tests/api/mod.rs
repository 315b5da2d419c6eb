//! The API as clients see it: a real server on a loopback port with a directory of its own, asked
//! over HTTPS, word for word; and real `kubectl`, every version that the machine has.

mod access;
mod agents;
mod cases;
mod discovery;
mod joins;
mod kubectl;
mod lifecycle;
mod limits;
mod lists;
mod nodeless;
mod nodes;
mod patches;
mod roles;
mod services;
mod tokens;
mod watches;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use edge_client::{Client, body};
use edge_server::{Config, Server};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;

/// A server of a test's own.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) dir: PathBuf,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text))
    }

    /// The message of a Status.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The texts of the warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let values = self.headers.get_all("warning").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}

/// The settings of a test's server.
pub(crate) fn config(dir: &std::path::Path) -> Config {
    Config {
        name: "board-1".to_owned(),
        data_dir: dir.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        node_ip: None,
        cluster_cidr: "10.42.0.0/16".to_owned(),
        service_cidr: "10.43.0.0/16".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        agent_port: 10250,
        nodes: edge_server::NodeSettings::default(),
        cluster: Default::default(),
    }
}

impl Lab {
    /// A fresh cluster.
    pub(crate) async fn start() -> Lab {
        Lab::start_in(Lab::dir()).await
    }

    fn dir() -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-api-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A fresh cluster with settings of its own.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Lab {
        Lab::open(Lab::dir(), change).await
    }

    /// A server on a directory that may hold a cluster already.
    pub(crate) async fn start_in(dir: PathBuf) -> Lab {
        Lab::open(dir, |_| ()).await
    }

    async fn open(dir: PathBuf, change: impl FnOnce(&mut Config)) -> Lab {
        let mut settings = config(&dir);
        change(&mut settings);
        let server = Server::start(settings).await.unwrap_or_else(|error| panic!("{error}"));
        let client = client(&dir);
        Lab { server, client, dir }
    }

    /// Stops the server; the directory stays.
    pub(crate) async fn stop(self) -> PathBuf {
        self.server.shutdown().await;
        self.dir
    }

    /// Stops the server and removes the directory.
    pub(crate) async fn end(self) {
        let dir = self.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// A request with a JSON body.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask(method, path, &headers, &body.to_string()).await
    }

    /// `POST path`, which must succeed; the object as it is then.
    pub(crate) async fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.send("POST", path, body).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer.json()
    }

    /// Any request as the administrator.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.client, method, path, headers, body).await
    }

    /// A client with the credentials of a board's agent.
    pub(crate) fn agent(&self, node: &str) -> Client {
        let ips: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
        let credentials = self.server.agent_credentials(node, &ips).unwrap();
        let mut config = self.anonymous_config();
        config.client_cert_pem = Some(credentials.client_cert_pem.into_bytes());
        config.client_key_pem = Some(credentials.client_key_pem.into_bytes());
        Client::new(config).unwrap()
    }

    /// The way in without credentials.
    pub(crate) fn anonymous_config(&self) -> edge_client::Config {
        let path = self.dir.join("admin.kubeconfig");
        let mut config = edge_client::Config::from_kubeconfig(&path, None).unwrap();
        config.client_cert_pem = None;
        config.client_key_pem = None;
        config
    }
}

/// The administrator's client, from the kubeconfig that the server wrote.
pub(crate) fn client(dir: &std::path::Path) -> Client {
    let path = dir.join("admin.kubeconfig");
    Client::new(edge_client::Config::from_kubeconfig(&path, None).unwrap()).unwrap()
}

/// Any request, with any client.
pub(crate) async fn ask(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let content = match body {
        "" => body::empty(),
        body => body::full(body.to_owned()),
    };
    let mut request = Request::new(content);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = client.request(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { code: head.status.as_u16(), headers: head.headers, text }
}

/// A Deployment as people write them.
pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
            },
        },
    })
}

/// A ConfigMap with one entry.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "data": { "key": value },
    })
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
    })
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
