//! The half of a member that decides: it steps the consensus, keeps who waits for what, and says
//! what is to be written, sent and applied. It never waits, knows no clock but its ticks and runs
//! on any thread, so that the simulator runs the very same.

mod life;
mod proposals;
mod reads;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::consensus::{
    Fetch, Index, Input, Member, MemberId, Outcome, Role, Standing, Start, StartError, Term, Tuning,
};
use tokio::sync::oneshot;

use self::reads::Reads;
use self::room::Want;
use crate::error::ChangeError;
use crate::event::{ChangeAnswer, Committed, Event, Origin, Proposal, Status, Work};
use crate::limits::BACKLOG_BYTES_MAX;

/// What a mind wants done. All of it was decided at once; the order of the work counts.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) work: Vec<Work>,
    pub(crate) send: Vec<(MemberId, Bytes)>,
    pub(crate) fetch: Option<Fetch>,
    /// Where the member stands, if that changed.
    pub(crate) standing: Option<Arc<Standing>>,
    /// Who is to be told, after that, that another member leads.
    pub(crate) handed_over: Vec<ChangeAnswer>,
}

/// How a mind begins.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) me: MemberId,
    pub(crate) tuning: Tuning,
    pub(crate) seed: u64,
    /// Room in the log that proposals leave to elections.
    pub(crate) slack: u64,
    pub(crate) status: Status,
    /// For messages to people.
    pub(crate) dir: PathBuf,
}

/// Why there is no member at the moment.
enum Absence {
    /// A snapshot takes the state's place.
    Installing,
    /// The log has no room; this is what to begin with when it has.
    Starved { detail: String, start: Box<Start> },
}

/// See the module's page.
pub(crate) struct Mind {
    begin: Begin,
    member: Option<Member>,
    absence: Option<Absence>,
    /// Members made so far: each has a seed of its own.
    births: u64,
    standing: Arc<Standing>,
    ticks: u64,
    ticket: u64,
    /// Proposals that were not given to the member yet.
    queue: VecDeque<Proposal>,
    /// What was given to it, by ticket.
    asked: BTreeMap<u64, Origin>,
    /// What has a place in the log and is not known to be committed.
    placed: BTreeMap<Index, (Term, Origin)>,
    /// Since when what is placed has no leader of ours.
    orphaned: Option<u64>,
    /// Writes of entries that are on their way to the disk: number and bytes.
    writing: BTreeMap<u64, usize>,
    /// Entries that are on their way to the state: last index and bytes.
    applying: BTreeMap<Index, usize>,
    /// What the state has applied.
    applied: Index,
    status: Status,
    asked_room: bool,
    want: Want,
    reads: Reads,
    fetching: bool,
    /// When it may be said again that a fetch failed.
    fetch_told: u64,
    transfer: Option<(u64, ChangeAnswer)>,
    /// Why nothing may be written any more, and until when the member may hand over.
    broken: Option<(String, u64)>,
    /// Who waits for the end, and until when the others have time.
    closing: Option<(Vec<oneshot::Sender<()>>, u64)>,
    shutting: bool,
    closed: bool,
    effects: Effects,
}

impl Mind {
    /// Begins with what the disk holds.
    pub(crate) fn new(begin: Begin, start: Start) -> Result<Mind, StartError> {
        let applied = start.applied.0;
        let member = Member::new(begin.me, start, begin.tuning, begin.seed)?;
        let standing = Arc::new(member.standing());
        let status = begin.status.clone();
        Ok(Mind {
            begin,
            member: Some(member),
            absence: None,
            births: 1,
            standing,
            ticks: 0,
            ticket: 0,
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            placed: BTreeMap::new(),
            orphaned: None,
            writing: BTreeMap::new(),
            applying: BTreeMap::new(),
            applied,
            status,
            asked_room: false,
            want: Want::default(),
            reads: Reads::default(),
            fetching: false,
            fetch_told: 0,
            transfer: None,
            broken: None,
            closing: None,
            shutting: false,
            closed: false,
            effects: Effects::default(),
        })
    }

    /// Where the member stands.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Whether anything waits for time.
    pub(crate) fn needs_ticks(&self) -> bool {
        let lone = self.is_lone();
        let ticking = self.member.as_ref().is_some_and(Member::needs_ticks);
        let waiting = self.absence.is_some() || self.broken.is_some() || self.closing.is_some();
        // Nobody proposes anything to a member that is not there, so nobody else asks for room.
        let starved = matches!(self.absence, Some(Absence::Starved { .. }));
        !self.closed && (ticking || starved || (waiting && !lone))
    }

    /// Whether the writer has let go of everything.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether this is the cluster's only member and leads: what it has applied is all there is.
    pub(crate) fn is_alone(&self) -> bool {
        let changing = |origin: &Origin| matches!(origin, Origin::Change(_));
        self.is_lone()
            && self.standing.ready
            && self.standing.members.learners().is_empty()
            && !self.asked.values().any(changing)
            && !self.placed.values().any(|(_, origin)| changing(origin))
    }

    fn is_lone(&self) -> bool {
        let voters = self.standing.members.voters();
        voters.len() == 1 && voters.contains(&self.begin.me)
    }

    fn leads(&self) -> bool {
        self.standing.role == Role::Leader
    }

    fn input(&mut self, input: Input) {
        if let Some(member) = &mut self.member {
            member.step(input);
        }
    }

    fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// Takes one event. `settle` says what is to be done then.
    pub(crate) fn step(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Propose(proposal) => self.queue.push_back(proposal),
            Event::Message { from, bytes } => {
                // Whoever sent it will send it again when there is room.
                if self.backlog() < BACKLOG_BYTES_MAX {
                    self.input(Input::Message { from, bytes });
                }
            }
            Event::Barrier(answer) => self.reads.add(answer, self.ticks),
            Event::Change { change, answer } => match &self.broken {
                Some((detail, _)) => refuse(answer, ChangeError::Broken { detail: detail.clone() }),
                None if self.member.is_none() => refuse(answer, ChangeError::Unknown),
                None => {
                    let ticket = self.next_ticket();
                    self.asked.insert(ticket, Origin::Change(answer));
                    self.input(Input::Change { ticket, change });
                }
            },
            Event::Transfer { to, answer } => self.hand_over(to, answer),
            Event::Gone(member) => self.input(Input::Gone { member }),
            Event::Unreachable(member) => self.input(Input::Unreachable { member }),
            Event::SnapshotSent { to, ok } => self.input(Input::SnapshotSent { to, ok }),
            Event::Fetched(built) => self.fetched(built),
            Event::Done(done, status) => {
                self.status = status;
                self.done(done);
                self.feel_room();
            }
            Event::Close(answer) => match &mut self.closing {
                Some((answers, _)) => answers.push(answer),
                None => self.closing = Some((vec![answer], self.ticks + self.patience())),
            },
        }
    }

    /// What is to be done after the events so far.
    pub(crate) fn settle(&mut self) -> Effects {
        loop {
            while let Some(outcome) = self.member.as_mut().and_then(Member::outcome) {
                self.take(outcome);
            }
            self.look();
            let asked = self.ask_proposals();
            if !self.ask_reads() && !asked {
                break;
            }
        }
        self.close_if_done();
        std::mem::take(&mut self.effects)
    }

    fn take(&mut self, outcome: Outcome) {
        let Outcome { persist, send, apply, placed, refused, reads, fetch } = outcome;
        self.effects.send.extend(send);
        for (ticket, index, term) in placed {
            if let Some(origin) = self.asked.remove(&ticket)
                && let Some((_, lost)) = self.placed.insert(index, (term, origin))
            {
                self.never(lost);
            }
        }
        for (ticket, refusal) in refused {
            match self.asked.remove(&ticket) {
                Some(origin) => self.refused(origin, refusal),
                None => self.reads.refused(ticket, self.ticks),
            }
        }
        for (ticket, index) in reads {
            self.reads.granted(ticket, index, self.applied);
        }
        if self.broken.is_some() {
            return;
        }
        if let Some(persist) = persist {
            let bytes: usize = persist.entries.iter().map(|entry| entry.data.len() + 64).sum();
            if bytes > 0 {
                self.writing.insert(persist.number, bytes);
            }
            self.effects.work.push(Work::Persist(persist));
        }
        if let Some(last) = apply.last() {
            let bytes = apply.iter().map(|entry| entry.data.len()).sum();
            self.applying.insert(last.index, bytes);
            let committed = apply.into_iter().map(|entry| self.committed(entry)).collect();
            self.effects.work.push(Work::Apply(committed));
        }
        if let Some(fetch) = fetch
            && !self.fetching
        {
            self.fetching = true;
            self.effects.fetch = Some(fetch);
        }
    }

    /// Joins a committed entry with whoever asked for it.
    fn committed(&mut self, entry: edge_core::consensus::LogEntry) -> Committed {
        let origin = match self.placed.remove(&entry.index) {
            Some((term, origin)) if term == entry.term => Some(origin),
            Some((_, origin)) => {
                self.never(origin);
                None
            }
            None => None,
        };
        Committed { entry, origin }
    }

    /// Ticks after which an election should have been decided.
    fn patience(&self) -> u64 {
        self.begin.tuning.election_ticks as u64
    }

    /// Bytes that are on their way to disk and state.
    fn backlog(&self) -> usize {
        self.writing.values().sum::<usize>() + self.applying.values().sum::<usize>()
    }

    /// Sees where the member stands now.
    fn look(&mut self) {
        let mut standing = match &self.member {
            Some(member) => member.standing(),
            None => Standing {
                leader: None,
                role: Role::Follower,
                ready: false,
                transferee: None,
                progress: BTreeMap::new(),
                ..Standing::clone(&self.standing)
            },
        };
        standing.trouble = self.trouble();
        if standing == *self.standing {
            return;
        }
        if standing.leader != self.standing.leader || standing.ready != self.standing.ready {
            self.reads.ask_now();
        }
        self.standing = Arc::new(standing);
        self.effects.standing = Some(self.standing.clone());
        if self.leads() {
            self.orphaned = None;
        } else if !self.placed.is_empty() {
            self.orphaned.get_or_insert(self.ticks);
            if !self.needs_ticks() {
                self.give_up_placed();
            }
        }
        if !self.leads()
            && let Some((_, answer)) = self.transfer.take()
        {
            self.effects.handed_over.push(answer);
        }
    }
}

fn refuse(answer: ChangeAnswer, error: ChangeError) {
    // Whoever waits may have stopped waiting.
    let _ = answer.send(Err(error));
}
