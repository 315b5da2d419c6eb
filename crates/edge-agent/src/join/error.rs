//! Why a board cannot join or go on: one line each, for the person at the board.

use std::fmt;
use std::path::PathBuf;

use edge_server::pki::PkiError;

/// Why a board is not in its cluster.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// Keys or certificates.
    Pki(PkiError),
    /// A file of the data directory.
    File {
        /// What was being done.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A server said no.
    Refused {
        /// Which.
        server: String,
        /// Its words.
        reason: String,
    },
    /// A server is of a cluster that the token is not of.
    WrongCluster {
        /// Which.
        server: String,
    },
    /// Anything else that the line says itself.
    Told(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Pki(error) => write!(f, "{error}"),
            JoinError::File { operation, path, reason } => {
                write!(f, "{operation} {}: {reason}", path.display())
            }
            JoinError::Refused { server, reason } => write!(f, "join {server}: {reason}"),
            JoinError::WrongCluster { server } => write!(
                f,
                "join {server}: its authority is not the one that the token names: the server is \
                 of another cluster, or somebody stands between; nothing was sent to it"
            ),
            JoinError::Told(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for JoinError {}
