//! Outcomes: what raft-rs has ready, in the order that keeps it safe.
//!
//! What a follower or a candidate says rests on what its disk holds, so it is held back until the
//! shell reports the write. A leader's words need no disk, but its term and vote do.

use std::mem;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};

use super::change::Logged;
use super::frame;
use super::member::Member;
use super::start::{from_raft, hard};
use super::types::{EntryKind, Index, MemberId, Outcome, Persist};
use super::{Mutant, mutant};

/// A write that is on its way to the disk, and what waits for it.
pub(super) struct Held {
    number: u64,
    /// It is on the disk, or there is nothing to write.
    done: bool,
    /// It carries a new term or vote.
    vote: bool,
    /// From where it cuts the log, and the last entry it appends.
    truncate: Option<Index>,
    last: Option<Index>,
    send: Vec<(MemberId, Bytes)>,
}

impl Member {
    /// What is to be done now. Call it until it gives `None` after each step or batch of steps.
    pub fn outcome(&mut self) -> Option<Outcome> {
        self.ask_reads();
        if self.node.has_ready() {
            self.harvest();
        }
        let out = &self.out;
        let nothing = out.persist.is_none()
            && out.fetch.is_none()
            && out.send.is_empty()
            && out.apply.is_empty()
            && out.placed.is_empty()
            && out.refused.is_empty()
            && out.reads.is_empty();
        (!nothing).then(|| mem::take(&mut self.out))
    }

    /// Takes one `Ready` of raft-rs apart.
    fn harvest(&mut self) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let term = self.node.raft.term;
        if self.leads() && self.lead_from.0 != term {
            // The first entry of its term is the one it appended when it was elected.
            self.lead_from = (term, self.first_of_term());
        }
        let reads = ready.take_read_states();
        let committed = ready.take_committed_entries();
        let entries = ready.take_entries();
        let said = self.in_place(ready.take_messages());
        let held = self.in_place(ready.take_persisted_messages());
        let truncate = self.node.mut_store().append(&entries);
        let last = entries.last().map(|entry| entry.index);
        self.node.advance_append_async(ready);

