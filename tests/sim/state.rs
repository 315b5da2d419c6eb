//! The state machine of the simulated servers: keys with numbers in them, revisions, a bounded
//! history for watches. It has the rules of the store's machine and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use edge_core::consensus::{EntryKind, Index, LogEntry, Members, Term};

/// Events that are kept for watches; few, so that watchers fall behind.
const HISTORY: usize = 24;

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Any,
    /// Last written at this revision; 0 is absent.
    Revision(Index),
}

/// One write, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) key: u8,
    pub(super) value: u64,
    pub(super) expect: Expect,
    /// The term that planned it; 0 for a client's.
    pub(super) term: Term,
}

impl Command {
    pub(super) fn encode(&self) -> Bytes {
        let (tag, revision) = match self.expect {
            Expect::Any => (0, 0),
            Expect::Revision(revision) => (1, revision),
        };
        let mut out = vec![self.key, tag];
        for number in [self.value, revision, self.term] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        Bytes::from(out)
    }

    pub(super) fn decode(data: &[u8]) -> Option<Command> {
        let (head, numbers) = data.split_first_chunk::<2>()?;
        let number =
            |at: usize| numbers.get(at * 8..at * 8 + 8)?.try_into().ok().map(u64::from_be_bytes);
        let (value, revision, term) = (number(0)?, number(1)?, number(2)?);
        let expect = if head[1] == 0 { Expect::Any } else { Expect::Revision(revision) };
        Some(Command { key: head[0], value, expect, term })
    }
}

/// A change that watchers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) revision: Index,
    pub(super) key: u8,
    pub(super) value: u64,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Conflict,
    Stale,
}

/// Why a watch can't go on from where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Compacted,
    Future,
}

/// What a member has applied.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) applied: (Index, Term),
    pub(super) members: Members,
    /// Key → revision and value.
    pub(super) keys: Rc<BTreeMap<u8, (Index, u64)>>,
    history: VecDeque<Event>,
    floor: Index,
    /// Over everything that was ever applied.
    pub(super) digest: u64,
}

pub(super) fn fold(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(23) ^ number).wrapping_mul(0x9fb2_1c65_1e98_df25)
}

impl State {
    pub(super) fn new(members: Members) -> State {
        State { members, ..State::default() }
    }

    /// Does what an entry says: the verdict of a command, and the members if they change.
    pub(super) fn apply(&mut self, entry: &LogEntry) -> (Option<Verdict>, Option<Members>) {
        self.applied = (entry.index, entry.term);
        self.digest = fold(self.digest, entry.index);
        if entry.kind == EntryKind::Members {
            let next = self.members.after(entry);
            if let Some(next) = &next {
                self.members = next.clone();
                let bytes = next.encode();
                self.digest = bytes.iter().fold(self.digest, |h, byte| fold(h, u64::from(*byte)));
            }
            return (None, next);
        }
        let Some(command) = Command::decode(&entry.data) else { return (None, None) };
        let stale = command.term != 0 && command.term != entry.term;
        if stale {
            return (Some(Verdict::Stale), None);
        }
        let found = self.keys.get(&command.key).map_or(0, |(revision, _)| *revision);
        if matches!(command.expect, Expect::Revision(revision) if revision != found) {
            return (Some(Verdict::Conflict), None);
        }
        let (revision, key, value) = (entry.index, command.key, command.value);
        Rc::make_mut(&mut self.keys).insert(key, (revision, value));
        self.digest = fold(fold(self.digest, u64::from(key)), value);
        self.history.push_back(Event { revision, key, value });
        if self.history.len() > HISTORY
            && let Some(event) = self.history.pop_front()
        {
            self.floor = event.revision;
        }
        (Some(Verdict::Done), None)
    }

    /// The events after a revision.
    pub(super) fn since(&self, revision: Index) -> Result<Vec<Event>, Gone> {
        if revision < self.floor {
            return Err(Gone::Compacted);
        }
        if revision > self.applied.0 {
            return Err(Gone::Future);
        }
        let from = self.history.partition_point(|event| event.revision <= revision);
        Ok(self.history.range(from..).copied().collect())
    }

    /// What a commit writes behind the log, or a snapshot carries: no history.
    pub(super) fn without_history(&self) -> State {
        State { history: VecDeque::new(), floor: self.applied.0, ..self.clone() }
    }
}
