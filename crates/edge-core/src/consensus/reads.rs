//! Linearizable read points: one question to the majority at a time, for everybody who waits.

use bytes::Bytes;

use super::member::Member;
use super::refusal::Refusal;
use super::types::{Index, MemberId, Term};

/// Reads that wait for an answer; more are refused.
const READS_MAX: usize = 16 * 1024;

/// Those who wait, and the question that is on its way.
pub(super) struct Reads {
    me: MemberId,
    nonce: u64,
    count: u64,
    waiting: Vec<u64>,
    flight: Option<Flight>,
}

struct Flight {
    context: Bytes,
    tickets: Vec<u64>,
    /// Whom it was put to, and in which term.
    leader: (MemberId, Term),
    age: u64,
}

impl Reads {
    pub(super) fn new(me: MemberId, nonce: u64) -> Reads {
        Reads { me, nonce, count: 0, waiting: Vec::new(), flight: None }
    }

    pub(super) fn ask(&mut self, ticket: u64) {
        self.waiting.push(ticket);
    }

    /// A question that is `patience` ticks old is put again: it may have been lost.
    pub(super) fn tick(&mut self, patience: u64) {
        let Some(flight) = &mut self.flight else { return };
        flight.age += 1;
        if flight.age >= patience {
            self.recall();
        }
    }

    /// Who asked first waits first.
    fn recall(&mut self) {
        if let Some(mut flight) = self.flight.take() {
            flight.tickets.append(&mut self.waiting);
            self.waiting = flight.tickets;
        }
    }

    fn begin(&mut self, leader: (MemberId, Term)) -> Bytes {
        self.count += 1;
        let mut context = Vec::with_capacity(24);
        for part in [self.me, self.nonce, self.count] {
            context.extend_from_slice(&part.to_be_bytes());
        }
        let context = Bytes::from(context);
        let tickets = std::mem::take(&mut self.waiting);
        self.flight = Some(Flight { context: context.clone(), tickets, leader, age: 0 });
        context
    }

    /// Those whom an answer is for; an answer to an earlier question is for nobody.
    pub(super) fn answered(&mut self, context: &[u8]) -> Vec<u64> {
        match self.flight.take_if(|flight| flight.context == context) {
            Some(flight) => flight.tickets,
            None => Vec::new(),
        }
    }
}

impl Member {
    /// Puts the next question, if there is one and somebody to put it to.
    pub(super) fn ask_reads(&mut self) {
        let leader = self.leader();
        let now = (leader.unwrap_or(0), self.node.raft.term);
        if self.reads.flight.as_ref().is_some_and(|flight| flight.leader != now) {
            self.reads.recall();
        }
        if self.reads.waiting.is_empty() {
            return;
        }
        if leader.is_none() {
            for ticket in std::mem::take(&mut self.reads.waiting) {
                self.refuse(ticket, Refusal::NotLeader { leader: None });
            }
            return;
        }
        while self.reads.waiting.len() > READS_MAX {
            if let Some(ticket) = self.reads.waiting.pop() {
                self.refuse(ticket, Refusal::Busy);
            }
        }
        if super::mutant(super::Mutant::ReadWithoutQuorum) && self.leads() {
            let index = self.node.raft.raft_log.committed;
            let tickets = std::mem::take(&mut self.reads.waiting);
            self.out.reads.extend(tickets.into_iter().map(|ticket| (ticket, index)));
            return;
        }
        // A leader that has not committed in its own term can't know what is committed at all.
        let blind = self.leads() && !self.node.raft.commit_to_current_term();
        if self.reads.flight.is_none() && !blind {
            let context = self.reads.begin(now);
            self.node.read_index(context.to_vec());
        }
    }

    /// Hands out the read points that raft-rs has found.
    pub(super) fn answer_reads(&mut self, found: Vec<raft::ReadState>) {
        for state in found {
            let index: Index = state.index;
            let tickets = self.reads.answered(&state.request_ctx);
            self.out.reads.extend(tickets.into_iter().map(|ticket| (ticket, index)));
        }
    }
}
