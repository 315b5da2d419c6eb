//! Calling another server of this cluster: kept connections over mutual TLS, and an error that
//! says whether the request may have been acted on, because only then must it not be repeated.

use bytes::Bytes;
use edge_core::consensus::Members;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// How long it may take to reach a server on the LAN.
const DIAL: Duration = Duration::from_secs(2);
/// Connections to one server that are kept when nobody uses them.
const KEPT: usize = 16;

/// A request whose body is in memory, so that it can be sent again.
pub(crate) type Outgoing = Request<Full<Bytes>>;

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server has certainly not seen the request.
    Unsent(String),
    /// It may have acted on it.
    Unknown(String),
}

/// The ways to the other servers.
pub(crate) struct Channel {
    /// Replaced when the certificate is renewed.
    tls: watch::Receiver<Arc<ClientConfig>>,
    idle: Mutex<BTreeMap<String, Vec<SendRequest<Full<Bytes>>>>>,
}

impl Channel {
    /// Calls with this certificate.
    pub(crate) fn new(tls: watch::Receiver<Arc<ClientConfig>>) -> Channel {
        Channel { tls, idle: Mutex::default() }
    }

    /// Sends a request to the server at `address` (`host:port`) and waits for its answer's head.
    pub(crate) async fn call(
        &self,
        address: &str,
        mut request: Outgoing,
    ) -> Result<Response<Incoming>, CallError> {
        let host = HeaderValue::from_str(address)
            .map_err(|_| CallError::Unsent(format!("{address:?} is no host and port")))?;
        request.headers_mut().insert(HOST, host);
        while let Some(mut kept) = self.take(address) {
            match send(&mut kept, request).await {
                Ok(response) => return Ok(self.keep(address, kept, response)),
                // The other side had closed the connection while nobody used it.
                Err((Some(back), _)) => request = back,
                Err((None, why)) => return Err(CallError::Unknown(why)),
            }
        }
        let mut fresh = self.dial(address).await.map_err(CallError::Unsent)?;
        match send(&mut fresh, request).await {
            Ok(response) => Ok(self.keep(address, fresh, response)),
            Err((Some(_), why)) => Err(CallError::Unsent(why)),
            Err((None, why)) => Err(CallError::Unknown(why)),
        }
    }

    /// Ends what is kept to servers that are none of these.
    pub(super) fn keep_only(&self, members: &Members) {
        let addresses: Vec<&str> =
            members.all().map(|info| info.api.trim_start_matches("https://")).collect();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|address, _| addresses.contains(&address.as_str()));
    }

    fn take(&self, address: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = idle.get_mut(address)?;
        let ready = pool.iter().rposition(|kept| !kept.is_closed() && kept.is_ready())?;
        Some(pool.swap_remove(ready))
    }

    /// A connection is given back at once; it is ready again when this answer has been read.
    fn keep(
        &self,
        address: &str,
        connection: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, pool| {
            pool.retain(|kept| !kept.is_closed());
            !pool.is_empty()
        });
        let pool = idle.entry(address.to_owned()).or_default();
        if pool.len() < KEPT {
            pool.push(connection);
        }
        response
    }

    async fn dial(&self, address: &str) -> Result<SendRequest<Full<Bytes>>, String> {
        let tls = self.tls.borrow().clone();
        let dialled = async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|error| format!("connect to {address}: {error}"))?;
            let _ = tcp.set_nodelay(true);
            let host = host_of(address);
            let name = match host.parse::<IpAddr>() {
                Ok(ip) => ServerName::IpAddress(ip.into()),
                Err(_) => ServerName::try_from(host.to_owned())
                    .map_err(|_| format!("{host:?} is no name of a server"))?,
            };
            let stream = TlsConnector::from(tls)
                .connect(name, tcp)
                .await
                .map_err(|error| format!("TLS with {address}: {error}"))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| format!("HTTP with {address}: {error}"))?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!("connection to another server: {error}");
                }
            });
            Ok(sender)
        };
        tokio::time::timeout(DIAL, dialled)
            .await
            .unwrap_or_else(|_| Err(format!("connect to {address}: it took too long")))
    }
}

/// The request comes back when it was certainly not sent.
async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Outgoing,
) -> Result<Response<Incoming>, (Option<Outgoing>, String)> {
    if let Err(error) = connection.ready().await {
        return Err((Some(request), error.to_string()));
    }
    connection.try_send_request(request).await.map_err(|mut error| {
        let back = error.take_message();
        (back, error.into_error().to_string())
    })
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        assert_eq!(host_of("192.0.2.7:6443"), "192.0.2.7");
        assert_eq!(host_of("[2001:db8::1]:6443"), "2001:db8::1");
        assert_eq!(host_of("board-1.lan:6443"), "board-1.lan");
    }
}
