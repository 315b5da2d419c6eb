//! From what the disk holds to what raft-rs begins with.

use raft::eraftpb::{self, Entry, EntryType};
use raft::{Config, RaftState, ReadOnlyOption};

use super::refusal::StartError;
use super::tail::Tail;
use super::timeout;
use super::types::{EntryKind, HardState, Index, LogEntry, MemberId, Start, Tuning};

/// Append messages on their way to one peer.
const INFLIGHT_MESSAGES_MAX: usize = 64;

/// Checks the disk's word and turns it into raft-rs'.
pub(super) fn prepare(
    me: MemberId,
    start: &Start,
    tuning: &Tuning,
) -> Result<(Config, Tail, HardState), StartError> {
    if me == 0 {
        return Err(StartError::NoIdentity);
    }
    let (mut last, mut term) = start.applied;
    for entry in &start.entries {
        if entry.index != last + 1 {
            return Err(StartError::Hole { expected: last + 1, found: entry.index });
        }
        if entry.term < term || entry.term == 0 {
            return Err(StartError::BadTerm { index: entry.index, term: entry.term });
        }
        (last, term) = (entry.index, entry.term);
    }
    let mut hard = start.hard;
    if hard.commit > last {
        return Err(StartError::Lost { last, commit: hard.commit });
    }
    hard.commit = hard.commit.max(start.applied.0);
    // A snapshot may be of a later term than was ever written here: nothing was said in it yet.
    if hard.term < term {
        (hard.term, hard.vote) = (term, 0);
    }
    if super::mutant(super::Mutant::VoteForgotten) {
        hard.vote = 0;
    }
    let mut state = RaftState::default();
    state.hard_state.term = hard.term;
    state.hard_state.vote = hard.vote;
    state.hard_state.commit = hard.commit;
    state.conf_state = start.members.conf_state();
    let entries = start.entries.iter().map(to_raft).collect();
    Ok((config(me, start.applied.0, tuning), Tail::new(state, start, entries), hard))
}

fn config(me: MemberId, applied: Index, tuning: &Tuning) -> Config {
    Config {
        id: me,
        applied,
        election_tick: tuning.election_ticks,
        max_election_tick: timeout::longest(tuning.election_ticks) + 1,
        heartbeat_tick: tuning.heartbeat_ticks,
        max_size_per_msg: tuning.max_message_bytes as u64,
        max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
        max_uncommitted_size: tuning.max_uncommitted_bytes.max(tuning.max_message_bytes) as u64,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        batch_append: true,
        ..Config::default()
    }
}

/// An entry for raft-rs.
pub(super) fn to_raft(entry: &LogEntry) -> Entry {
    let mut out = Entry::default();
    out.set_entry_type(match entry.kind {
        EntryKind::Command => EntryType::EntryNormal,
        EntryKind::Members => EntryType::EntryConfChangeV2,
    });
    (out.term, out.index, out.data) = (entry.term, entry.index, entry.data.clone());
    out
}

/// An entry for the shell.
pub(super) fn from_raft(entry: &Entry) -> LogEntry {
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Command,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Members,
    };
    LogEntry { term: entry.term, index: entry.index, kind, data: entry.data.clone() }
}

/// A hard state for the shell.
pub(super) fn hard(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}
