//! One server's address, dialling it, and the few connections kept open to it.

use crate::body::Body;
use crate::config::ConfigError;
use crate::error::Error;
use crate::tls;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;

/// Idle connections kept per server: a watch or two start while another request runs.
const IDLE_LIMIT: usize = 4;

/// A peer that vanished without a word is noticed after 2 + 2 × 1 seconds, so that a board's
/// watches move to another server before its pods are needed elsewhere.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 2;

/// What hyper may buffer of one answer before it is read.
const READ_BUFFER: usize = 64 * 1024;

pub(crate) type Sender = http1::SendRequest<Body>;
/// Why a connection broke; closed without a word when it just ended.
pub(crate) type Broken = oneshot::Receiver<hyper::Error>;

/// One server of the list.
pub(crate) struct Server {
    /// As written, without a trailing slash.
    pub(crate) url: String,
    /// `host:port` for dialling and the `Host` header.
    pub(crate) authority: String,
    /// Comes before every path; empty or `/prefix`.
    pub(crate) prefix: String,
    /// The name to verify; none for plain HTTP.
    name: Option<ServerName<'static>>,
    idle: Mutex<Vec<Sender>>,
    /// True once the server is not to be asked any more: its connections end.
    retired: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn parse(url: &str, server_name: Option<&str>) -> Result<Server, ConfigError> {
        let fault = |message: &str| ConfigError::Server {
            server: url.to_string(),
            message: message.to_string(),
        };
        let full = if url.contains("://") { url.to_string() } else { format!("https://{url}") };
        let uri: http::Uri = full.parse().map_err(|_| fault("not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fault("the scheme must be https or http")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| fault("no host"))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = match secure {
            false => None,
            true => Some(
                tls::name_for(server_name.unwrap_or(bare))
                    .ok_or_else(|| fault("the host is neither a name nor an address"))?,
            ),
        };
        Ok(Server {
            url: full.trim_end_matches('/').to_string(),
            authority: format!("{host}:{port}"),
            prefix: uri.path().trim_end_matches('/').to_string(),
            name,
            idle: Mutex::new(Vec::new()),
            retired: watch::Sender::new(false),
        })
    }

    /// Ends all connections to this server, with what is being read from them.
    pub(crate) fn retire(&self) {
        self.idle().clear();
        self.retired.send_replace(true);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is open and free, if there is one.
    pub(crate) fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle();
        idle.retain(|sender| !sender.is_closed());
        let free = idle.iter().rposition(Sender::is_ready)?;
        Some(idle.swap_remove(free))
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub(crate) fn give_back(&self, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(|sender| !sender.is_closed());
        if idle.len() < IDLE_LIMIT && !sender.is_closed() {
            idle.push(sender);
        }
    }

    /// Opens a connection, within `limit`.
    pub(crate) async fn dial(
        &self,
        config: &Arc<rustls::ClientConfig>,
        limit: Duration,
    ) -> Result<(Sender, Broken), Error> {
        let slow = || self.connect_error(io::Error::new(io::ErrorKind::TimedOut, "timed out"));
        tokio::time::timeout(limit, self.open(config)).await.unwrap_or_else(|_| Err(slow()))
    }

    fn connect_error(&self, source: io::Error) -> Error {
        Error::Connect { server: self.url.clone(), source }
    }

    async fn open(&self, config: &Arc<rustls::ClientConfig>) -> Result<(Sender, Broken), Error> {
        let stream = TcpStream::connect(self.authority.as_str())
            .await
            .map_err(|source| self.connect_error(source))?;
        tune(&stream).map_err(|source| self.connect_error(source))?;
        let Some(name) = &self.name else { return self.handshake(TokioIo::new(stream)).await };
        let secured = TlsConnector::from(config.clone())
            .connect(name.clone(), stream)
            .await
            .map_err(|source| Error::Tls { server: self.url.clone(), source })?;
        self.handshake(TokioIo::new(secured)).await
    }

    async fn handshake<T>(&self, io: T) -> Result<(Sender, Broken), Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await.map_err(
                |error| Error::Protocol {
                    operation: format!("connect to {}", self.url),
                    message: crate::error::flatten(&error),
                },
            )?;
        let mut retired = self.retired.subscribe();
        let (told, broken) = oneshot::channel();
        tokio::spawn(async move {
            let over = async {
                if retired.wait_for(|retired| *retired).await.is_err() {
                    // Only the client is gone; what it began may end in peace.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "connection to the API ended");
                    let _ = told.send(error);
                },
                () = over => tracing::debug!("connection to a server that is not asked any more"),
            }
        });
        Ok((sender, broken))
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(any(unix, windows))]
    let probes = probes.with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let plain = Server::parse("http://127.0.0.1:8080/", None).unwrap();
        assert_eq!((plain.authority.as_str(), plain.prefix.as_str()), ("127.0.0.1:8080", ""));
        assert!(plain.name.is_none());
        let prefixed = Server::parse("https://lab/k8s/c1/", None).unwrap();
        assert_eq!((prefixed.authority.as_str(), prefixed.prefix.as_str()), ("lab:443", "/k8s/c1"));
        let six = Server::parse("https://[fd00::1]:6443", None).unwrap();
        assert_eq!(six.authority, "[fd00::1]:6443");
        assert_eq!(six.name, tls::name_for("fd00::1"));
        assert_eq!(Server::parse("board:6443", None).unwrap().url, "https://board:6443");
        for bad in ["ftp://x", "https://", "https://a b"] {
            assert!(Server::parse(bad, None).is_err(), "{bad}");
        }
    }
}
