//! When a leader is known to be gone, its heirs do not wait for a timeout.
//!
//! A hint may be false, late or missing: it only decides who campaigns when. The votes are as safe
//! as ever; they ignore the old leader's lease, so nothing may be read by a lease either.

use raft::eraftpb::{Message, MessageType};
use raft::{CAMPAIGN_TRANSFER, StateRole};

use super::guard;
use super::member::Member;
use super::types::{Index, MemberId, Term};

/// An heir waits so many ticks for each one before it.
const STAGGER_TICKS: u64 = 2;

/// A leader was said to be gone, and this member is not the first in line.
pub(super) struct Hint {
    pub(super) gone: MemberId,
    term: Term,
    left: u64,
}

/// A candidate that hurries because of a hint, and where its log ends.
pub(super) struct Rival {
    id: MemberId,
    term: Term,
    last: (Term, Index),
}

/// The rival whose request for votes this message is.
pub(super) fn rival(message: &Message) -> Option<Rival> {
    let hurries = message.get_msg_type() == MessageType::MsgRequestVote
        && message.context == CAMPAIGN_TRANSFER;
    hurries.then_some(Rival {
        id: message.from,
        term: message.term,
        last: (message.log_term, message.index),
    })
}

impl Member {
    /// A member's process has ended, as two witnesses say (see the bus).
    pub(super) fn gone(&mut self, member: MemberId) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Follower || raft.leader_id != member || member == self.me {
            return;
        }
        let Some(rank) = self.rank(member, member) else { return };
        self.hint = Some(Hint { gone: member, term: raft.term, left: rank * STAGGER_TICKS });
        // Its lease protects it no more, so that whoever asks gets an answer. If the hint was
        // false, the next heartbeat makes it the leader again.
        self.node.raft.leader_id = raft::INVALID_ID;
        if rank == 0 {
            self.campaign();
        }
    }

    /// This member's place among the voters by id, going round from `after` on, `gone` left out.
    pub(super) fn rank(&self, after: MemberId, gone: MemberId) -> Option<u64> {
        let voters = self.members.voters();
        let round = voters.range(after..).chain(voters.range(..after));
        let mut heirs = round.filter(|id| **id != gone && **id != after);
        heirs.position(|id| *id == self.me).map(|rank| rank as u64)
    }

    /// One tick nearer to this heir's turn.
    pub(super) fn count_down(&mut self) {
        let raft = &self.node.raft;
        let settled = raft.leader_id != raft::INVALID_ID;
        let Some(hint) = &mut self.hint else { return };
        if self.node.raft.state == StateRole::Leader || (settled && raft.term > hint.term) {
            self.hint = None;
            return;
        }
        hint.left = hint.left.saturating_sub(1);
        if hint.left == 0 {
            self.hint = None;
            self.campaign();
        }
    }

    /// A hurrying candidate whose log is behind this one's can't win: this member runs instead.
    pub(super) fn outrun(&mut self, rival: &Rival) {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        let unvoted = raft.term == rival.term && raft.vote == raft::INVALID_ID;
        if !unvoted || raft.state != StateRole::Follower || raft.leader_id != raft::INVALID_ID {
            return;
        }
        if (log.last_term(), log.last_index()) <= rival.last {
            return;
        }
        let gone = self.hint.as_ref().map_or(rival.id, |hint| hint.gone);
        let Some(rank) = self.rank(rival.id, gone) else { return };
        self.hint = Some(Hint { gone, term: rival.term, left: rank * STAGGER_TICKS });
        if rank == 0 {
            self.campaign();
        }
    }

    /// Asks for votes at once, leases or not; a shy member does not.
    pub(super) fn campaign(&mut self) {
        let raft = &mut self.node.raft;
        if self.shy || raft.state != StateRole::Follower || !raft.promotable() {
            return;
        }
        if guard::alone(raft) && guard::unready_to_win(raft) {
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgTimeoutNow);
        (message.to, message.from) = (self.me, self.me);
        let _ = raft.step(message);
    }

    /// Alone there is nobody to ask and nothing to wait for.
    pub(super) fn rule_alone(&mut self) {
        let raft = &self.node.raft;
        if guard::alone(raft) && !self.leads() && !guard::unready_to_win(raft) {
            let _ = self.node.campaign();
        }
    }
}
