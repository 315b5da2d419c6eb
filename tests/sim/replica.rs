//! A simulated server's shell: a member of the real brain on a disk that forgets what was not
//! synced. It does what outcomes say, in the order that the contract names.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use edge_core::consensus::{
    Change, Fetch, HardState, Index, Input, Install, LogEntry, Member, MemberId, Mutant, Outcome,
    Persist, Refusal, Standing, Start, Term, Tuning, mutant,
};

use super::chance::Chance;
use super::state::{Command, Event, Gone, State, Verdict};
use super::stored::{Kept, Late, Shell};

/// What survives.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) hard: HardState,
    pub(super) log: VecDeque<LogEntry>,
    /// The state of the last commit behind the log.
    pub(super) base: State,
    /// Written and not synced.
    pub(super) unsynced: VecDeque<Persist>,
    /// Instead of all of it, the files of the store's own shell.
    pub(super) kept: Option<Kept>,
}

impl Disk {
    fn write(&mut self, write: &Persist, entries: usize) {
        if entries == write.entries.len() {
            self.hard = write.hard.unwrap_or(self.hard);
        }
        if let Some(from) = write.truncate_from {
            self.log.retain(|entry| entry.index < from);
        }
        self.log.extend(write.entries[..entries].iter().cloned());
    }

    /// A power cut: some of what was not synced is there, in order, the last of it torn.
    fn crash(&mut self, chance: &mut Chance) {
        let writes = std::mem::take(&mut self.unsynced);
        let whole = if chance.permille(500) { 0 } else { chance.range(0, writes.len() as u64) };
        for (position, write) in writes.iter().enumerate() {
            match (position as u64).cmp(&whole) {
                std::cmp::Ordering::Less => self.write(write, write.entries.len()),
                std::cmp::Ordering::Equal if write.entries.len() > 1 && write.hard.is_none() => {
                    self.write(write, chance.range(0, write.entries.len() as u64 - 1) as usize);
                }
                _ => break,
            }
        }
    }

    /// The last durable entry.
    pub(super) fn last(&self) -> Index {
        self.log.back().map_or(self.base.applied.0, |entry| entry.index)
    }

    fn start(&self) -> Start {
        let mut applied = self.base.applied;
        let twice = self.log.iter().rev().find(|entry| entry.index + 1 == applied.0);
        if mutant(Mutant::AppliedTwice)
            && let Some(before) = twice
        {
            applied = (before.index, before.term);
        }
        let after = self.log.iter().filter(|entry| entry.index > applied.0);
        // What a conflict left behind is read as the log's last word.
        let mut entries: Vec<LogEntry> = Vec::new();
        for entry in after {
            if entries.last().is_some_and(|last| last.index >= entry.index) {
                continue;
            }
            entries.push(entry.clone());
        }
        Start { hard: self.hard, members: self.base.members.clone(), applied, entries }
    }
}

/// An answer to a client, a driver or a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Written(Index, Term, Verdict),
    Refused(Refusal),
    /// Leadership ended before the outcome was known.
    Unknown,
    /// A read may be served from the state now.
    Readable,
}

/// What another member may fetch.
#[derive(Clone)]
pub(super) enum Snapshot {
    Bare(State),
    Stored(Vec<u8>),
}

/// The shell around the member: ours, or the store's.
enum Engine {
    Bare(Box<Member>),
    Stored(Box<Shell>),
}

/// A running server.
pub(super) struct Replica {
    engine: Engine,
    /// Why it can't go on.
    pub(super) failed: Option<String>,
    /// What the store did although its term was over.
    pub(super) late: Vec<Late>,
    pub(super) disk: Disk,
    pub(super) state: State,
    pub(super) standing: Standing,
    placed: BTreeMap<Index, (Term, u64)>,
    reads: Vec<(u64, Index)>,
    applies: VecDeque<LogEntry>,
    pub(super) outbox: Vec<(MemberId, Bytes)>,
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) fetch: Option<Fetch>,
    /// Entries as they were applied, for the invariants.
    pub(super) applied: Vec<(LogEntry, Option<Verdict>, u64)>,
    me: MemberId,
    tuning: Tuning,
    seed: u64,
}

