//! From an address to a stream of bytes: TCP without delay, and TLS with the newest certificates.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::config::TlsPair;
use crate::url::ExternalBroker;

/// Sent bytes that nobody confirms for this long end a connection: a pulled cable is noticed
/// long before a keepalive would, yet WiFi's power-save pauses (1.3 s) are lived through.
const UNCONFIRMED: Duration = Duration::from_secs(3);

/// The same where another broker can be tried: whoever waits longer seems as dead as its broker.
const UNCONFIRMED_OF_MANY: Duration = Duration::from_millis(800);

/// How long a server waits for another one's kernel before it calls again: SYNs are repeated after
/// 1, 3 and 7 s, and who was away in between is met late.
const CALL: Duration = Duration::from_millis(1500);

/// A stream of bytes to a broker.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A broker that a session may speak with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A server's embedded broker.
    Embedded(crate::config::BrokerAddress),
    /// One of the user's own.
    External(ExternalBroker),
}

impl Target {
    /// The broker's name in topics.
    pub fn name(&self) -> &str {
        match self {
            Target::Embedded(address) => &address.name,
            Target::External(_) => "external",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Embedded(a) => write!(f, "{} ({}:{})", a.name, a.host, a.port),
            Target::External(broker) => f.write_str(&broker.shown()),
        }
    }
}

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum DialError {
    Connect(std::io::Error),
    Tls(std::io::Error),
    Name(String),
    File(String),
    /// The certificate is another server's: addresses have changed hands.
    Other(String),
}

impl DialError {
    /// Whether the other side's kernel said that nobody listens there.
    pub(crate) fn refused(&self) -> bool {
        matches!(self, DialError::Connect(e) if e.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Connect(error) => write!(f, "connect: {error}"),
            DialError::Tls(error) => write!(f, "TLS: {error}"),
            DialError::Name(name) => write!(f, "{name:?} is neither an address nor a name"),
            DialError::File(why) => f.write_str(why),
            DialError::Other(name) => write!(f, "TLS: the server there is {name}"),
        }
    }
}

/// Sets what every connection of the bus has: no delay, and an end to unconfirmed bytes.
pub(crate) fn tune(stream: &TcpStream, others: bool) {
    let _ = stream.set_nodelay(true);
    let limit = if others { UNCONFIRMED_OF_MANY } else { UNCONFIRMED };
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit));
}

/// Connects; `others`: there are more brokers to try; `eager`: call again soon.
pub(crate) async fn dial(
    target: &Target,
    (others, eager): (bool, bool),
    tls: &watch::Receiver<Arc<TlsPair>>,
) -> Result<Box<dyn Stream>, DialError> {
    let (host, port) = match target {
        Target::Embedded(a) => (a.host.as_str(), a.port),
        Target::External(b) => (b.host.as_str(), b.port),
    };
    let config = match target {
        Target::Embedded(_) => Some(tls.borrow().client.clone()),
        Target::External(broker) if broker.tls => Some(external(broker)?),
        Target::External(_) => None,
    };
    let call = TcpStream::connect((host, port));
    let called = match eager {
        true => tokio::time::timeout(CALL, call).await.unwrap_or_else(|late| Err(late.into())),
        false => call.await,
    };
    let stream = called.map_err(DialError::Connect)?;
    tune(&stream, others);
    let Some(config) = config else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| DialError::Name(host.into()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(DialError::Tls)?;
    if let Target::Embedded(address) = target {
        let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        if let Some(crate::broker::Identity::Server(other)) =
            shown.and_then(|c| crate::broker::Identity::of(c))
            && other != address.name
        {
            return Err(DialError::Other(other));
        }
    }
    Ok(Box::new(stream))
}

/// TLS with the user's own broker; its files are read anew each time, so they may be renewed.
fn external(broker: &ExternalBroker) -> Result<Arc<ClientConfig>, DialError> {
    let mut roots = RootCertStore::empty();
    match &broker.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unusable(path, &e))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| DialError::File(e.to_string()))?
        .with_root_certificates(roots);
    let config = match &broker.identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = certificates(chain)?;
            let read = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, &e))?;
            config.with_client_auth_cert(chain, read).map_err(|e| unusable(key, &e))?
        }
    };
    Ok(Arc::new(config))
}

fn unusable(path: &Path, error: &dyn fmt::Display) -> DialError {
    DialError::File(format!("{}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| unusable(path, &e))?;
    let found: Result<Vec<_>, _> = read.collect();
    let found = found.map_err(|e| unusable(path, &e))?;
    if found.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(found)
}
