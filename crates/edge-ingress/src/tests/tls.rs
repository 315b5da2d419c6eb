//! TLS: certificates by name, taken in while it runs, and redirects to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_client::tls::{ClientTls, client_config};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Certificate, CertificateError};
use super::*;

/// A Secret with a certificate for these names.
pub(super) fn secret(names: &[&str]) -> Object {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    json!({"data": {"tls.crt": STANDARD.encode(chain), "tls.key": STANDARD.encode(key)}})
}

/// A TLS connection that believes anything, with these protocols.
pub(super) async fn connect(
    address: SocketAddr,
    name: &str,
    protocols: &[&str],
) -> TlsStream<TcpStream> {
    let mut config = client_config(&ClientTls { insecure: true, ..ClientTls::default() }).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn shown(proxy: &Proxy, name: &str) -> Vec<u8> {
    let stream = connect(proxy.https(), name, &[]).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].to_vec()
}

fn der(secret: &Object) -> Vec<u8> {
    use rustls_pki_types::pem::PemObject;
    let pem = STANDARD.decode(secret["data"]["tls.crt"].as_str().unwrap()).unwrap();
    rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
}

#[tokio::test]
async fn a_certificate_by_its_name_and_the_next_one_at_once() {
    let proxy = proxy(table(&[], json!({}))).await;
    let stand_in = shown(&proxy, "a.org").await;
    let (one, wild, rest) = (secret(&["a.org"]), secret(&["*.w.org"]), secret(&["rest"]));
    let certify = |pairs: &[(&str, &Object)]| {
        proxy.certify(
            pairs
                .iter()
                .map(|(host, secret)| ((*host).to_owned(), Certificate::read(secret).unwrap())),
        );
    };
    certify(&[("a.org", &one), ("*.w.org", &wild)]);
    assert_eq!(shown(&proxy, "a.org").await, der(&one));
    assert_eq!(shown(&proxy, "A.org").await, der(&one));
    assert_eq!(shown(&proxy, "x.w.org").await, der(&wild));
    assert_eq!(shown(&proxy, "x.y.w.org").await, stand_in);
    let before = connect(proxy.https(), "a.org", &[]).await;
    let fresh = secret(&["a.org"]);
    certify(&[("a.org", &fresh), ("", &rest)]);
    assert_eq!(shown(&proxy, "a.org").await, der(&fresh));
    assert_eq!(shown(&proxy, "b.org").await, der(&rest));
    // Who is there stays.
    let (mut read, mut write) = tokio::io::split(before);
    write.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(SOON, read.read_to_end(&mut heard)).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 404"));
    proxy.stop().await;
}

#[test]
fn broken_certificates_are_named() {
    let (good, other) = (secret(&["a"]), secret(&["b"]));
    let with = |field: &str, value: Value| {
        let mut changed = good.clone();
        changed["data"][field] = value;
        Certificate::read(&changed).expect_err(field)
    };
    let text = |words: &str| json!(STANDARD.encode(words));
    assert_eq!(with("tls.crt", Value::Null), CertificateError::Missing("tls.crt"));
    assert_eq!(with("tls.key", json!("!")), CertificateError::Missing("tls.key"));
    assert!(matches!(with("tls.crt", text("nothing")), CertificateError::Chain(_)));
    assert!(matches!(with("tls.key", text("nothing")), CertificateError::Key(_)));
    let pair = with("tls.key", other["data"]["tls.key"].clone());
    assert!(pair.to_string().starts_with("tls.key is not the key of tls.crt"), "{pair}");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(with("tls.crt", text(junk)), CertificateError::Pair(_)));
}

#[tokio::test]
async fn plain_requests_are_sent_to_tls_unless_told_otherwise() {
    let web = Endpoint::named("web").await;
    let tls = json!([{"hosts": ["a.org"], "secretName": "s"}]);
    let lines: &[Line<'_>] = &[("a.org", "/", &[web.address]), ("b.org", "/", &[web.address])];
    let proxy = proxy(table(lines, json!({"spec": {"tls": tls}}))).await;
    let answer = get(proxy.http(), "A.org:80", "/x?y=%20z").await;
    let there = format!("https://a.org:{}/x?y=%20z\r\n", proxy.https().port());
    assert!(code(&answer) == 308 && answer.contains(&there), "{answer}");
    assert_eq!(code(&get(proxy.http(), "b.org", "/").await), 200);
    let mut stream = connect(proxy.https(), "a.org", &["http/1.1"]).await;
    stream.write_all(b"GET /t HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    timeout(SOON, stream.read_to_string(&mut heard)).await.unwrap().unwrap();
    assert!(
        heard.contains("web GET /t\n") && heard.contains("x-forwarded-proto: https"),
        "{heard}"
    );
    let off = json!({"metadata": {"annotations": {"edged.io/ssl-redirect": "false"}},
                     "spec": {"tls": tls}});
    proxy.route(table(lines, off));
    assert_eq!(code(&get(proxy.http(), "a.org", "/").await), 200);
    proxy.stop().await;
}
