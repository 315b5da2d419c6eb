//! Clients that mean harm or are broken: garbage, endless headers, deep nesting, many at once.
//! The server answers or closes, and goes on serving everybody else.

use std::sync::Arc;
use std::time::Duration;

use edge_client::tls::{ClientTls, client_config};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Lab, MAPS, config_map};

/// A connection of the administrator's.
async fn raw(lab: &Lab) -> TlsStream<TcpStream> {
    connect(lab, true).await
}

/// A connection of somebody who shows no certificate.
pub(super) async fn stranger(lab: &Lab) -> TlsStream<TcpStream> {
    connect(lab, false).await
}

async fn connect(lab: &Lab, known: bool) -> TlsStream<TcpStream> {
    let path = lab.dir.join("admin.kubeconfig");
    let admin = edge_client::Config::from_kubeconfig(&path, None).unwrap();
    let tls = client_config(&ClientTls {
        ca_pem: admin.ca_pem.as_deref(),
        cert_pem: admin.client_cert_pem.as_deref().filter(|_| known),
        key_pem: admin.client_key_pem.as_deref().filter(|_| known),
        insecure: false,
        ..ClientTls::default()
    });
    let connector = TlsConnector::from(Arc::new(tls.unwrap()));
    let tcp = TcpStream::connect(lab.server.address()).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
}

/// Sends bytes and reads until the server closes; what it said.
async fn exchange(lab: &Lab, bytes: &[u8]) -> String {
    let mut stream = raw(lab).await;
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut said));
    let _ = read.await;
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn garbage_is_answered_and_closed() {
    let lab = Lab::start().await;
    // No TLS at all.
    let mut plain = TcpStream::connect(lab.server.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    let said = exchange(&lab, b"\x00\x01\x02 nonsense\r\n\r\n").await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(256 * 1024));
    let said = exchange(&lab, endless.as_bytes()).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    let many: String = (0..500).map(|i| format!("X-{i}: y\r\n")).collect();
    let said = exchange(&lab, format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    assert_eq!(lab.get("/readyz").await.code, 200);
    lab.end().await;
}

#[tokio::test]
async fn hostile_bodies_are_refused() {
    let lab = Lab::start().await;
    let json = [("content-type", "application/json")];
    let yaml = [("content-type", "application/yaml")];
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(lab.ask("POST", MAPS, &json, &deep).await.code, 400);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    let answer = lab.ask("POST", MAPS, &yaml, bomb).await;
    assert!(answer.code >= 400, "{}", answer.text);
    let deep = "[".repeat(100_000);
    assert_eq!(lab.ask("POST", MAPS, &yaml, &deep).await.code, 400);
    // A size that lies: more is announced than comes.
    let short = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{}";
    let said = exchange(&lab, short.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let merge = [("content-type", "application/merge-patch+json")];
    lab.create(MAPS, &config_map("a", "v")).await;
    for patch in ["null", "1", "{\"metadata\":null}", "{\"metadata\":[]}"] {
        let answer = lab.ask("PATCH", &format!("{MAPS}/a"), &merge, patch).await;
        assert!((400..500).contains(&answer.code), "{patch}: {} {}", answer.code, answer.text);
    }
    assert_eq!(lab.get("/readyz").await.code, 200);
    lab.end().await;
}

#[tokio::test]
async fn odd_paths_do_no_harm() {
    let lab = Lab::start().await;
    for path in [
        "/api/v1/namespaces/default/pods/..%2f..%2fnodes%2fn1",
        "/api/v1/namespaces/a%2fb/pods",
        "/api/v1/namespaces/%00/pods/%ff",
        "/api/v1/nodes/%2e%2e/proxy/%2e%2e/x",
        "//api//v1//",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/pods?labelSelector=%ff%fe",
        "/api/v1/namespaces/default/pods?fieldSelector=,,,",
    ] {
        let answer = lab.get(path).await;
        assert!(answer.code < 500, "{path}: {}", answer.text);
    }
    let long = "x".repeat(600);
    let answer = lab.get(&format!("{MAPS}/{long}")).await;
    assert_eq!(answer.code, 404, "{}", answer.text);
    let answer = lab.send("POST", MAPS, &config_map(&long, "v")).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    lab.end().await;
}

#[tokio::test]
async fn connections_that_only_sit_there_keep_nobody_out() {
    let lab = Lab::start().await;
    let mut known = Vec::new();
    for _ in 0..20 {
        known.push(raw(&lab).await);
    }
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(lab.server.address()).await.unwrap());
    }
    // A client that comes last is answered, and those that came before take no places.
    let fresh = super::client(&lab.dir);
    let answer = super::ask(&fresh, "GET", "/metrics", &[], "").await;
    let name = "edged_api_half_open_ended_total ";
    let line = answer.text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    assert!(line.parse::<u64>().is_ok_and(|ended| (40..50).contains(&ended)), "{}", answer.text);
    assert_eq!(lab.get("/readyz").await.code, 200);
    let ended = tokio::time::timeout(Duration::from_secs(8), held[299].read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    for stream in &mut known {
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0, "it was not ended");
    }
    lab.end().await;
}
