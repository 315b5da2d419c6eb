//! What can be wrong with keys and certificates: one line each, with what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Trouble with keys or certificates.
#[derive(Debug)]
pub enum PkiError {
    /// A file could not be read or written.
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what it should.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a server was begun with is gone.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    Issue {
        /// For whom.
        subject: String,
        /// Why not.
        reason: String,
    },
}

impl PkiError {
    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> PkiError {
        PkiError::Io { operation, path: path.to_owned(), source }
    }

    pub(super) fn issue(subject: &str, reason: impl fmt::Display) -> PkiError {
        PkiError::Issue { subject: subject.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PkiError::Io { operation, path, source } => {
                write!(f, "{operation} {}: {source}", path.display())
            }
            PkiError::Damaged { path, reason } => {
                let or = match path.file_name().and_then(|name| name.to_str()) {
                    Some("ca.crt") => "or remove it, and it is made again from ca.key",
                    Some("board.key") => "or empty the data directory and join again",
                    _ => "or copy it from another server of the cluster",
                };
                let path = path.display();
                write!(f, "{path} is damaged ({reason}): restore it from a backup, {or}")
            }
            PkiError::Missing { path } => {
                let dir = path.ancestors().nth(2).unwrap_or(path);
                let or = match path.file_name().and_then(|name| name.to_str()) {
                    Some("board.key") => format!(
                        "put a new server in its place: run `edgectl server remove NAME` and \
                         `edgectl delete node NAME --ignore-not-found` on another one, empty {}, \
                         and join again with a token",
                        dir.display()
                    ),
                    _ => "copy it from the same place of another server of the cluster".to_owned(),
                };
                let path = path.display();
                write!(
                    f,
                    "{path} is missing, and this server was begun with it: restore it from a \
                     backup, or {or}; nothing was made in its place"
                )
            }
            PkiError::Issue { subject, reason } => {
                write!(f, "issue a certificate for {subject}: {reason}")
            }
        }
    }
}

impl std::error::Error for PkiError {}
