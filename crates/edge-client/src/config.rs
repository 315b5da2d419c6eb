//! Where the API is and who we are: the parsed form that a client is made from.

use crate::clock::Clock;
use crate::refusal::Refusals;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Servers and credentials.
#[derive(Clone, Default)]
pub struct Config {
    /// `https://host:port`, tried in order; a path after the port is kept as a prefix.
    pub servers: Vec<String>,
    /// Who may sign the servers' certificates. Without it: the machine's own list.
    pub ca_pem: Option<Vec<u8>>,
    /// Our certificate, if we prove ourselves with one.
    pub client_cert_pem: Option<Vec<u8>>,
    /// The private key of that certificate.
    pub client_key_pem: Option<Vec<u8>>,
    /// A bearer token, if we prove ourselves with one.
    pub token: Option<String>,
    /// The name to expect in the servers' certificates, instead of the one in the address.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// The namespace to use when none is named.
    pub namespace: Option<String>,
    /// What time it is for certificates; the system's clock when there is none.
    pub clock: Option<Arc<dyn Clock>>,
    /// Trust and certificate that change while the client lives; instead of those above.
    pub live: Option<watch::Receiver<Arc<rustls::ClientConfig>>>,
    /// Where it is gathered that the servers refuse us.
    pub refusals: Refusals,
}

impl Config {
    /// Reads one context (or the current one) from a kubeconfig file.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Config, ConfigError> {
        crate::Kubeconfig::read(path)?.config(context)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("namespace", &self.namespace)
            .field("has_certificate", &self.client_cert_pem.is_some())
            .field("has_token", &self.token.is_some())
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// Why no client can be made.
#[derive(Debug)]
pub enum ConfigError {
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A kubeconfig is not valid YAML or not a kubeconfig.
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A kubeconfig names something that it does not hold, or asks for what we do not do.
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A server address is not one.
    Server {
        /// The address.
        server: String,
        /// What is wrong.
        message: String,
    },
    /// Certificates or keys do not work.
    Tls {
        /// What was being done.
        operation: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { path, source } => write!(f, "read {}: {source}", path.display()),
            ConfigError::Parse { path, message } => {
                write!(f, "parse kubeconfig {}: {message}", path.display())
            }
            ConfigError::Entry { path, message } => {
                write!(f, "kubeconfig {}: {message}", path.display())
            }
            ConfigError::Server { server, message } => {
                write!(f, "server address {server:?}: {message}")
            }
            ConfigError::Tls { operation, message } => write!(f, "{operation}: {message}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}
