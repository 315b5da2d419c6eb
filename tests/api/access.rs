//! Who may do what: nobody without a certificate, a board's agent for its own pods only; and that
//! keys are for their owner's eyes.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use edge_client::Client;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Lab, MAPS, PODS, ask, config_map, pod};

const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

#[tokio::test]
async fn strangers_see_only_that_it_lives() {
    let lab = Lab::start().await;
    let nobody = Client::new(lab.anonymous_config()).unwrap();
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(ask(&nobody, "GET", path, &[], "").await.code, 200, "{path}");
    }
    let answer = ask(&nobody, "GET", PODS, &[], "").await;
    assert_eq!(answer.code, 403);
    assert_eq!(
        answer.message(),
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \
         \"\" in the namespace \"default\""
    );
    for path in ["/api", "/metrics", "/openapi/v2", "/nothing"] {
        let answer = ask(&nobody, "GET", path, &[], "").await;
        assert_eq!(answer.code, 403, "{path}: {}", answer.text);
    }
    let token = [("authorization", "Bearer x")];
    assert_eq!(ask(&nobody, "GET", PODS, &token, "").await.code, 401);
    lab.end().await;
}

#[tokio::test]
async fn strangers_are_refused_before_they_say_more() {
    let lab = Lab::start().await;
    let mut stranger = super::limits::stranger(&lab).await;
    let head = format!("POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n{{");
    stranger.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 12];
    let read = stranger.read_exact(&mut said);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("an answer").unwrap();
    assert_eq!(&said, b"HTTP/1.1 403");
    lab.end().await;
}

#[tokio::test]
async fn strangers_with_certificates_of_their_own_are_refused() {
    let (ours, theirs) = (Lab::start().await, Lab::start().await);
    let path = theirs.dir.join("admin.kubeconfig");
    let foreign = edge_client::Config::from_kubeconfig(&path, None).unwrap();
    let mut config = ours.anonymous_config();
    config.client_cert_pem = foreign.client_cert_pem;
    config.client_key_pem = foreign.client_key_pem;
    let client = Client::new(config).unwrap();
    let call = edge_client::Call::get("/version");
    assert!(client.call(&call).await.is_err());
    ours.end().await;
    theirs.end().await;
}

#[tokio::test]
async fn an_agent_sees_to_its_own_board() {
    let lab = Lab::start().await;
    let secret = |name: &str| json!({"metadata": {"name": name}, "stringData": {"a": "b"}});
    let secrets = "/api/v1/namespaces/default/secrets";
    lab.create(secrets, &secret("used")).await;
    lab.create(secrets, &secret("other")).await;
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let mut body = pod(name);
        body["spec"]["nodeName"] = json!(node);
        if name == "mine" {
            let source = json!([{"secretRef": {"name": "used"}}]);
            body["spec"]["containers"][0]["envFrom"] = source;
        }
        lab.create(PODS, &body).await;
    }
    let agent = lab.agent("n1");
    let status = json!({"status": {"phase": "Running"}}).to_string();
    let node = json!({"metadata": {"name": "n1"}}).to_string();
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod",
        "namespace": "default", "name": "mine"}, "reason": "Started", "type": "Normal"})
    .to_string();
    let events = "/api/v1/namespaces/default/events";
    let own = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1";
    let none = String::new;
    let cases: Vec<(&str, String, String, u16)> = vec![
        ("POST", "/api/v1/nodes".into(), node.clone(), 201),
        ("POST", "/api/v1/nodes".into(), node.replace("n1", "n9"), 403),
        ("PATCH", "/api/v1/nodes/n1/status".into(), json!({"status": {}}).to_string(), 200),
        ("PATCH", "/api/v1/nodes/n2/status".into(), status.clone(), 403),
        ("DELETE", "/api/v1/nodes/n1".into(), none(), 403),
        ("GET", own.into(), none(), 200),
        ("GET", "/api/v1/pods".into(), none(), 403),
        ("GET", own.replace("n1", "n2"), none(), 403),
        ("GET", format!("{PODS}/mine"), none(), 200),
        ("GET", format!("{PODS}/theirs"), none(), 403),
        ("PATCH", format!("{PODS}/mine/status"), status.clone(), 200),
        ("PATCH", format!("{PODS}/theirs/status"), status.clone(), 403),
        ("PATCH", format!("{PODS}/mine"), status, 403),
        ("GET", format!("{secrets}/used"), none(), 200),
        ("GET", format!("{secrets}/other"), none(), 403),
        ("GET", secrets.into(), none(), 403),
        ("GET", format!("{secrets}?fieldSelector=metadata.name%3Dused"), none(), 200),
        ("GET", "/api/v1/services".into(), none(), 200),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices".into(), none(), 200),
        ("GET", POLICIES.into(), none(), 200),
        ("GET", "/api/v1/namespaces".into(), none(), 403),
        ("POST", events.into(), event, 201),
        ("DELETE", format!("{events}/e"), none(), 403),
        ("POST", MAPS.into(), config_map("a", "b").to_string(), 403),
        ("GET", format!("{PODS}/mine/log"), none(), 403),
        ("DELETE", format!("{PODS}/theirs"), none(), 403),
        ("DELETE", format!("{PODS}/mine?gracePeriodSeconds=0"), none(), 200),
    ];
    for (method, path, body, code) in cases {
        let headers = if method == "PATCH" { MERGE } else { [("accept", "*/*")] };
        let answer = ask(&agent, method, &path, &headers, &body).await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.text);
    }
    lab.end().await;
}

