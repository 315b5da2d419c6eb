//! What a leader does by itself, and what it is asked to do with the members.

use bytes::Bytes;
use raft::ProgressState;
use raft::eraftpb::{ConfChangeType, Entry, EntryType, Message, MessageType};

use super::change::{Change, Logged};
use super::member::Member;
use super::members::MEMBERS_MAX;
use super::refusal::Refusal;
use super::types::MemberId;

/// The ticket of what nobody asked for.
const OWN_TICKET: u64 = u64::MAX;

impl Member {
    /// Whether a peer was heard of in the last election timeout.
    pub(super) fn active(&self, id: MemberId) -> bool {
        let since = self.heard.get(&id).map(|then| self.ticks - then);
        id == self.me || since.is_some_and(|ticks| ticks <= self.tuning.election_ticks as u64)
    }

    /// The chores of a leader: promotions, and telling again what may have got lost.
    pub(super) fn govern(&mut self) {
        if !self.leads() {
            return;
        }
        let beat = self.ticks.is_multiple_of(self.tuning.heartbeat_ticks as u64);
        if let Some(heir) = self.node.raft.lead_transferee {
            let last = self.node.raft.raft_log.last_index();
            let matched = self.node.raft.prs().get(heir).map(|peer| peer.matched);
            if matched == Some(last) && beat {
                self.node.raft.send_timeout_now(heir);
            }
            return;
        }
        if beat {
            self.offer_again();
        }
        let ready = self.members.rising().iter().copied().find(|id| self.caught_up(*id));
        if let Some(id) = ready
            && self.may_change()
        {
            self.log_change(OWN_TICKET, ConfChangeType::AddNode, id, None);
            self.out.placed.retain(|(ticket, ..)| *ticket != OWN_TICKET);
            self.out.refused.retain(|(ticket, _)| *ticket != OWN_TICKET);
        }
    }

    fn caught_up(&self, id: MemberId) -> bool {
        let raft = &self.node.raft;
        let peer = raft.prs().get(id);
        let here = peer.is_some_and(|peer| peer.matched >= raft.raft_log.committed);
        here && self.active(id)
    }

    /// One change at a time, and none before the leader has committed in its own term.
    fn may_change(&mut self) -> bool {
        if super::mutant(super::Mutant::ChangeAtAppend) {
            self.node.raft.pending_conf_index = 0;
        }
        !self.node.raft.has_pending_conf() && self.node.raft.commit_to_current_term()
    }

    /// A snapshot's offer is one message, which may get lost.
    fn offer_again(&mut self) {
        let (index, term) = self.node.store().applied();
        let first = self.node.store().first();
        let raft = &mut self.node.raft;
        let (me, own_term) = (raft.id, raft.term);
        let mut offers = Vec::new();
        for (id, peer) in raft.mut_prs().iter_mut() {
            if peer.state == ProgressState::Snapshot && *id != me {
                // Under steady writes a snapshot is old when it is installed. What follows it is
                // still in the log, and feeds the peer; another snapshot would only be old again.
                if peer.matched > 0 && peer.matched + 1 >= first {
                    peer.pending_snapshot = 0;
                    peer.become_probe();
                    continue;
                }
                peer.become_snapshot(index);
                let mut message = Message::default();
                message.set_msg_type(MessageType::MsgSnapshot);
                (message.from, message.to, message.term) = (me, *id, own_term);
                let meta = message.mut_snapshot().mut_metadata();
                (meta.index, meta.term) = (index, term);
                offers.push(message);
            }
        }
        offers.sort_by_key(|message| message.to);
        raft.msgs.append(&mut offers);
    }

    /// Hands over, to `to` or to the one that has most of the log.
    pub(super) fn transfer(&mut self, to: Option<MemberId>) {
        if !self.leads() || self.node.raft.lead_transferee.is_some() {
            return;
        }
        let prs = self.node.raft.prs();
        let matched = |id: MemberId| prs.get(id).map_or(0, |peer| peer.matched);
        let others = self.members.voters().iter().copied().filter(|id| *id != self.me);
        let best = others
            .filter(|id| to.is_none_or(|to| to == *id) && (to.is_some() || self.active(*id)))
            .max_by_key(|id| (matched(*id), std::cmp::Reverse(*id)));
        if let Some(heir) = best {
            self.node.transfer_leader(heir);
        }
    }

    pub(super) fn change(&mut self, ticket: u64, change: Change) {
        if let Err(why) = self.try_change(ticket, change) {
            self.refuse(ticket, why);
        }
    }

    fn try_change(&mut self, ticket: u64, change: Change) -> Result<(), Refusal> {
        if !self.leads() {
            return Err(Refusal::NotLeader { leader: self.leader() });
        }
        if !self.may_change() {
            return Err(Refusal::ChangePending);
        }
        let (voter, learner) = (ConfChangeType::AddNode, ConfChangeType::AddLearnerNode);
        match change {
            Change::Add { info, voter: rising } => {
                let id = info.id;
                let present = self.members.contains(id);
                let votes = self.members.voters().contains(&id);
                if !info.valid() {
                    return Err(Refusal::Invalid);
                }
                if self.members.by_name(&info.name).is_some_and(|other| other.id != id) {
                    return Err(Refusal::NameTaken);
                }
                if !present && self.members.all().count() >= MEMBERS_MAX {
                    return Err(Refusal::Full);
                }
                let kind = if votes { voter } else { learner };
                self.log_change(ticket, kind, id, Some((info, rising && !votes)));
            }
            Change::Update { info } => {
                if !self.members.contains(info.id) {
                    return Err(Refusal::NoSuchMember);
                }
                let rising = self.members.rising().contains(&info.id);
                self.try_change(ticket, Change::Add { info, voter: rising })?;
            }
            Change::Promote { id } => {
                if self.members.voters().contains(&id) {
                    return Err(Refusal::Nothing);
                }
                if !self.members.contains(id) {
                    return Err(Refusal::NoSuchMember);
                }
                if !self.caught_up(id) {
                    return Err(Refusal::NotCaughtUp);
                }
                self.log_change(ticket, voter, id, None);
            }
            Change::Remove { id } => self.remove(ticket, id)?,
        }
        Ok(())
    }

    fn remove(&mut self, ticket: u64, id: MemberId) -> Result<(), Refusal> {
        if !self.members.contains(id) {
            return Err(Refusal::NoSuchMember);
        }
        if self.members.voters().contains(&id) {
            let left = self.members.voters().iter().filter(|voter| **voter != id);
            let (count, alive) =
                (left.clone().count(), left.filter(|id| self.active(**id)).count());
            if count == 0 {
                return Err(Refusal::LastVoter);
            }
            if alive < count / 2 + 1 {
                return Err(Refusal::NoMajority);
            }
            if id == self.me {
                self.transfer(None);
                return Err(Refusal::Transferring);
            }
        }
        self.log_change(ticket, ConfChangeType::RemoveNode, id, None);
        Ok(())
    }

    fn log_change(
        &mut self,
        ticket: u64,
        kind: ConfChangeType,
        id: MemberId,
        info: Option<(super::MemberInfo, bool)>,
    ) {
        let Some(data) = (Logged { kind, id, info }).encode() else {
            return self.refuse(ticket, Refusal::Invalid);
        };
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = data;
        self.log(ticket, entry);
    }

    /// The bytes that a change would have in the log, for tests of the store.
    pub fn change_bytes(info: super::MemberInfo, voter: bool) -> Option<Bytes> {
        let (kind, id) = (ConfChangeType::AddLearnerNode, info.id);
        Logged { kind, id, info: Some((info, voter)) }.encode()
    }
}
