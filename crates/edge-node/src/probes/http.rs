//! HTTP probes: a container is well when a page answers with a status from 200 to 399. Certificates
//! are not checked and redirects to other hosts count as success, as in Kubernetes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use edge_api::k8s::api::core::v1::HTTPGetAction;
use edge_client::tls::{ClientTls, client_config};
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Outcome, Target, authority, host, port};

/// Redirects followed within a host.
const REDIRECTS: usize = 10;
/// Most of a page that is read.
const BODY: usize = 10 << 10;
/// What servers see us as.
const AGENT: &str = "kube-probe/1.33";

/// A page to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
struct Answered {
    code: u16,
    location: Option<String>,
    body: String,
}

pub(super) fn address(target: &Target<'_>, action: &HTTPGetAction) -> Result<Page, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let headers = action.http_headers.iter().flatten();
    Ok(Page {
        https: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: host(target, action.host.as_deref())?,
        port: port(target, &action.port)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

impl Page {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// The page that a redirect leads to; `None` when it leaves the host.
    fn redirected(&self, location: &str) -> Option<Page> {
        let mut page = self.clone();
        if location.starts_with('/') && !location.starts_with("//") {
            page.path = location.to_owned();
            return Some(page);
        }
        let uri: Uri = location.parse().ok()?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        if host != self.host {
            return None;
        }
        page.https = https;
        page.port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        page.path = uri.path_and_query().map_or("/".into(), |p| p.as_str().to_owned());
        Some(page)
    }
}

pub(super) async fn ask(page: &Page, limit: Duration) -> Outcome {
    match timeout(limit, follow(page)).await {
        Ok(Ok(answer)) if (200..400).contains(&answer.code) => Outcome::Success,
        Ok(Ok(answer)) => {
            tracing::trace!(body = %answer.body, "probe failed");
            Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.code))
        }
        Ok(Err(message)) => Outcome::Failure(format!("Get \"{}\": {message}", page.url())),
        Err(_) => Outcome::Failure(format!(
            "Get \"{}\": context deadline exceeded \
             (Client.Timeout exceeded while awaiting headers)",
            page.url()
        )),
    }
}

async fn follow(page: &Page) -> Result<Answered, String> {
    let mut page = page.clone();
    for _ in 0..REDIRECTS {
        let answer = get(&page).await?;
        let next = match (answer.code, &answer.location) {
            (301 | 302 | 303 | 307 | 308, Some(to)) => page.redirected(to),
            _ => return Ok(answer),
        };
        match next {
            Some(next) => page = next,
            None => return Ok(answer),
        }
    }
    Err(format!("stopped after {REDIRECTS} redirects"))
}

/// An error in the words of the system, without the number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

async fn get(page: &Page) -> Result<Answered, String> {
    let address = authority(&page.host, page.port);
    let tcp = TcpStream::connect(&address)
        .await
        .map_err(|e| format!("dial tcp {address}: connect: {}", plain(&e)))?;
    let _ = tcp.set_nodelay(true);
    if !page.https {
        return exchange(tcp, page).await;
    }
    let options = ClientTls { insecure: true, ..ClientTls::default() };
    let config = client_config(&options).map_err(|e| e.to_string())?;
    let name = ServerName::try_from(page.host.clone()).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    exchange(tls.map_err(|e| format!("tls: {e}"))?, page).await
}

fn request(page: &Page) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&page.path).body(Empty::new()).map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let host = HeaderValue::from_str(&authority(&page.host, page.port));
    headers.insert(HOST, host.map_err(|e| e.to_string())?);
    for (name, value) in &page.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header name {name}"))?;
        let value = HeaderValue::from_str(value).map_err(|e| e.to_string())?;
        if name == HOST || name == USER_AGENT || name == ACCEPT {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    page: &Page,
) -> Result<Answered, String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender.send_request(request(page)?).await.map_err(|e| e.to_string())?;
        read(response).await
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The answer may have come with the end of the connection.
        _ = connection => answer.await,
    }
}

async fn read(response: Response<Incoming>) -> Result<Answered, String> {
    let code = response.status().as_u16();
    let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
    let location = location.map(str::to_owned);
    // The code is what counts; a page need not come to its end.
    Ok(Answered { code, location, body: String::new() }.with(response.into_body()).await)
}

impl Answered {
    async fn with(mut self, mut body: Incoming) -> Answered {
        if (200..400).contains(&self.code) {
            return self;
        }
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                self.body.push_str(&String::from_utf8_lossy(data));
            }
            if self.body.len() > BODY {
                break;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn server(answers: Vec<&'static str>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 2048];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn page(port: u16) -> Page {
        Page { https: false, host: "127.0.0.1".into(), port, path: "/x".into(), headers: vec![] }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn codes_decide() {
        let ok = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(ask(&page(server(vec![ok]).await), SECOND).await, Outcome::Success);
        let bad = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno";
        let want = Outcome::Failure("HTTP probe failed with statuscode: 503".into());
        assert_eq!(ask(&page(server(vec![bad]).await), SECOND).await, want);
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_host_only() {
        let here = "HTTP/1.1 302 x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n";
        let bad = "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n";
        let got = ask(&page(server(vec![here, bad]).await), SECOND).await;
        assert!(matches!(got, Outcome::Failure(_)), "{got:?}");
        let away = "HTTP/1.1 302 x\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(ask(&page(server(vec![away]).await), SECOND).await, Outcome::Success);
    }

    #[tokio::test]
    async fn refusals_and_silence_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = ask(&page(port), Duration::from_millis(100)).await;
        assert!(matches!(&got, Outcome::Failure(m) if m.contains("deadline exceeded")), "{got:?}");
        drop(listener);
        let got = ask(&page(port), SECOND).await;
        assert!(matches!(&got, Outcome::Failure(m) if m.contains("connection refused")), "{got:?}");
    }
}