/// Every board serves Ingresses, so it may read the certificates that they name: of our class, of
/// that type, and by their names.
#[tokio::test]
async fn an_agent_reads_the_certificates_of_ingresses() {
    let lab = Lab::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let tls = json!({"tls.crt": "x", "tls.key": "y"});
    for (name, kind) in [("cert", "kubernetes.io/tls"), ("foreign", "kubernetes.io/tls")] {
        let secret = json!({"metadata": {"name": name}, "type": kind, "stringData": tls});
        lab.create(secrets, &secret).await;
    }
    let password = json!({"metadata": {"name": "password"}, "stringData": {"a": "b"}});
    lab.create(secrets, &password).await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let ingress = |name: &str, secrets: &[&str]| {
        let tls: Vec<_> = secrets.iter().map(|name| json!({"secretName": name})).collect();
        json!({"metadata": {"name": name}, "spec": {"tls": tls, "defaultBackend":
            {"service": {"name": "web", "port": {"number": 80}}}}})
    };
    let agent = lab.agent("n1");
    let by = |name: &str| format!("{secrets}?fieldSelector=metadata.name%3D{name}");
    let typed = |name: &str| format!("{},type%3Dkubernetes.io%2Ftls", by(name));
    assert_eq!(ask(&agent, "GET", &format!("{secrets}/cert"), &[], "").await.code, 403);
    lab.create(ingresses, &ingress("ours", &["cert", "password", "to-come"])).await;
    let mut theirs = ingress("theirs", &["foreign"]);
    theirs["spec"]["ingressClassName"] = json!("nginx");
    lab.create(ingresses, &theirs).await;
    for (path, code) in [
        ("/apis/networking.k8s.io/v1/ingresses".to_owned(), 200),
        ("/apis/networking.k8s.io/v1/ingressclasses".to_owned(), 200),
        (format!("{secrets}/cert"), 200),
        (typed("cert"), 200),
        (typed("to-come"), 200),
        (by("cert"), 403),
        (format!("{secrets}/foreign"), 403),
        (typed("foreign"), 403),
        (format!("{secrets}/password"), 403),
        (by("password"), 403),
        (format!("{secrets}?fieldSelector=type%3Dkubernetes.io%2Ftls"), 403),
        (typed("cert").replace("default", "kube-system"), 403),
    ] {
        let answer = ask(&agent, "GET", &path, &[], "").await;
        assert_eq!(answer.code, code, "{path}: {}", answer.text);
    }
    // Another type shows nothing, though it may be asked for by name.
    let found = ask(&agent, "GET", &typed("password"), &[], "").await;
    assert_eq!(found.json()["items"], json!([]), "{}", found.text);
    let write = ingress("mine", &[]).to_string();
    assert_eq!(ask(&agent, "POST", ingresses, &[], &write).await.code, 403);
    lab.end().await;
}

/// The class that a new Ingress gets, and what is refused in Kubernetes' words.
#[tokio::test]
async fn an_ingress_gets_the_default_class() {
    let lab = Lab::start().await;
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let ingress = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"defaultBackend":
            {"service": {"name": "web", "port": {"number": 80}}}}})
    };
    let before = lab.create(ingresses, &ingress("before")).await;
    assert!(before["spec"]["ingressClassName"].is_null(), "{before}");
    assert_eq!(before["status"], json!({"loadBalancer": {}}));
    let class = json!({"metadata": {"name": "edged", "annotations":
        {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "edged.io/ingress"}});
    lab.create(classes, &class).await;
    let after = lab.create(ingresses, &ingress("after")).await;
    assert_eq!(after["spec"]["ingressClassName"], "edged");
    let mut bad = ingress("bad");
    bad["spec"]["rules"] = json!([{"host": "a.*"}]);
    let answer = lab.send("POST", ingresses, &bad).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    let words = "Ingress.networking.k8s.io \"bad\" is invalid: spec.rules[0].host: Invalid value: \
                 \"a.*\": a wildcard DNS-1123 subdomain must start with";
    assert!(answer.message().starts_with(words), "{}", answer.message());
    lab.end().await;
}

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

