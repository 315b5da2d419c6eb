//! The part of the log that is kept in memory: what is not applied yet, and what peers that lag
//! may still need. raft-rs reads it as its storage; older entries are "compacted" for it.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::types::{Index, Start, Term};

/// What an entry is counted as holding beside its bytes.
const ENTRY_OVERHEAD: usize = 128;

/// The log's tail.
pub(super) struct Tail {
    state: RaftState,
    /// The index and term of the entry before the first one here.
    before: (Index, Term),
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What a snapshot taken now contains at least.
    applied: (Index, Term),
}

fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD + entry.data.len()
}

impl Tail {
    pub(super) fn new(state: RaftState, start: &Start, entries: Vec<Entry>) -> Tail {
        let bytes = entries.iter().map(weight).sum();
        Tail {
            state,
            before: start.applied,
            entries: entries.into(),
            bytes,
            applied: start.applied,
        }
    }

    pub(super) fn first(&self) -> Index {
        self.before.0 + 1
    }

    pub(super) fn last(&self) -> Index {
        self.before.0 + self.entries.len() as u64
    }

    /// Takes entries over; those that stand in their way go. Says from where some went.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Option<Index> {
        let first = entries.first()?.index;
        let truncated = (first <= self.last()).then_some(first);
        while self.last() >= first {
            let Some(gone) = self.entries.pop_back() else { break };
            self.bytes -= weight(&gone);
        }
        for entry in entries {
            self.bytes += weight(entry);
            self.entries.push_back(entry.clone());
        }
        truncated
    }

    pub(super) fn set_applied(&mut self, index: Index, term: Term) {
        self.applied = (index, term);
    }

    pub(super) fn applied(&self) -> (Index, Term) {
        self.applied
    }

    /// Lets go of applied entries: of those that every member has above `idle` bytes, of others
    /// above `most`.
    pub(super) fn trim(&mut self, everywhere: Index, idle: usize, most: usize) {
        while let Some(first) = self.entries.front() {
            let room = if first.index <= everywhere { idle } else { most };
            if self.bytes <= room || !self.pop(self.applied.0) {
                break;
            }
        }
    }

    /// Lets go of applied entries up to `upto`.
    pub(super) fn compact(&mut self, upto: Index) {
        while self.pop(upto) {}
    }

    fn pop(&mut self, upto: Index) -> bool {
        let upto = upto.min(self.applied.0);
        if self.entries.front().is_none_or(|first| first.index > upto) {
            return false;
        }
        let Some(gone) = self.entries.pop_front() else { return false };
        self.bytes -= weight(&gone);
        self.before = (gone.index, gone.term);
        true
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.state.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        // The state before the first entry names the founder, and only a snapshot carries it: a
        // member with nothing at all is never fed from entry 1 on.
        let from_nothing = low == 1 && context.can_async();
        if low < self.first() || from_nothing {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let room = max_size.into().unwrap_or(u64::MAX);
        let (from, to) = ((low - self.first()) as usize, (high - self.first()) as usize);
        let mut size = 0;
        let mut found = Vec::with_capacity((to - from).min(256));
        for entry in self.entries.range(from..to) {
            size += weight(entry) as u64;
            if !found.is_empty() && size > room {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        match index.checked_sub(self.first()) {
            None => Err(Error::Store(StorageError::Compacted)),
            // Another member may name any number: on a 32-bit board it must not wrap around.
            Some(at) => match usize::try_from(at).ok().and_then(|at| self.entries.get(at)) {
                Some(entry) => Ok(entry.term),
                None => Err(Error::Store(StorageError::Unavailable)),
            },
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let (index, term) = self.applied;
        if index == 0 || index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = index;
        snapshot.mut_metadata().term = term;
        Ok(snapshot)
    }
}
