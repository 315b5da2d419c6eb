//! Why the agent's port can't be served.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why the agent's port can't be served.
#[derive(Debug)]
pub enum ServeError {
    /// The port can't be had.
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificates are of no use.
    Tls(edge_client::ConfigError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Listen { address, source } => {
                write!(f, "listen on {address} for the API server: {source}")?;
                if source.kind() == io::ErrorKind::AddrInUse {
                    write!(f, "; another agent (or kubelet) has the port: choose another one")?;
                }
                Ok(())
            }
            ServeError::Tls(error) => write!(f, "set up TLS of the agent's port: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}