impl Replica {
    pub(super) fn open(
        me: MemberId,
        disk: Disk,
        tuning: Tuning,
        seed: u64,
    ) -> Result<Replica, String> {
        let engine = match &disk.kept {
            Some(kept) => Engine::Stored(Box::new(Shell::open(me, kept.clone(), tuning, seed)?)),
            None => {
                let member = Member::new(me, disk.start(), tuning, seed);
                Engine::Bare(Box::new(member.map_err(|error| error.to_string())?))
            }
        };
        let mut replica = Replica {
            engine,
            failed: None,
            late: Vec::new(),
            state: disk.base.clone(),
            disk,
            standing: Standing::default(),
            placed: BTreeMap::new(),
            reads: Vec::new(),
            applies: VecDeque::new(),
            outbox: Vec::new(),
            answers: Vec::new(),
            fetch: None,
            applied: Vec::new(),
            me,
            tuning,
            seed,
        };
        replica.settle();
        Ok(replica)
    }

    /// Loses its power, or only its process.
    pub(super) fn crash(self, chance: &mut Chance, killed: bool) -> Disk {
        let mut disk = self.disk;
        match self.engine {
            Engine::Bare(_) => disk.crash(chance),
            Engine::Stored(shell) => disk.kept = Some(shell.crash(chance, killed)),
        }
        disk
    }

