//! Rules that the simulator leaves out on purpose, where that takes more than skipping a line.
//! Without the feature `mutants` all of this is empty.

use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{GetEntriesContext, NO_LIMIT};

use super::change::Logged;
use super::member::Member;
use super::start::from_raft;
use super::{Mutant, mutant};

impl Member {
    /// What goes wrong when a message comes in.
    pub(super) fn mutate(&self, mut message: Message) -> Message {
        let log = &self.node.raft.raft_log;
        let append = message.get_msg_type() == MessageType::MsgAppend;
        let inside = message.index <= log.last_index() && message.index > log.committed;
        if mutant(Mutant::TermNotChecked) && append && inside {
            message.log_term = log.term(message.index).unwrap_or(message.log_term);
        }
        message
    }

    /// What goes wrong when entries are appended.
    pub(super) fn break_rules(&mut self, appended: &[Entry]) {
        if mutant(Mutant::ApplyBeforeCommit) {
            let (from, to) = (self.given + 1, self.node.raft.raft_log.persisted + 1);
            let log = &self.node.raft.raft_log;
            let context = GetEntriesContext::empty(false);
            let early = (from < to && from >= log.first_index())
                .then(|| log.slice(from, to, NO_LIMIT, context).ok())
                .flatten();
            self.hand_out(early.unwrap_or_default());
        }
        if mutant(Mutant::CommitAlone) && self.leads() {
            let log = &mut self.node.raft.raft_log;
            if log.term(log.persisted).ok() == Some(self.node.raft.r.term) {
                let log = &mut self.node.raft.raft_log;
                log.commit_to(log.persisted);
            }
        }
        if mutant(Mutant::ChangeAtAppend) {
            let changes = appended.iter().filter(|e| e.get_entry_type() != EntryType::EntryNormal);
            for entry in changes.map(from_raft) {
                if let Some((next, change)) =
                    self.members.after(&entry).zip(Logged::decode(&entry.data))
                {
                    let _ = self.node.apply_conf_change(&change.conf_change());
                    self.members = next;
                }
            }
        }
    }
}
