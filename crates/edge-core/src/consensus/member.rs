//! A member: inputs in. What comes out is in `output`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};
use slog::{Discard, Logger, o};

use super::chance::Chance;
use super::frame::{self, Frame};
use super::guard;
use super::hint::Hint;
use super::members::Members;
use super::output::Held;
use super::reads::Reads;
use super::refusal::{Refusal, StartError};
use super::start;
use super::tail::Tail;
use super::timeout::Timeout;
use super::types::{
    Fetch, HardState, Index, Input, LogEntry, MemberId, Outcome, Progress, Role, Standing, Start,
    Term, Tuning,
};

/// One voice of the cluster. See the module's page for what the shell owes it.
pub struct Member {
    pub(super) me: MemberId,
    pub(super) node: RawNode<Tail>,
    pub(super) tuning: Tuning,
    /// As of what was applied.
    pub(super) members: Members,
    /// Changes of the members that were handed out and not applied yet.
    pub(super) ahead: VecDeque<LogEntry>,
    /// The last entry that was handed out to be applied.
    pub(super) given: Index,
    pub(super) chance: Chance,
    pub(super) timeout: Timeout,
    pub(super) reads: Reads,
    pub(super) hint: Option<Hint>,
    /// Messages that wait for a disk.
    pub(super) held: VecDeque<Held>,
    /// The hard state that was last given out to be written.
    pub(super) written: HardState,
    pub(super) out: Outcome,
    /// The term that this member led last, and its first entry in it.
    pub(super) lead_from: (Term, Index),
    /// The leader that was last told how far this log is, and its term.
    pub(super) announced: (Term, MemberId),
    pub(super) fetching: Option<Fetch>,
    /// The tick at which the leader was last followed.
    pub(super) followed: u64,
    /// The tick at which each peer was last heard.
    pub(super) heard: BTreeMap<MemberId, u64>,
    pub(super) ticks: u64,
    pub(super) malformed: u64,
    /// See [`Input::Shy`].
    pub(super) shy: bool,
}

impl Member {
    /// Begins with what the disk holds. `seed` decides the election timeouts.
    pub fn new(
        me: MemberId,
        start: Start,
        tuning: Tuning,
        seed: u64,
    ) -> Result<Member, StartError> {
        let (config, tail, hard) = start::prepare(me, &start, &tuning)?;
        let logger = Logger::root(Discard, o!());
        let node = RawNode::new(&config, tail, &logger)
            .map_err(|error| StartError::BadTuning { why: error.to_string() })?;
        let mut chance = Chance::new(seed ^ me);
        let nonce = chance.next();
        let mut member = Member {
            me,
            node,
            tuning,
            members: start.members,
            ahead: VecDeque::new(),
            given: start.applied.0,
            chance,
            timeout: Timeout::default(),
            reads: Reads::new(me, nonce),
            hint: None,
            held: VecDeque::new(),
            written: hard,
            out: Outcome::default(),
            lead_from: (0, 0),
            announced: (0, 0),
            fetching: None,
            followed: 0,
            heard: BTreeMap::new(),
            ticks: 0,
            malformed: 0,
            shy: false,
        };
        member.rule_alone();
        Ok(member)
    }

