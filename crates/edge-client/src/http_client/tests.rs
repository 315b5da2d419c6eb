//! Retry, failover, connection reuse and refusals, against servers in process.

use super::*;
use crate::tests::fake::{answer, client, serve, status};
use crate::tls;
use crate::{ListParams, PatchType, WriteParams};
use edge_api::kinds;
use serde_json::json;

#[tokio::test]
async fn connections_are_used_again_and_credentials_sent() {
    let fake = serve(|_, _| Some(answer(200, &json!({"kind": "Pod"})))).await;
    let client = fake.client();
    for _ in 0..5 {
        client.get(kinds::POD, "default", "web").await.unwrap();
    }
    let seen = fake.seen();
    assert!(seen.iter().all(|seen| seen.connection == 0), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.authorization == "Bearer secret"));
    assert_eq!(seen[0].path, "/api/v1/namespaces/default/pods/web");
}

#[tokio::test]
async fn reads_are_repeated_and_writes_are_not() {
    let fake = serve(|number, seen| match (number, seen.method.as_str()) {
        (0, _) => Some(answer(503, &status(503, "ServiceUnavailable", "not yet"))),
        (1, _) => None,
        (_, "GET") => Some(answer(200, &json!({"metadata": {"name": "web"}}))),
        _ => None,
    })
    .await;
    let client = fake.client();
    let pod = client.get(kinds::POD, "default", "web").await.unwrap();
    assert_eq!(pod["metadata"]["name"], "web");
    assert_eq!(fake.seen().len(), 3);
    let written = client.create(kinds::POD, "default", &json!({}), &WriteParams::default()).await;
    assert!(matches!(written, Err(Error::Protocol { .. })), "{written:?}");
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn retry_after_is_obeyed_for_writes_too() {
    let fake = serve(|number, _| {
        let mut busy = answer(429, &status(429, "TooManyRequests", "later"));
        busy.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
        Some(if number == 0 { busy } else { answer(201, &json!({"kind": "Pod"})) })
    })
    .await;
    let pod = json!({"kind": "Pod"});
    fake.client().create(kinds::POD, "a", &pod, &WriteParams::default()).await.unwrap();
    assert_eq!(fake.seen().len(), 2);
    assert_eq!(fake.seen()[1].body, pod.to_string());
}

#[tokio::test]
async fn the_next_server_takes_over_and_is_remembered() {
    let fake = serve(|_, _| Some(answer(200, &json!({})))).await;
    let dead = "http://127.0.0.1:1".to_string();
    let client = client(&[dead.clone(), fake.url.clone()]);
    client.get(kinds::NODE, "", "board").await.unwrap();
    assert_eq!(client.server(), fake.url);
    let lone = crate::tests::fake::client(&[dead]);
    let error = lone.get(kinds::NODE, "", "board").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().starts_with("connect to http://127.0.0.1:1: "), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_help_is_left() {
    let busy =
        serve(|_, _| Some(answer(503, &status(503, "ServiceUnavailable", "no leader")))).await;
    let good = serve(|_, _| Some(answer(200, &json!({})))).await;
    let client = client(&[busy.url.clone(), good.url.clone()]);
    client.get(kinds::NODE, "", "board").await.unwrap();
    client.get(kinds::NODE, "", "board").await.unwrap();
    assert_eq!((busy.seen().len(), good.seen().len()), (1, 2));
}

#[tokio::test]
async fn refusals_are_statuses_in_the_servers_words() {
    let fake = serve(|number, _| match number {
        0 => Some(answer(404, &status(404, "NotFound", "pods \"x\" not found"))),
        _ => {
            let mut plain = Response::new(crate::body::full("no such thing\nmore"));
            *plain.status_mut() = StatusCode::FORBIDDEN;
            Some(plain)
        }
    })
    .await;
    let client = fake.client();
    let error = client.get(kinds::POD, "default", "x").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "pods \"x\" not found");
    let error = client.get(kinds::POD, "default", "x").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (403, "no such thing"));
}

