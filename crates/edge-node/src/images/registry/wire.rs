//! HTTP to registries on the hyper that the API is served with: one connection a request, since a
//! pull is a few of them, every wait bounded, redirects followed without carrying credentials to
//! other hosts.

use super::super::error::ImageError;
use super::config::{Endpoint, RegistriesConfig, Scheme, Timing};
use super::roots;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const AGENT: &str = concat!("edged/", env!("CARGO_PKG_VERSION"));
const REDIRECTS_MAX: usize = 8;

/// The HTTP side of one pull.
pub(super) struct Wire {
    pub(super) registries: RegistriesConfig,
    pub(super) timing: Timing,
    /// TLS set-ups by host, made when first needed.
    tls: Mutex<BTreeMap<String, Arc<ClientConfig>>>,
    /// Loopback registries that turned out to speak plain HTTP.
    plain: Mutex<BTreeMap<String, bool>>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method) -> Ask {
        Ask { method, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

enum Failure {
    /// No TLS there, or not one that we accept.
    Tls(String),
    Other(String),
}

impl Wire {
    pub(super) fn new(registries: RegistriesConfig, timing: Timing) -> Wire {
        Wire { registries, timing, tls: Mutex::default(), plain: Mutex::default() }
    }

    /// Sends to an endpoint's `path`, by whichever scheme it speaks, and follows redirects.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        path: &str,
        ask: &Ask,
    ) -> Result<Response<Incoming>, ImageError> {
        let url =
            |scheme: &str| format!("{scheme}://{}{}{path}", endpoint.authority, endpoint.prefix);
        match endpoint.scheme {
            Scheme::Https => self.follow(&url("https"), ask).await,
            Scheme::Http => self.follow(&url("http"), ask).await,
            Scheme::Loopback => {
                let known = self.plain().get(&endpoint.authority).copied();
                if known != Some(true) {
                    let answer = self.try_follow(&url("https"), ask).await;
                    match answer {
                        Err((_, Failure::Tls(_))) if known.is_none() => {
                            self.plain().insert(endpoint.authority.clone(), true);
                        }
                        Err((host, failure)) => return Err(failed(&host, ask, failure)),
                        Ok(answer) => {
                            self.plain().insert(endpoint.authority.clone(), false);
                            return Ok(answer);
                        }
                    }
                }
                self.follow(&url("http"), ask).await
            }
        }
    }

    fn plain(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to a URL and follows redirects; credentials stay with the first host.
    pub(super) async fn follow(
        &self,
        url: &str,
        ask: &Ask,
    ) -> Result<Response<Incoming>, ImageError> {
        self.try_follow(url, ask).await.map_err(|(host, failure)| failed(&host, ask, failure))
    }

    async fn try_follow(
        &self,
        url: &str,
        ask: &Ask,
    ) -> Result<Response<Incoming>, (String, Failure)> {
        let other = |host: &str, text: &str| (host.to_string(), Failure::Other(text.to_string()));
        let mut uri: Uri = url.parse().map_err(|_| other(url, "this is no usable URL"))?;
        let mut ask = ask.clone();
        for _ in 0..REDIRECTS_MAX {
            let host = authority(&uri);
            let answer = self.once(&uri, &ask).await.map_err(|f| (host.clone(), f))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let next = location
                .and_then(|location| resolve(&uri, location))
                .ok_or_else(|| other(&host, "it redirects to no usable URL"))?;
            if authority(&next) != host || next.scheme_str() != uri.scheme_str() {
                ask.headers.remove(AUTHORIZATION);
            }
            if answer.status() == StatusCode::SEE_OTHER && ask.method != Method::HEAD {
                ask.method = Method::GET;
                ask.body = Bytes::new();
            }
            uri = next;
        }
        Err(other(&authority(&uri), "too many redirects in a row"))
    }

    /// One connection, one request.
    async fn once(&self, uri: &Uri, ask: &Ask) -> Result<Response<Incoming>, Failure> {
        let host = uri.host().unwrap_or_default().to_string();
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let slow = |what: &str| Failure::Other(format!("{what} took too long"));
        let connecting = TcpStream::connect((bare.as_str(), port));
        let stream = timeout(self.timing.connect, connecting)
            .await
            .map_err(|_| slow("connecting"))?
            .map_err(|e| Failure::Other(format!("connect: {e}")))?;
        drop(stream.set_nodelay(true));
        let sending = async {
            if https {
                let tls = self.tls(&authority(uri)).map_err(|e| Failure::Other(e.to_string()))?;
                let name = ServerName::try_from(bare)
                    .map_err(|_| Failure::Other("its name can't be in a certificate".into()))?;
                let handshake = TlsConnector::from(tls).connect(name, stream);
                let stream = timeout(self.timing.connect, handshake)
                    .await
                    .map_err(|_| slow("the TLS handshake"))?
                    .map_err(|e| Failure::Tls(format!("TLS: {e}")))?;
                exchange(stream, uri, ask).await
            } else {
                exchange(stream, uri, ask).await
            }
        };
        timeout(self.timing.connect + self.timing.read, sending)
            .await
            .map_err(|_| slow("an answer"))?
    }

    fn tls(&self, host: &str) -> Result<Arc<ClientConfig>, ImageError> {
        let special = self.registries.host(host);
        let key = if special.is_some() { host } else { "" };
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(key) {
            return Ok(config.clone());
        }
        let config = roots::client(special)?;
        known.insert(key.to_string(), config.clone());
        Ok(config)
    }

    /// A whole body that must be small.
    pub(super) async fn small(
        &self,
        host: &str,
        what: &str,
        mut body: Incoming,
        max: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        loop {
            let frame = timeout(self.timing.read, body.frame())
                .await
                .map_err(|_| ImageError::registry(host, what, "its answer stalls"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|e| ImageError::registry(host, what, broken(&e)))?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
            if bytes.len() as u64 > max {
                return Err(ImageError::malformed(what, format!("it is over {max} bytes")));
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    ask: &Ask,
) -> Result<Response<Incoming>, Failure> {
    let http = |e: hyper::Error| Failure::Other(broken(&e));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Ends with the answer's body, or when that is dropped.
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Full::new(ask.body.clone()));
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() =
        path.parse().map_err(|_| Failure::Other("its path can't be asked for".into()))?;
    *request.headers_mut() = ask.headers.clone();
    let host = HeaderValue::from_str(&authority(uri))
        .map_err(|_| Failure::Other("its name can't be sent".into()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    sender.send_request(request).await.map_err(http)
}

/// Hyper's error with its cause, which says more.
pub(super) fn broken(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("the connection broke: {error}: {source}"),
        None => format!("the connection broke: {error}"),
    }
}

fn failed(host: &str, ask: &Ask, failure: Failure) -> ImageError {
    let (Failure::Tls(detail) | Failure::Other(detail)) = failure;
    ImageError::registry(host, ask.method.as_str(), detail)
}

/// Host and port.
pub(super) fn authority(uri: &Uri) -> String {
    uri.authority().map(|authority| authority.to_string()).unwrap_or_default()
}

/// A `Location`, absolute or relative to where it was found.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let url = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", authority(base))
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{}{directory}/{location}", authority(base))
    };
    let uri: Uri = url.split('#').next()?.parse().ok()?;
    // Names and passwords in a URL would be sent nowhere, so such a URL is a trick.
    uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    Some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base: Uri = "https://r.io:5000/v2/a/blobs/x?y=1".parse().unwrap();
        for (location, expected) in [
            ("http://cdn/x?sig=1", "http://cdn/x?sig=1"),
            ("/other", "https://r.io:5000/other"),
            ("//cdn:1/x", "https://cdn:1/x"),
            ("z", "https://r.io:5000/v2/a/blobs/z"),
            ("https://cdn/x#part", "https://cdn/x"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), expected);
        }
        assert!(resolve(&base, "https://me:pw@cdn/").is_none());
        assert!(resolve(&base, "http://").is_none());
    }
}
