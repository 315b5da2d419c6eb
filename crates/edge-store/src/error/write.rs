//! Why a write or a change of the members did not happen, or may not have happened.

use std::fmt;
use std::path::PathBuf;

use edge_core::consensus::{MemberId, Refusal, Term};

use crate::entry::Revision;

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
    /// Another member leads, or none. Nothing happened.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<MemberId>,
    },
    /// Leadership ended, or its answer took too long, before the outcome was known: the command
    /// may or may not happen.
    Unknown,
    /// It was planned in another term than the one that logged it. Nothing happened.
    StaleTerm {
        /// The term it was planned in.
        asked: Term,
        /// The term that logged it.
        term: Term,
    },
    /// Too much waits for a majority. Nothing happened.
    Busy,
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
            ProposeError::NotLeader { leader: Some(_) } => {
                write!(f, "writing to the store: another server leads; ask that one")
            }
            ProposeError::NotLeader { leader: None } => {
                write!(f, "writing to the store: no server leads at the moment; retry soon")
            }
            ProposeError::Unknown => write!(
                f,
                "writing to the store: the leader changed before the outcome was known; the \
                 write may or may not have happened: read, then retry if needed"
            ),
            ProposeError::StaleTerm { asked, term } => {
                write!(f, "writing to the store: planned in term {asked}, and this is term {term}")
            }
            ProposeError::Busy => {
                write!(f, "writing to the store: too much waits for a majority; retry soon")
            }
            ProposeError::Closed => write!(f, "writing to the store: it is closed"),
        }
    }
}

impl std::error::Error for ProposeError {}

/// Why the members were not changed, or another one does not lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// It can't be done, at least not here and now. Nothing happened.
    Refused(Refusal),
    /// Leadership ended, or time, before the outcome was known.
    Unknown,
    /// The disk failed; see [`ProposeError::Broken`].
    Broken {
        /// What failed.
        detail: String,
    },
    /// The store is closed.
    Closed,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Refused(refusal) => write!(f, "changing the servers: {refusal}"),
            ChangeError::Unknown => write!(
                f,
                "changing the servers: the outcome is not known yet; look at the servers, then \
                 retry if needed"
            ),
            ChangeError::Broken { detail } => write!(f, "changing the servers: {detail}"),
            ChangeError::Closed => write!(f, "changing the servers: the store is closed"),
        }
    }
}

impl std::error::Error for ChangeError {}
