//! Why a store or a snapshot could not be opened, read or written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::ReadError;

/// A part of the log that was synced once and can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first log index that is lost with it.
    pub index: u64,
    /// What was found.
    pub what: String,
    /// The file that an operator creates to accept the loss.
    pub consent: PathBuf,
    /// Whether this member is the only one, so that the loss is its own to accept.
    pub alone: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log is damaged in {} at byte {}: {}. Acknowledged writes from revision {} on \
             may be lost, so nothing was changed. ",
            self.file.display(),
            self.offset,
            self.what,
            self.index,
        )?;
        if self.alone {
            write!(
                f,
                "Put a snapshot or a copy of the directory back; or, to go on without them, \
                 create the empty file {} and start again (the damaged files are kept beside the \
                 log)",
                self.consent.display()
            )
        } else {
            write!(
                f,
                "The other servers have them: remove this server from the cluster, and join it \
                 again with an empty directory"
            )
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A file operation failed.
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the directory.
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its holder, if it left its number.
        pid: Option<u32>,
    },
    /// The log lost entries that had been synced.
    Damaged(Damage),
    /// The directory holds something else than a whole store of this version.
    Foreign {
        /// The path that gives it away.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// This member has had a store, and what it kept is not there.
    Missing {
        /// What is not there.
        path: PathBuf,
    },
    /// LMDB failed.
    State(StateError),
}

impl OpenError {
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Io { operation, path, source }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { operation, path, source } => {
                write!(f, "opening the store: {operation} {}: {source}", path.display())
            }
            OpenError::Locked { path, pid } => {
                write!(f, "opening the store: {} is in use by ", path.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}; stop it")?,
                    None => write!(f, "another process; stop it")?,
                }
                write!(f, ", or choose another data directory")
            }
            OpenError::Damaged(damage) => write!(f, "opening the store: {damage}"),
            OpenError::Foreign { path, why } => {
                write!(f, "opening the store: {}: {why}", path.display())
            }
            OpenError::Missing { path } => write!(
                f,
                "opening the store: {} is missing, though this server has had a store: with an \
                 empty one it would vote again where it has voted, and writes that it has \
                 acknowledged would be lost; put it back; or run `edgectl server remove NAME` and \
                 `edgectl delete node NAME --ignore-not-found` on another server, empty this data \
                 directory, and join anew with a token",
                path.display()
            ),
            OpenError::State(error) => write!(f, "opening the store: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<StateError> for OpenError {
    fn from(error: StateError) -> OpenError {
        OpenError::State(error)
    }
}

/// LMDB failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError {
    /// What was tried.
    pub operation: &'static str,
    /// The state's directory.
    pub path: PathBuf,
    /// Whether there was no room: the same may succeed later.
    pub full: bool,
    /// What LMDB said.
    pub detail: String,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.path.display(), self.detail)?;
        if self.full { write!(f, "; free some space") } else { Ok(()) }
    }
}

impl std::error::Error for StateError {}

/// Why a snapshot could not be written or read.
#[derive(Debug)]
pub enum SnapshotError {
    /// The state could not be read.
    Read(ReadError),
    /// The writer failed.
    Write(io::Error),
    /// The reader failed.
    Input(io::Error),
    /// The bytes are no whole snapshot.
    Corrupt {
        /// Where.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// The directory can't take it.
    Target(OpenError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Read(error) => write!(f, "taking a snapshot: {error}"),
            SnapshotError::Write(error) => write!(f, "taking a snapshot: writing it: {error}"),
            SnapshotError::Input(error) => write!(f, "restoring a snapshot: reading it: {error}"),
            SnapshotError::Corrupt { offset, what } => write!(
                f,
                "restoring a snapshot: it is damaged at byte {offset}: {what}; use another copy"
            ),
            SnapshotError::Target(error) => write!(f, "restoring a snapshot: {error}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl From<ReadError> for SnapshotError {
    fn from(error: ReadError) -> SnapshotError {
        SnapshotError::Read(error)
    }
}