#[tokio::test]
async fn pages_are_collected_and_kinds_named() {
    let fake = serve(|_, seen| {
        let second = seen.path.contains("continue=next");
        let name = if second { "b" } else { "a" };
        let token = if second { "" } else { "next" };
        Some(answer(
            200,
            &json!({"metadata": {"resourceVersion": "7", "continue": token},
                    "items": [{"metadata": {"name": name}}]}),
        ))
    })
    .await;
    let params = ListParams { label_selector: Some("app=web".into()), ..ListParams::default() };
    let list = fake.client().list_all(kinds::DEPLOYMENT, "", &params).await.unwrap();
    assert_eq!(list.resource_version, "7");
    assert_eq!(list.items.len(), 2);
    assert_eq!(list.items[1]["apiVersion"], "apps/v1");
    let first = "/apis/apps/v1/deployments?labelSelector=app%3Dweb&limit=500";
    assert_eq!(fake.paths(), [first.to_string(), format!("{first}&continue=next")]);
}

#[tokio::test]
async fn warnings_and_patch_types() {
    let fake = serve(|_, _| {
        let mut answer = answer(200, &json!({}));
        let warning = HeaderValue::from_static("299 - \"unknown field \\\"spec.x\\\"\"");
        answer.headers_mut().insert("warning", warning);
        Some(answer)
    })
    .await;
    let client = fake.client();
    let answer = client.call(&Call::get("/x")).await.unwrap();
    assert_eq!(answer.warnings, ["unknown field \"spec.x\""]);
    let params = WriteParams { dry_run: true, ..WriteParams::default() };
    let patch = json!({"spec": {"replicas": 2}});
    let scale = Some("scale");
    client
        .patch(kinds::DEPLOYMENT, "a", "web", scale, PatchType::Merge, &patch, &params)
        .await
        .unwrap();
    let path = "/apis/apps/v1/namespaces/a/deployments/web/scale?dryRun=All";
    assert_eq!(fake.paths()[1], path);
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_checked() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (cert, key) = signed("127.0.0.1");
    let clients = tls::ClientAuth::Required(ca_pem.as_bytes());
    let server = tls::server_config(cert.as_bytes(), key.as_bytes(), clients).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(answer(200, &json!({"kind": "Node"})))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(io, service).await;
        }
    });
    let (client_cert, client_key) = signed("admin");
    let mut config = Config {
        servers: vec![url],
        ca_pem: Some(ca_pem.into_bytes()),
        client_cert_pem: Some(client_cert.into_bytes()),
        client_key_pem: Some(client_key.into_bytes()),
        ..Config::default()
    };
    let node = Client::new(config.clone()).unwrap().get(kinds::NODE, "", "a").await.unwrap();
    assert_eq!(node["kind"], "Node");
    config.server_name = Some("elsewhere".to_string());
    let error = Client::new(config.clone()).unwrap().get(kinds::NODE, "", "a").await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    config.server_name = None;
    (config.client_cert_pem, config.client_key_pem) = (None, None);
    assert!(Client::new(config).unwrap().get(kinds::NODE, "", "a").await.is_err());
}

#[tokio::test]
async fn a_changed_list_of_servers_counts_for_the_next_request() {
    let old = serve(|_, _| Some(answer(200, &json!({})))).await;
    let new = serve(|_, _| Some(answer(200, &json!({})))).await;
    let client = old.client();
    client.get(kinds::NODE, "", "board").await.unwrap();
    client.set_servers(&[new.url.clone(), old.url.clone()]).unwrap();
    client.get(kinds::NODE, "", "board").await.unwrap();
    client.set_servers(std::slice::from_ref(&old.url)).unwrap();
    client.get(kinds::NODE, "", "board").await.unwrap();
    assert_eq!((old.seen().len(), new.seen().len()), (2, 1));
    assert!(old.seen().iter().all(|seen| seen.connection == 0), "its connection is kept");
    assert!(client.set_servers(&[]).is_err());
    assert_eq!(client.server(), old.url);
}
