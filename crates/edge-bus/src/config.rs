//! What a bus is started with: who this board is, where brokers are, and with which keys and
//! certificates it speaks. Addresses and certificates are watched, for both change while it runs.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::keys::Keys;
use crate::url::ExternalBroker;

/// Whether this board may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Speaks with every broker, takes part in elections.
    Server,
    /// Speaks with one broker, sends beats.
    Agent,
}

/// This board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// The board's name: one topic level, so without `/`, `+`, `#`.
    pub name: String,
    /// Server or agent.
    pub role: Role,
}

impl Me {
    /// The common name of this board's client certificate, which is its MQTT client id.
    pub fn common_name(&self) -> String {
        match self.role {
            Role::Server => format!("system:server:{}", self.name),
            Role::Agent => format!("system:node:{}", self.name),
        }
    }
}

/// Where the broker inside a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// The server's name.
    pub name: String,
    /// An address or a host name.
    pub host: String,
    /// The TCP port, 8883 by default.
    pub port: u16,
}

/// TLS on both sides; a renewed certificate is a new pair.
#[derive(Clone, Debug)]
pub struct TlsPair {
    /// For sessions with brokers: trusts the cluster's authority, shows this board's certificate.
    pub client: Arc<rustls::ClientConfig>,
    /// For this server's own broker: demands client certificates of the cluster's authority.
    pub server: Option<Arc<rustls::ServerConfig>>,
}

/// What [`crate::Bus::start`] needs.
#[derive(Clone)]
pub struct Config {
    /// The cluster's id; part of every topic and of every seal.
    pub cluster: String,
    /// This board.
    pub me: Me,
    /// Where the embedded broker listens. `None`: this board runs none.
    pub embedded: Option<SocketAddr>,
    /// The servers' brokers as they are known now, this server's own among them.
    pub brokers: watch::Receiver<Vec<BrokerAddress>>,
    /// The user's own brokers; several are alternatives. If any is named, the embedded brokers
    /// are not used.
    pub external: Vec<ExternalBroker>,
    /// Certificates and trust; new connections use the newest.
    pub tls: watch::Receiver<Arc<TlsPair>>,
    /// The keys that this board holds.
    pub keys: Keys,
}

/// Why a bus could not start.
#[derive(Debug)]
pub enum StartError {
    /// A name or a cluster id that can't be a level of a topic.
    Name {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The embedded broker's address can't be had.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// An embedded broker without a TLS configuration for servers.
    NoServerTls,
    /// A server without the key that servers share, or without the cluster's secret.
    NoKey {
        /// Which key.
        what: &'static str,
    },
    /// The system's random generator failed.
    Random,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Name { what, value } => {
                write!(f, "bus: {what} {value:?} can't be part of a topic: use letters, digits, -.")
            }
            StartError::Listen { address, error } => {
                write!(f, "bus: listen on {address}: {error}; is another broker running there?")
            }
            StartError::NoServerTls => {
                write!(f, "bus: the embedded broker has no server certificate")
            }
            StartError::NoKey { what } => write!(f, "bus: a server needs the {what}"),
            StartError::Random => write!(f, "bus: the system's random generator failed"),
        }
    }
}

impl std::error::Error for StartError {}
