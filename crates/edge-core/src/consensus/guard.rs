//! What of a peer's messages may reach raft-rs, which panics on some that no honest peer sends.

use raft::eraftpb::{Message, MessageType};
use raft::{Raft, StateRole};

use super::tail::Tail;

/// Whether a message can come from a peer that keeps the rules, as far as this member can tell.
pub(super) fn sane(raft: &Raft<Tail>, message: &Message) -> bool {
    let kind = message.get_msg_type();
    // raft-rs takes term 0 for "from this process", which only a forwarded read may look like.
    if (message.term == 0) != (kind == MessageType::MsgReadIndex) {
        return false;
    }
    if message.entries.len() > 1 && kind != MessageType::MsgAppend {
        return false;
    }
    let last = raft.raft_log.last_index();
    match kind {
        MessageType::MsgAppend => {
            let start = (message.index == 0) == (message.log_term == 0);
            start && rising(message) && matches_commit(raft, message)
        }
        // A leader only tells as committed what it knows this log to hold.
        MessageType::MsgHeartbeat => message.term < raft.term || message.commit <= last,
        MessageType::MsgAppendResponse => {
            let current = raft.state == StateRole::Leader && message.term == raft.term;
            !current || message.reject || message.index <= last
        }
        MessageType::MsgReadIndex => {
            let context = message.entries.first().is_some_and(|entry| !entry.data.is_empty());
            context && message.entries.len() == 1
        }
        MessageType::MsgReadIndexResp => message.entries.len() == 1,
        _ => message.entries.is_empty(),
    }
}

/// Terms never fall along a log, and no entry is younger than its leader.
fn rising(message: &Message) -> bool {
    let mut before = message.log_term;
    message.entries.iter().all(|entry| {
        let fine = before <= entry.term && entry.term <= message.term && entry.term > 0;
        before = entry.term;
        fine
    })
}

/// A leader's log agrees with everything that is known as committed.
fn matches_commit(raft: &Raft<Tail>, message: &Message) -> bool {
    let committed = raft.raft_log.committed;
    message.term < raft.term
        || message.index != committed
        || raft.raft_log.match_term(committed, message.log_term)
}

/// Whether an election could be won before this member's own log is durable: raft-rs takes it for
/// granted that it is.
pub(super) fn unready_to_win(raft: &Raft<Tail>) -> bool {
    raft.raft_log.persisted != raft.raft_log.last_index()
}

/// Whether this member alone decides.
pub(super) fn alone(raft: &Raft<Tail>) -> bool {
    raft.promotable() && raft.prs().is_singleton()
}