/// While there is a policy, a board sees of others' pods and of namespaces what selectors go by.
#[tokio::test]
async fn a_board_sees_outlines_of_others_pods_while_there_are_policies() {
    let lab = Lab::start().await;
    let mut body = pod("theirs");
    body["spec"]["nodeName"] = json!("n2");
    body["metadata"]["annotations"] = json!({"hidden": "hidden"});
    body["spec"]["containers"][0]["env"] = json!([{"name": "HIDDEN", "value": "hidden"}]);
    lab.create(PODS, &body).await;
    let agent = lab.agent("n1");
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
    lab.create(POLICIES, &policy).await;
    let get = async |path: &str| ask(&agent, "GET", path, &[("accept", "*/*")], "").await;
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let forms = [("accept", "*/*"), ("accept", table), ("accept", "application/yaml")];
    for form in forms {
        let answer = ask(&agent, "GET", "/api/v1/pods", &[form], "").await;
        assert_eq!(answer.code, 200, "{}", answer.text);
        let items = answer.json()["items"].clone();
        assert_eq!(items[0]["metadata"]["name"], "theirs", "{}", answer.text);
        assert!(!answer.text.contains("hidden"), "{}", answer.text);
    }
    assert_eq!(get("/api/v1/namespaces").await.code, 200);
    assert_eq!(get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2").await.code, 403);
    assert_eq!(get(&format!("{PODS}/theirs")).await.code, 403, "whole, it is its board's");
    assert_eq!(get("/api/v1/secrets").await.code, 403);
    assert_eq!(lab.ask("DELETE", &format!("{POLICIES}/p"), &[], "").await.code, 200);
    assert_eq!(get("/api/v1/pods").await.code, 403, "as before");
    lab.end().await;
}

#[tokio::test]
async fn keys_are_private() {
    let lab = Lab::start().await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.dir.join("admin.kubeconfig")), 0o600);
    assert_eq!(mode(&lab.dir.join("pki")), 0o700);
    lab.agent("n1");
    for entry in std::fs::read_dir(lab.dir.join("pki")).unwrap() {
        let path = entry.unwrap().path();
        let want = if path.extension().is_some_and(|end| end == "key") { 0o600 } else { 0o644 };
        assert_eq!(mode(&path), want, "{}", path.display());
    }
    lab.end().await;
}

#[tokio::test]
async fn an_agent_out_of_reach_is_named() {
    let lab = Lab::start().await;
    let mut body = pod("a");
    body["spec"]["nodeName"] = json!("n1");
    lab.create(PODS, &pod("free")).await;
    lab.create(PODS, &body).await;
    let log = format!("{PODS}/a/log");
    // No such board, one without an address, one where nobody listens.
    assert_eq!(lab.get(&log).await.code, 404);
    lab.create("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await;
    assert_eq!(lab.get(&log).await.code, 503);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}});
    let path = "/api/v1/nodes/n1/status";
    assert_eq!(lab.ask("PATCH", path, &MERGE, &status.to_string()).await.code, 200);
    let answer = lab.get(&format!("{log}?tailLines=5&container=web")).await;
    assert_eq!(answer.code, 503);
    assert_eq!(
        answer.message(),
        "Get \"https://127.0.0.1:1/containerLogs/default/a/web?tailLines=5\": dial tcp \
         127.0.0.1:1: connect: connection refused"
    );
    let answer = lab.get("/api/v1/nodes/n1/proxy/healthz").await;
    assert!(answer.message().contains("127.0.0.1:1/healthz"), "{}", answer.text);
    assert_eq!(lab.get(&format!("{log}?container=no")).await.code, 400);
    let exec = format!("{PODS}/free/exec?command=sh");
    let answer = lab.ask("POST", &exec, &[], "").await;
    assert_eq!(
        (answer.code, answer.message().as_str()),
        (400, "pod free does not have a host assigned")
    );
    let answer = lab.get(&format!("{PODS}/free/log")).await;
    assert_eq!((answer.code, answer.text.as_str()), (200, ""));
    lab.end().await;
}
