//! Why an agent can't run.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::images::ImageError;
use crate::net::NetError;
use crate::runtime::RuntimeError;
use crate::serve::ServeError;

/// Why an agent could not start, or broke off.
#[derive(Debug)]
pub enum AgentError {
    /// The API's address or credentials are of no use.
    Client(edge_client::ConfigError),
    /// The ledger can't be opened.
    Ledger {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The board's pod addresses can't be kept.
    Addresses {
        /// Their file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The board's Node has other pod addresses than the board.
    Readdressed {
        /// The board's.
        before: String,
        /// The Node's.
        now: String,
    },
    /// The container runtime can't be opened.
    Runtime(RuntimeError),
    /// The image store can't be opened.
    Images(ImageError),
    /// The board's network can't be set up.
    Net(NetError),
    /// The agent's own port can't be served.
    Serve(ServeError),
    /// A part of the agent ended although nobody asked it to.
    BrokenOff {
        /// How.
        detail: String,
    },
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentError::Client(error) => write!(f, "set up the agent's access to the API: {error}"),
            AgentError::Ledger { path, source } => {
                write!(f, "open the agent's ledger in {}: {source}", path.display())
            }
            AgentError::Addresses { path, source } => {
                write!(f, "keep the board's pod addresses in {}: {source}", path.display())
            }
            AgentError::Readdressed { before, now } => write!(
                f,
                "run pods with addresses from {before}: the cluster gives this board {now} now; \
                 start edged again to change over"
            ),
            AgentError::Runtime(error) => write!(f, "open the container runtime: {error}"),
            AgentError::Images(error) => write!(f, "open the image store: {error}"),
            AgentError::Net(error) => write!(f, "set up the network of pods: {error}"),
            AgentError::Serve(error) => write!(f, "{error}"),
            AgentError::BrokenOff { detail } => {
                write!(f, "run the agent: a part broke off: {detail}")
            }
        }
    }
}

impl std::error::Error for AgentError {}
