//! Proposals on their way: which may go to the member now, and what is said to those that may
//! not, or that will never be heard of.

use std::mem;

use edge_core::consensus::{Input, Refusal};

use super::{Absence, Mind, refuse};
use crate::error::{ChangeError, ProposeError};
use crate::event::{Origin, Proposal, room_for};
use crate::limits::BATCH_BYTES_MAX;

impl Mind {
    /// Gives what waits to the member, as one group: while one is on its way to the disk the next
    /// gathers. Answers whether the member has something to say now.
    pub(super) fn ask_proposals(&mut self) -> bool {
        if self.queue.is_empty() || self.asked_room {
            return false;
        }
        if let Some((detail, _)) = &self.broken {
            let error = ProposeError::Broken { detail: detail.clone() };
            self.drop_queue(&error);
            return false;
        }
        match &self.absence {
            Some(Absence::Starved { detail, .. }) => {
                let detail = detail.clone();
                self.ask_room_or_refuse(&detail);
                return false;
            }
            Some(Absence::Installing) => {
                self.drop_queue(&ProposeError::NotLeader { leader: None });
                return false;
            }
            None => {}
        }
        if !self.leads() {
            // A lone voter leads as soon as its disk has written that.
            if !self.is_lone() {
                self.drop_queue(&ProposeError::NotLeader { leader: self.standing.leader });
            }
            return false;
        }
        if !self.writing.is_empty() || !self.has_overlay_room() {
            return false;
        }
        let group = self.take_group();
        let needed = room_for(&group) + self.begin.slack;
        if needed > self.status.room {
            group.into_iter().rev().for_each(|proposal| self.queue.push_front(proposal));
            self.ask_room(needed);
            return false;
        }
        for proposal in group {
            let ticket = self.next_ticket();
            let data = proposal.data.clone();
            self.asked.insert(ticket, Origin::Proposal(proposal));
            self.input(Input::Propose { ticket, data });
        }
        true
    }

    fn take_group(&mut self) -> Vec<Proposal> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES_MAX {
            let Some(proposal) = self.queue.pop_front() else { break };
            bytes += proposal.data.len();
            group.push(proposal);
        }
        group
    }

    /// The log took nothing of a write for want of room. The member begins anew with what is
    /// durable, once there is room; until then it is as if it were away.
    pub(super) fn starve(&mut self, detail: String, start: Box<edge_core::consensus::Start>) {
        // More than what there was: else it would count as room as soon as this member is back.
        self.lacks((2 * self.begin.slack).max(self.status.room + 1));
        self.tell_full(&detail);
        let error = if self.is_lone() { self.full(&detail) } else { ProposeError::Unknown };
        for (_, (_, origin)) in mem::take(&mut self.placed) {
            self.tell(origin, error.clone());
        }
        for (_, origin) in mem::take(&mut self.asked) {
            self.tell(origin, ProposeError::NotLeader { leader: None });
        }
        self.writing.clear();
        self.applying.clear();
        self.member = None;
        self.absence = Some(Absence::Starved { detail, start });
    }

    pub(super) fn full(&self, detail: &str) -> ProposeError {
        ProposeError::Full { path: self.begin.dir.clone(), detail: detail.to_owned() }
    }

    pub(super) fn refuse_queue(&mut self, detail: &str) {
        if let Some(Absence::Starved { detail: words, .. }) = &mut self.absence {
            detail.clone_into(words);
        }
        let error = self.full(detail);
        self.drop_queue(&error);
    }

    pub(super) fn close_queue(&mut self) {
        self.drop_queue(&ProposeError::Closed);
        for (_, origin) in mem::take(&mut self.asked) {
            self.tell(origin, ProposeError::Closed);
        }
    }

    pub(super) fn drop_queue(&mut self, error: &ProposeError) {
        for proposal in mem::take(&mut self.queue) {
            proposal.answer(Err(error.clone()));
        }
    }

    /// Says to everybody that the disk failed.
    pub(super) fn fail_all(&mut self) {
        let detail = self.broken.as_ref().map(|(detail, _)| detail.clone()).unwrap_or_default();
        let error = ProposeError::Broken { detail };
        self.drop_queue(&error);
        let placed = mem::take(&mut self.placed).into_values().map(|(_, origin)| origin);
        for origin in placed.chain(mem::take(&mut self.asked).into_values()).collect::<Vec<_>>() {
            self.tell(origin, error.clone());
        }
    }

    /// Nobody knows what becomes of what is placed.
    pub(super) fn give_up_placed(&mut self) {
        self.orphaned = None;
        for (_, (_, origin)) in mem::take(&mut self.placed) {
            self.tell(origin, ProposeError::Unknown);
        }
    }

    /// An entry that can't be committed any more.
    pub(super) fn never(&self, origin: Origin) {
        self.tell(origin, ProposeError::NotLeader { leader: self.standing.leader });
    }

    pub(super) fn refused(&self, origin: Origin, refusal: Refusal) {
        match origin {
            Origin::Change(answer) => refuse(answer, ChangeError::Refused(refusal)),
            Origin::Proposal(proposal) => proposal.answer(Err(match refusal {
                Refusal::NotLeader { leader } => ProposeError::NotLeader { leader },
                Refusal::Busy => ProposeError::Busy,
                Refusal::Invalid => ProposeError::BadCommand { why: refusal.to_string() },
                _ => ProposeError::NotLeader { leader: None },
            })),
        }
    }

    fn tell(&self, origin: Origin, error: ProposeError) {
        match origin {
            Origin::Proposal(proposal) => proposal.answer(Err(error)),
            Origin::Change(answer) => refuse(
                answer,
                match error {
                    ProposeError::Broken { detail } => ChangeError::Broken { detail },
                    ProposeError::NotLeader { leader } => {
                        ChangeError::Refused(Refusal::NotLeader { leader })
                    }
                    ProposeError::Closed => ChangeError::Closed,
                    _ => ChangeError::Unknown,
                },
            ),
        }
    }
}
