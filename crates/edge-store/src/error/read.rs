//! Why a read or a watch failed.

use std::fmt;

use super::StateError;
use crate::entry::Revision;

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

/// Why there is no linearizable read point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierError {
    /// No member leads, as far as this one knows.
    NoLeader,
    /// The leader did not confirm in time that it still leads.
    Timeout,
    /// The store is closed.
    Closed,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BarrierError::NoLeader => "reading: no server leads at the moment; retry soon",
            BarrierError::Timeout => "reading: the leading server did not answer; retry soon",
            BarrierError::Closed => "reading: the store is closed",
        })
    }
}

impl std::error::Error for BarrierError {}
