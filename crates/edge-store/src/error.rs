//! Everything that can go wrong, in words that name the operation, the object and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::entry::Revision;

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
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log is damaged in {} at byte {}: {}. Acknowledged writes from revision {} on \
             may be lost, so nothing was changed. Put a snapshot or a copy of the directory back; \
             or, to go on without them, create the empty file {} and start again (the damaged \
             files are kept beside the log)",
            self.file.display(),
            self.offset,
            self.what,
            self.index,
            self.consent.display()
        )
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

/// Why a command did not happen, or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// A precondition did not hold. Nothing happened.
    Conflict {
        /// The first key that was not as expected.
        key: String,
        /// Its revision, if it is present.
        found: Option<Revision>,
    },
    /// A value or the whole command is too large. Nothing happened.
    TooLarge {
        /// The key.
        key: String,
        /// Its size.
        size: usize,
        /// What fits.
        limit: usize,
    },
    /// A key that the store can't hold. Nothing happened.
    BadKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A command that makes no sense. Nothing happened.
    BadCommand {
        /// What is wrong with it.
        why: String,
    },
    /// There is no room on the disk. Nothing happened; reads go on, and so do writes once there
    /// is room again.
    Full {
        /// The store's directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The disk failed while the command was made durable: whether it will be there after a
    /// restart is unknown. The store takes no more writes.
    Broken {
        /// What failed.
        detail: String,
    },
    /// The store was closed before the command reached the log. Nothing happened.
    Closed,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeError::Conflict { key, found: Some(found) } => {
                write!(f, "writing {key}: it is at revision {found}; read it again and retry")
            }
            ProposeError::Conflict { key, found: None } => {
                write!(f, "writing {key}: it does not exist; create it first")
            }
            ProposeError::TooLarge { key, size, limit } => write!(
                f,
                "writing {key}: {size} bytes are more than the {limit} that fit; make it smaller"
            ),
            ProposeError::BadKey { key, why } => write!(f, "writing {key:?}: bad key: {why}"),
            ProposeError::BadCommand { why } => write!(f, "writing: bad command: {why}"),
            ProposeError::Full { path, detail } => write!(
                f,
                "writing to the store in {}: no room ({detail}); free some space, writes then go \
                 on by themselves",
                path.display()
            ),
            ProposeError::Broken { detail } => write!(
                f,
                "writing to the store: {detail}; the store takes no more writes, because the disk \
                 may lie about them: check it (dmesg), then restart"
            ),
            ProposeError::Closed => write!(f, "writing to the store: it is closed"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The revision lies before the history that is kept.
    Compacted {
        /// The revision that was asked for.
        at: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    Future {
        /// The revision that was asked for.
        at: Revision,
        /// The newest one.
        current: Revision,
    },
    /// LMDB failed.
    State(StateError),
    /// The store is closed.
    Closed,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Compacted { at, oldest } => write!(
                f,
                "reading at revision {at}: the history begins at {oldest}; list again without one"
            ),
            ReadError::Future { at, current } => {
                write!(f, "reading at revision {at}: the newest one is {current}; retry later")
            }
            ReadError::State(error) => write!(f, "reading: {error}"),
            ReadError::Closed => write!(f, "reading: the store is closed"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<StateError> for ReadError {
    fn from(error: StateError) -> ReadError {
        ReadError::State(error)
    }
}

/// A watch can't begin where it was asked to: list again and watch from the list's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The revision that was asked for.
    pub from: Revision,
    /// The oldest revision a watch can begin from.
    pub oldest: Revision,
    /// The newest one.
    pub current: Revision,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "watching from revision {}: the history reaches from {} to {}; list again and watch \
             from there",
            self.from, self.oldest, self.current
        )
    }
}

impl std::error::Error for Gone {}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// It read more slowly than the history moves on: list again.
    Lagged,
    /// The store was closed.
    Closed,
}

impl fmt::Display for WatchEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchEnd::Lagged => write!(f, "watching: too slow for the history; list again"),
            WatchEnd::Closed => write!(f, "watching: the store is closed"),
        }
    }
}

impl std::error::Error for WatchEnd {}

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