        let now = hard(&self.node.raft.hard_state());
        let vote = (now.term, now.vote) != (self.written.term, self.written.vote);
        let written = vote || !entries.is_empty();
        if written {
            // What is known as committed goes along: a member must not forget that a change of
            // the members is committed once it has a later one in its log.
            let state = (now != self.written).then_some(now);
            self.written = now;
            let entries = entries.iter().map(from_raft).collect();
            let truncate_from = truncate.filter(|_| !mutant(Mutant::NotTruncated));
            self.out.persist = Some(Persist { number, hard: state, truncate_from, entries });
        }
        let vote_waits = vote || self.held.iter().any(|held| held.vote);
        let hold = |message: &Message| may_wait(message, vote_waits);
        let (wait, go): (Vec<_>, Vec<_>) = said.into_iter().partition(hold);
        let hold = |message: &Message| must_wait(message, vote_waits);
        let (wait_too, go_too): (Vec<_>, Vec<_>) = held.into_iter().partition(hold);
        self.send(go);
        self.send(go_too);
        let send = wait.iter().chain(&wait_too).filter_map(addressed).collect();
        self.held.push_back(Held { number, done: !written, vote, truncate, last, send });
        self.release();
        self.answer_reads(reads);
        self.hand_out(committed);
        self.break_rules(&entries);
    }

    fn first_of_term(&self) -> Index {
        let raft = &self.node.raft;
        let entries = raft.raft_log.unstable_entries().iter();
        let mut own = entries.filter(|entry| entry.term == raft.term);
        own.next().map_or(raft.raft_log.last_index(), |entry| entry.index)
    }

    /// Puts entries where they belong.
    ///
    /// Until it is harvested, raft-rs adds a peer's next entries to the message that waits for it,
    /// and takes one without entries (news of a commit) for the right place whatever it follows.
    /// If the peer's progress fell back meanwhile, for it refused something or its line broke, the
    /// entries are earlier ones than the message's place says.
    fn in_place(&self, messages: Vec<Message>) -> Vec<Message> {
        if mutant(Mutant::EntriesMisplaced) {
            return messages;
        }
        let log = &self.node.raft.raft_log;
        let mend = |mut message: Message| {
            let Some(first) = message.entries.first().map(|entry| entry.index) else {
                return Some(message);
            };
            if message.get_msg_type() != MessageType::MsgAppend || first == message.index + 1 {
                return Some(message);
            }
            // This log is that of the message's term as long as this member leads in it. Else the
            // message is as good as lost.
            let own = self.leads() && message.term == self.node.raft.term;
            (message.index, message.log_term) = (first - 1, log.term(first - 1).unwrap_or(0));
            (own && message.log_term > 0).then_some(message)
        };
        messages.into_iter().filter_map(mend).collect()
    }

    fn send(&mut self, messages: Vec<Message>) {
        self.out.send.extend(messages.iter().filter_map(addressed));
    }

    pub(super) fn hand_out(&mut self, committed: Vec<Entry>) {
        for entry in committed {
            if entry.index <= self.given {
                continue;
            }
            self.given = entry.index;
            let entry = from_raft(&entry);
            if entry.kind == EntryKind::Members {
                self.ahead.push_back(entry.clone());
            }
            self.out.apply.push(entry);
        }
    }

    /// Every write up to `number` is on the disk.
    pub(super) fn persisted(&mut self, number: u64) {
        for held in self.held.iter_mut().filter(|held| held.number <= number) {
            held.done = true;
        }
        self.release();
    }

    /// Lets go of what waited for writes that are done, in order.
    ///
    /// A write whose entries a later one cuts off counts only together with that one: else
    /// raft-rs could take entries for durable that came a second time and are not yet.
    fn release(&mut self) {
        while let Some(first) = self.held.front() {
            let cut = |held: &&Held| {
                held.truncate.is_some_and(|from| first.last.is_some_and(|last| from <= last))
            };
            let cut_off = self.held.iter().skip(1).filter(cut).any(|later| !later.done);
            if !first.done || cut_off {
                return;
            }
            let Some(mut held) = self.held.pop_front() else { return };
            self.node.on_persist_ready(held.number);
            self.out.send.append(&mut held.send);
        }
    }

    /// Every entry up to `index` is in the state.
    pub(super) fn applied(&mut self, index: Index) {
        let log = &self.node.raft.raft_log;
        let upto = index.min(self.given).min(log.committed).min(log.persisted);
        if upto <= self.node.raft.raft_log.applied {
            return;
        }
        while self.ahead.front().is_some_and(|entry| entry.index <= upto) {
            let Some(entry) = self.ahead.pop_front() else { break };
            let next = self.members.after(&entry);
            if let Some((next, change)) = next.zip(Logged::decode(&entry.data)) {
                // The rules of `after` are raft-rs', so it takes what they take.
                let _ = self.node.apply_conf_change(&change.conf_change());
                self.members = next;
            }
            if !self.node.raft.prs().conf().voters().contains(self.me) && self.leads() {
                let term = self.node.raft.term;
                self.node.raft.become_follower(term, raft::INVALID_ID);
            }
            self.node.advance_apply_to(entry.index);
        }
        if upto > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(upto);
        }
        let term = self.node.raft.raft_log.term(upto).unwrap_or_default();
        self.node.mut_store().set_applied(upto, term);
        self.trim();
        self.govern();
    }

    fn trim(&mut self) {
        let applied = self.node.raft.raft_log.applied;
        let mut everywhere = applied;
        if self.leads() {
            let peers = self.node.raft.prs().iter().filter(|(id, _)| **id != self.me);
            everywhere = peers.map(|(_, peer)| peer.matched).min().unwrap_or(applied);
        }
        let (idle, most) = (self.tuning.tail_bytes_idle, self.tuning.tail_bytes);
        self.node.mut_store().trim(everywhere, idle, most);
    }
}

/// A leader's words wait only for its own term and vote.
fn may_wait(_message: &Message, vote_waits: bool) -> bool {
    vote_waits && !mutant(Mutant::LoneTermBeforePersist)
}

/// Everybody else's words wait for everything, but for those that promise nothing about a log: a
/// slow disk must not look like a dead member.
fn must_wait(message: &Message, vote_waits: bool) -> bool {
    match message.get_msg_type() {
        MessageType::MsgRequestVoteResponse => !mutant(Mutant::VoteBeforePersist),
        MessageType::MsgAppendResponse => !mutant(Mutant::AckBeforeSync),
        MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex => vote_waits,
        _ => true,
    }
}

fn addressed(message: &Message) -> Option<(MemberId, Bytes)> {
    frame::encode(message).map(|bytes| (message.to, bytes))
}
