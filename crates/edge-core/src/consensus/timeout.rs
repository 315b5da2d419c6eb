//! How long a member waits before it asks for votes: drawn from the seed, since raft-rs draws from
//! the thread's generator.
//!
//! A member that had a leader waits its turn: the first heir a little longer than the lease (the
//! time in which others refuse because they heard the leader), the next ones later, two ticks each.
//! So two never ask at once, the first one's request is not refused by somebody whose lease has a
//! tick to go, and the lease is what protects a leader in bad weather. Who asked in vain asks again
//! soon, by chance, then less and less often; with pre-votes that disturbs nobody who has a leader.

use raft::StateRole;

use super::member::Member;
use super::types::{MemberId, Term};

/// Ticks beyond the lease that the first heir waits.
const BEYOND: usize = 2;

/// Ticks between two heirs' turns.
const TURN: usize = 2;

/// Heirs that have a turn of their own; later ones share the last.
const TURNS: u64 = 4;

/// Ticks until a candidate asks again, at least, the first time.
const AGAIN: usize = 3;

/// Leases that a shy member waits beyond what others do: each of them has had its turn by then.
const SHY_LEASES: usize = 4;

/// The longest time that is ever drawn.
pub(super) fn longest(lease: usize) -> usize {
    (SHY_LEASES + 2) * lease
}

/// The election timeout in force, and for what it was drawn.
#[derive(Default)]
pub(super) struct Timeout {
    ticks: usize,
    drawn_for: Option<(Term, StateRole, MemberId)>,
    /// Times that votes were asked for since there was a leader.
    asked: u32,
}

impl Timeout {
    /// The time is over, and votes are asked for.
    pub(super) fn ran(&mut self) {
        self.drawn_for = None;
        self.asked = self.asked.saturating_add(1);
    }
}

impl Member {
    /// Sets the timeout that counts now. Called before every tick.
    pub(super) fn set_timeout(&mut self) {
        let raft = &self.node.raft;
        let now = Some((raft.term, raft.state, raft.leader_id));
        if raft.leader_id != raft::INVALID_ID {
            self.timeout.asked = 0;
        }
        if self.timeout.drawn_for != now {
            let shyness = if self.shy { SHY_LEASES * self.tuning.election_ticks } else { 0 };
            self.timeout.ticks = self.drawn() + shyness;
            self.timeout.drawn_for = now;
        }
        let (ticks, lease) = (self.timeout.ticks, self.tuning.election_ticks);
        let raft = &mut self.node.raft;
        raft.set_randomized_election_timeout(ticks.max(lease));
        // raft-rs takes no time shorter than the lease: its count is put forward instead, which
        // means nothing else while there is no leader.
        if ticks < lease && raft.election_elapsed + 1 >= ticks {
            raft.election_elapsed = raft.election_elapsed.max(lease - 1);
        }
    }

    /// See [`super::Input::Shy`].
    pub(super) fn be_shy(&mut self, shy: bool) {
        if self.shy != shy {
            self.shy = shy;
            self.timeout.drawn_for = None;
        }
    }

    fn drawn(&mut self) -> usize {
        let (raft, lease) = (&self.node.raft, self.tuning.election_ticks);
        let leader = raft.leader_id;
        if leader != raft::INVALID_ID {
            let rank = self.rank(leader, leader).unwrap_or(0).min(TURNS - 1) as usize;
            let ticks = lease + BEYOND + rank * TURN + self.chance.below(TURN);
            return ticks.min(2 * lease - 1);
        }
        // Who gave a vote away, or has just begun, bears with a candidate a little.
        let least = match raft.state {
            StateRole::Follower => lease / 2,
            _ => AGAIN << (self.timeout.asked / 2).min(8),
        };
        let least = least.clamp(1, lease);
        least + self.chance.below(least)
    }
}
