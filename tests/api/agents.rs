//! What the API passes on to agents: who it says it is, the path and query it asks for, bodies
//! that stream both ways without a cap, and upgraded connections as raw bytes. The agent here is
//! a few lines over TLS, with the credentials that a real one has.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edge_client::tls::{ClientAuth, ClientTls, client_config, server_config};
use http_body_util::BodyExt;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Lab, PODS, pod};

/// Serves one connection after the other as the agent of `node`, and makes the Node known.
async fn agent(lab: &Lab, node: &str) {
    let ips: [IpAddr; 1] = ["127.0.0.1".parse().unwrap()];
    let credentials = lab.server.agent_credentials(node, &ips).unwrap();
    let config = server_config(
        credentials.serving_cert_pem.as_bytes(),
        credentials.serving_key_pem.as_bytes(),
        ClientAuth::Required(credentials.ca_pem.as_bytes()),
    );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(serve(stream));
        }
    });
    let status = json!({"metadata": {"name": node}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    lab.create("/api/v1/nodes", &json!({"metadata": {"name": node}})).await;
    let answer = lab.send("PUT", &format!("/api/v1/nodes/{node}/status"), &status).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

async fn head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

async fn serve(mut stream: TlsStream<TcpStream>) {
    let head = head(&mut stream).await;
    let first = head.lines().next().unwrap_or_default().to_owned();
    if first.contains("/exec/") {
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: SPDY/3.1\r\n\r\nready;";
        stream.write_all(switching.as_bytes()).await.unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
        return;
    }
    if first.contains("/containerLogs/") {
        let begin = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
                     Transfer-Encoding: chunked\r\n\r\n";
        stream.write_all(begin.as_bytes()).await.unwrap();
        let line = format!("{first}\n");
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(b"5\r\nlate\n\r\n0\r\n\r\n").await.unwrap();
        return;
    }
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut left: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    let total = left;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        left -= stream.read(&mut buffer).await.unwrap();
    }
    let body = format!("{first} {total} bytes");
    let answer = format!(
        "HTTP/1.1 202 Accepted\r\nX-Agent: yes\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

async fn bound_pod(lab: &Lab) {
    let mut body = pod("a");
    body["spec"]["nodeName"] = json!("n1");
    lab.create(PODS, &body).await;
}

#[tokio::test]
async fn logs_stream() {
    let lab = Lab::start().await;
    agent(&lab, "n1").await;
    bound_pod(&lab).await;
    let mut request = http::Request::new(edge_client::body::empty());
    *request.uri_mut() = format!("{PODS}/a/log?follow=true&tailLines=3").parse().unwrap();
    let mut body = lab.client.request(request).await.unwrap().into_body();
    let began = std::time::Instant::now();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(began.elapsed() < Duration::from_millis(250), "held back");
    let want = "GET /containerLogs/default/a/web?follow=true&tailLines=3 HTTP/1.1\n";
    assert_eq!(String::from_utf8_lossy(&first), want);
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "late\n");
    lab.end().await;
}

#[tokio::test]
async fn bodies_of_any_size_pass() {
    let lab = Lab::start().await;
    agent(&lab, "n1").await;
    let path = "/api/v1/nodes/n1/proxy/images/load?x=1";
    let big = "x".repeat(8 * 1024 * 1024);
    let answer = lab.ask("POST", path, &[("content-type", "application/x-tar")], &big).await;
    assert_eq!(answer.code, 202, "{}", answer.text);
    assert_eq!(answer.text, "POST /images/load?x=1 HTTP/1.1 8388608 bytes");
    assert_eq!(answer.headers["x-agent"], "yes");
    lab.end().await;
}

#[tokio::test]
async fn upgrades_are_tunnelled() {
    let lab = Lab::start().await;
    agent(&lab, "n1").await;
    bound_pod(&lab).await;
    let path = lab.dir.join("admin.kubeconfig");
    let admin = edge_client::Config::from_kubeconfig(&path, None).unwrap();
    let tls = client_config(&ClientTls {
        ca_pem: admin.ca_pem.as_deref(),
        cert_pem: admin.client_cert_pem.as_deref(),
        key_pem: admin.client_key_pem.as_deref(),
        insecure: false,
        ..ClientTls::default()
    });
    let connector = TlsConnector::from(Arc::new(tls.unwrap()));
    let tcp = TcpStream::connect(lab.server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, tcp).await.unwrap();
    let request = format!(
        "POST {PODS}/a/exec?command=sh&stdin=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"ready;") {
        text.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(text).unwrap().to_lowercase();
    assert!(text.starts_with("http/1.1 101") && text.contains("upgrade: spdy/3.1"), "{text}");
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
    // An open session does not hold up the server's end.
    let began = std::time::Instant::now();
    lab.end().await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn another_boards_agent_is_not_trusted() {
    let lab = Lab::start().await;
    // The certificate says n1; the Node at this address says n2.
    agent(&lab, "n1").await;
    let mut node = lab.get("/api/v1/nodes/n1").await.json();
    node["metadata"] = json!({"name": "n2"});
    lab.create("/api/v1/nodes", &json!({"metadata": {"name": "n2"}})).await;
    lab.send("PUT", "/api/v1/nodes/n2/status", &node).await;
    let answer = lab.get("/api/v1/nodes/n2/proxy/healthz").await;
    assert_eq!(answer.code, 503);
    assert!(answer.message().contains("tls:"), "{}", answer.text);
    assert_eq!(lab.get("/api/v1/nodes/n1/proxy/healthz").await.code, 202);
    lab.end().await;
}