    /// Takes one input. Never blocks; no peer's bytes make it panic.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Message { from, bytes } => self.receive(from, &bytes),
            Input::Propose { ticket, data } => self.propose(ticket, data),
            Input::Read { ticket } => self.reads.ask(ticket),
            Input::Change { ticket, change } => self.change(ticket, change),
            Input::Transfer { to } => self.transfer(to),
            Input::Shy(shy) => self.be_shy(shy),
            Input::Gone { member } => self.gone(member),
            Input::Persisted { number } => self.persisted(number),
            Input::Applied { index, .. } => self.applied(index),
            Input::Unreachable { member } => self.node.report_unreachable(member),
            Input::SnapshotSent { to, ok } => self.snapshot_sent(to, ok),
            Input::FetchFailed => self.fetch_failed(),
            Input::Compact { upto } => self.node.mut_store().compact(upto),
        }
        self.rule_alone();
    }

    /// The leader, if it is known. Who has no vote never times out in raft-rs, so a leader that
    /// was not heard for longer than any timeout is none.
    pub(super) fn leader(&self) -> Option<MemberId> {
        let leader = self.node.raft.leader_id;
        let recent = self.ticks - self.followed <= 2 * self.tuning.election_ticks as u64;
        (leader != raft::INVALID_ID && (leader == self.me || recent)).then_some(leader)
    }

    pub(super) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(super) fn refuse(&mut self, ticket: u64, why: Refusal) {
        self.out.refused.push((ticket, why));
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.set_timeout();
        let raft = &self.node.raft;
        let expires = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        let follows = !self.leads();
        // An election must not be won before the own log is durable.
        if follows && expires && guard::alone(raft) && guard::unready_to_win(raft) {
            return;
        }
        self.node.tick();
        if follows && self.node.raft.election_elapsed == 0 {
            self.timeout.ran();
        }
        self.reads.tick(self.tuning.heartbeat_ticks as u64);
        self.count_down();
        self.govern();
    }

    fn receive(&mut self, from: MemberId, bytes: &Bytes) {
        let Some(frame) = frame::decode(bytes, from, self.me) else {
            self.malformed += 1;
            return;
        };
        self.heard.insert(from, self.ticks);
        if self.heard.len() > 2 * super::members::MEMBERS_MAX {
            self.heard.pop_first();
        }
        match frame {
            Frame::Raft(message) if guard::sane(&self.node.raft, &message) => self.take(message),
            Frame::Raft(_) => self.malformed += 1,
            Frame::Offer { term, index, log_term } => self.offered(from, term, index, log_term),
            Frame::Failed { term } => {
                if self.leads() && term == self.node.raft.term {
                    self.node.report_snapshot(from, SnapshotStatus::Failure);
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        let (from, term, kind) = (message.from, message.term, message.get_msg_type());
        let raft = &self.node.raft;
        match kind {
            MessageType::MsgTimeoutNow => {
                if from == raft.leader_id && term == raft.term {
                    self.campaign();
                }
                return;
            }
            // Passing it on could go round in circles; who asked asks again.
            MessageType::MsgReadIndex if !self.leads() => return,
            MessageType::MsgRequestVoteResponse if guard::unready_to_win(raft) => return,
            _ => {}
        }
        let message = self.mutate(message);
        let rival = super::hint::rival(&message);
        // What raft-rs refuses here it refuses on purpose.
        let _ = self.node.step(message);
        let followed = self.node.raft.state == StateRole::Follower
            && (self.node.raft.term, self.node.raft.leader_id) == (term, from);
        if followed && matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat) {
            self.hint = None;
            self.followed = self.ticks;
            self.announce(from);
        }
        if let Some(rival) = rival {
            self.outrun(&rival);
        }
        if self.leads() && kind == MessageType::MsgAppendResponse {
            self.govern();
        }
    }

    /// Tells a new leader once how far this log is for certain, so that one who waits for a
    /// snapshot to arrive knows that it has.
    fn announce(&mut self, leader: MemberId) {
        let now = (self.node.raft.term, leader);
        if self.announced != now {
            self.announced = now;
            self.acknowledge(leader);
        }
    }

    /// What is committed and in this log is in every leader's log too. Sent when it is durable, as
    /// every message of a follower.
    fn acknowledge(&mut self, to: MemberId) {
        let raft = &mut self.node.raft;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppendResponse);
        (message.to, message.from, message.term) = (to, self.me, raft.term);
        message.index = raft.raft_log.committed;
        message.commit = message.index;
        raft.msgs.push(message);
    }

    /// A leader has only a snapshot for this log.
    fn offered(&mut self, from: MemberId, term: Term, index: Index, log_term: Term) {
        if term == 0 || index == 0 || log_term == 0 || log_term > term {
            self.malformed += 1;
            return;
        }
        let mut beat = Message::default();
        beat.set_msg_type(MessageType::MsgHeartbeat);
        (beat.to, beat.from, beat.term) = (self.me, from, term);
        let _ = self.node.step(beat);
        let raft = &mut self.node.raft;
        if (raft.term, raft.leader_id, raft.state) != (term, from, StateRole::Follower) {
            return;
        }
        self.hint = None;
        self.followed = self.ticks;
        let raft = &mut self.node.raft;
        if index <= raft.raft_log.committed || raft.raft_log.match_term(index, log_term) {
            raft.raft_log.commit_to(index);
            self.acknowledge(from);
            return;
        }
        let fetch = Fetch { from, index, term: log_term };
        if self.fetching.is_none_or(|running| running.from != from) {
            self.fetching = Some(fetch);
            self.out.fetch = Some(fetch);
        }
    }

    fn snapshot_sent(&mut self, to: MemberId, ok: bool) {
        if self.leads() {
            let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.node.report_snapshot(to, status);
        }
    }

    fn fetch_failed(&mut self) {
        // A shell fetches one thing at a time: with what failed, whatever was asked for meanwhile
        // has not been begun either, and the one who offered it must offer again. A member that
        // leads by now forgets it as well: it will follow again, and be offered something.
        if let Some(fetch) = self.fetching.take() {
            let bytes = frame::failed(self.me, fetch.from, self.node.raft.term);
            self.out.send.push((fetch.from, bytes));
        }
    }

    fn propose(&mut self, ticket: u64, data: Bytes) {
        if !self.leads() {
            return self.refuse(ticket, Refusal::NotLeader { leader: self.leader() });
        }
        if data.is_empty() {
            return self.refuse(ticket, Refusal::Invalid);
        }
        self.log(ticket, Entry { data, ..Entry::default() });
    }

    /// Puts an entry into the leader's log.
    pub(super) fn log(&mut self, ticket: u64, entry: Entry) {
        if self.node.raft.lead_transferee.is_some() {
            return self.refuse(ticket, Refusal::Transferring);
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.me;
        message.set_entries(vec![entry].into());
        match self.node.raft.step(message) {
            Ok(()) => {
                let raft = &self.node.raft;
                self.out.placed.push((ticket, raft.raft_log.last_index(), raft.term));
            }
            Err(_) => self.refuse(ticket, Refusal::Busy),
        }
    }

    /// Where this member stands.
    pub fn standing(&self) -> Standing {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            _ if self.members.learners().contains(&self.me) => Role::Learner,
            _ if !self.members.voters().contains(&self.me) => Role::Outside,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let mut progress = BTreeMap::new();
        if self.leads() {
            for (id, peer) in raft.prs().iter().filter(|(id, _)| **id != self.me) {
                let seen = Progress {
                    matched: peer.matched,
                    active: self.active(*id),
                    snapshot: peer.state == raft::ProgressState::Snapshot,
                };
                progress.insert(*id, seen);
            }
        }
        Standing {
            me: self.me,
            term: raft.term,
            leader: self.leader(),
            role,
            ready: self.leads() && self.ready(),
            transferee: raft.lead_transferee,
            members: self.members.clone(),
            applied: raft.raft_log.applied,
            committed: raft.raft_log.committed,
            last: raft.raft_log.last_index(),
            progress,
            malformed: self.malformed,
            trouble: None,
        }
    }

    fn ready(&self) -> bool {
        let mutant = super::mutant(super::Mutant::ReadyTooEarly);
        let (term, first) = self.lead_from;
        let raft = &self.node.raft;
        (term == raft.term && raft.raft_log.applied >= first) || mutant
    }

    /// Whether ticks change anything: alone, nothing waits for time.
    pub fn needs_ticks(&self) -> bool {
        let others = self.members.all().any(|info| info.id != self.me);
        let known = self.leader().is_some_and(|leader| leader != self.me);
        others || known
    }
}