    /// Whether the store's shell is around the member.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.engine, Engine::Stored(_))
    }

    pub(super) fn input(&mut self, input: Input) {
        self.step(input);
        self.settle();
    }

    /// Takes an input and looks at what comes of it when `settle` is called, or something else
    /// happens.
    pub(super) fn take(&mut self, input: Input) {
        if let Engine::Stored(shell) = &mut self.engine {
            shell.hurry(true);
        }
        self.step(input);
    }

    fn step(&mut self, input: Input) {
        match &mut self.engine {
            Engine::Bare(member) => member.step(input),
            Engine::Stored(shell) => shell.input(input),
        }
    }

    pub(super) fn propose(&mut self, ticket: u64, command: &Command) {
        match &mut self.engine {
            Engine::Bare(_) => self.step(Input::Propose { ticket, data: command.encode() }),
            Engine::Stored(shell) => shell.propose(ticket, command),
        }
        self.settle();
    }

    /// The events after a revision, as a watch gets them.
    pub(super) fn since(&self, revision: Index) -> Result<Vec<Event>, Gone> {
        match &self.engine {
            Engine::Bare(_) => self.state.since(revision),
            Engine::Stored(shell) => shell.since(revision),
        }
    }

    pub(super) fn change(&mut self, ticket: u64, change: Change) {
        self.input(Input::Change { ticket, change });
    }

    pub(super) fn settle(&mut self) {
        match &mut self.engine {
            Engine::Bare(member) => {
                let outcomes: Vec<_> = std::iter::from_fn(|| member.outcome()).collect();
                self.standing = member.standing();
                outcomes.into_iter().for_each(|outcome| self.absorb(outcome));
            }
            Engine::Stored(shell) => {
                shell.hurry(false);
                self.standing = shell.standing();
                self.outbox.extend(shell.outbox());
                self.fetch = shell.fetch().or(self.fetch);
                self.applied.extend(shell.follow(&mut self.state));
                self.answers.extend(shell.answers());
                self.late.append(&mut shell.late);
            }
        }
    }

    fn absorb(&mut self, out: Outcome) {
        self.outbox.extend(out.send);
        self.disk.unsynced.extend(out.persist);
        self.applies.extend(out.apply);
        for (ticket, index, term) in out.placed {
            if let Some((_, lost)) = self.placed.insert(index, (term, ticket)) {
                self.answers.push((lost, Answer::Unknown));
            }
        }
        for (ticket, why) in out.refused {
            self.answers.push((ticket, Answer::Refused(why)));
        }
        for (ticket, index) in out.reads {
            self.reads.push((ticket, index));
        }
        self.serve_reads();
        self.fetch = out.fetch.or(self.fetch);
    }

    fn serve_reads(&mut self) {
        let applied = self.state.applied.0;
        let (ready, wait): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads).into_iter().partition(|(_, index)| *index <= applied);
        self.reads = wait;
        self.answers.extend(ready.into_iter().map(|(ticket, _)| (ticket, Answer::Readable)));
    }

    /// Whether the writer has something to do.
    pub(super) fn is_busy(&self) -> bool {
        match &self.engine {
            Engine::Bare(_) => !self.disk.unsynced.is_empty() || !self.applies.is_empty(),
            Engine::Stored(shell) => shell.is_busy(),
        }
    }

    /// One round of the writer: a sync of everything written so far, then what was committed.
    pub(super) fn work(&mut self) {
        if let Engine::Stored(shell) = &mut self.engine {
            shell.work();
            return self.settle();
        }
        let applies = std::mem::take(&mut self.applies);
        let mut number = None;
        while let Some(write) = self.disk.unsynced.pop_front() {
            self.disk.write(&write, write.entries.len());
            number = Some(write.number);
        }
        if let Some(number) = number {
            self.step(Input::Persisted { number });
        }
        for entry in applies {
            let (verdict, members) = self.state.apply(&entry);
            let (index, term) = (entry.index, entry.term);
            if let Some((placed, ticket)) = self.placed.remove(&index) {
                let answer = match verdict {
                    _ if placed != term => Answer::Unknown,
                    Some(verdict) => Answer::Written(index, term, verdict),
                    None => Answer::Written(index, term, Verdict::Done),
                };
                self.answers.push((ticket, answer));
            }
            self.applied.push((entry, verdict, self.state.digest));
            self.step(Input::Applied { index, term, members });
        }
        self.settle();
        self.serve_reads();
    }

    /// Commits the state behind the log; the log keeps a few entries before it.
    pub(super) fn commit(&mut self) {
        if let Engine::Stored(shell) = &mut self.engine {
            shell.commit();
            shell.compact(self.state.applied.0.saturating_sub(20));
            return self.settle();
        }
        if self.disk.last() < self.state.applied.0 {
            return;
        }
        self.disk.base = self.state.without_history();
        let keep = self.state.applied.0.saturating_sub(3);
        while self.disk.log.front().is_some_and(|entry| entry.index < keep) {
            self.disk.log.pop_front();
        }
    }

    /// What another member may fetch.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        if let Engine::Stored(shell) = &self.engine {
            return shell.snapshot().map(Snapshot::Stored);
        }
        Some(Snapshot::Bare(self.state.without_history()))
    }

    /// A fetch came to an end.
    pub(super) fn fetched(&mut self, fetch: Fetch, snapshot: Option<Snapshot>) {
        let snapshot = match (&mut self.engine, snapshot) {
            (Engine::Stored(shell), snapshot) => {
                let bytes = match snapshot {
                    Some(Snapshot::Stored(bytes)) => Some(bytes),
                    _ => None,
                };
                shell.fetched(fetch, bytes);
                return self.settle();
            }
            (Engine::Bare(_), Some(Snapshot::Bare(state))) => Some(state),
            (Engine::Bare(_), _) => None,
        };
        let wanted = snapshot.filter(|snapshot| {
            let (index, term) = snapshot.applied;
            let own = self.disk_view();
            index >= fetch.index
                && self.state.applied.0 < index
                && edge_core::consensus::install(&own, index, term) == Install::Replace
        });
        let Some(snapshot) = wanted else {
            return self.input(Input::FetchFailed);
        };
        self.seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        // What is on its way to the disk is written first; then the snapshot takes its place.
        while let Some(write) = self.disk.unsynced.pop_front() {
            self.disk.write(&write, write.entries.len());
        }
        let hard = self.disk.hard;
        self.disk = Disk { hard, base: snapshot, ..Disk::default() };
        for (_, (_, ticket)) in std::mem::take(&mut self.placed) {
            self.answers.push((ticket, Answer::Unknown));
        }
        for (ticket, _) in std::mem::take(&mut self.reads) {
            self.answers.push((ticket, Answer::Unknown));
        }
        self.applies.clear();
        self.state = self.disk.base.clone();
        let start = self.disk.start();
        match Member::new(self.me, start, self.tuning, self.seed) {
            Ok(member) => self.engine = Engine::Bare(Box::new(member)),
            Err(error) => self.failed = Some(format!("installing a snapshot: {error}")),
        }
        self.settle();
    }

    /// The disk as a restart would find it once everything is synced.
    fn disk_view(&self) -> Start {
        let mut disk = self.disk.clone();
        for write in std::mem::take(&mut disk.unsynced) {
            disk.write(&write, write.entries.len());
        }
        disk.start()
    }
}
