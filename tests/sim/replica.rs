//! A simulated server's shell: a member of the real brain on a disk that forgets what was not
//! synced. It does what outcomes say, in the order that the contract names.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use edge_core::consensus::{
    Change, Fetch, HardState, Index, Input, Install, LogEntry, Member, MemberId, Mutant, Outcome,
    Persist, Refusal, Standing, Start, Term, Tuning, mutant,
};

use super::chance::Chance;
use super::state::{Command, State, Verdict};

/// What survives.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard: HardState,
    pub(super) log: VecDeque<LogEntry>,
    /// The state of the last commit behind the log.
    pub(super) base: State,
    /// Written and not synced.
    pub(super) unsynced: VecDeque<Persist>,
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
    pub(super) fn crash(&mut self, chance: &mut Chance) {
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

/// A running server.
pub(super) struct Replica {
    pub(super) member: Member,
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
        let start = disk.start();
        let member = Member::new(me, start, tuning, seed).map_err(|error| error.to_string())?;
        let standing = member.standing();
        let mut replica = Replica {
            member,
            state: disk.base.clone(),
            disk,
            standing,
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

    pub(super) fn input(&mut self, input: Input) {
        self.member.step(input);
        self.settle();
    }

    pub(super) fn propose(&mut self, ticket: u64, command: &Command) {
        self.input(Input::Propose { ticket, data: command.encode() });
    }

    pub(super) fn change(&mut self, ticket: u64, change: Change) {
        self.input(Input::Change { ticket, change });
    }

    fn settle(&mut self) {
        while let Some(outcome) = self.member.outcome() {
            self.absorb(outcome);
        }
        self.standing = self.member.standing();
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
        !self.disk.unsynced.is_empty() || !self.applies.is_empty()
    }

    /// One round of the writer: a sync of everything written so far, then what was committed.
    pub(super) fn work(&mut self) {
        let applies = std::mem::take(&mut self.applies);
        let mut number = None;
        while let Some(write) = self.disk.unsynced.pop_front() {
            self.disk.write(&write, write.entries.len());
            number = Some(write.number);
        }
        if let Some(number) = number {
            self.member.step(Input::Persisted { number });
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
            self.member.step(Input::Applied { index, term, members });
        }
        self.settle();
        self.serve_reads();
    }

    /// Commits the state behind the log; the log keeps a few entries before it.
    pub(super) fn commit(&mut self) {
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
    pub(super) fn snapshot(&self) -> State {
        let mut snapshot = self.state.without_history();
        if mutant(Mutant::SnapshotWithoutTail) {
            snapshot.keys = self.disk.base.keys.clone();
        }
        snapshot
    }

    /// A fetch came to an end.
    pub(super) fn fetched(&mut self, fetch: Fetch, snapshot: Option<State>) {
        let wanted = snapshot.filter(|snapshot| {
            let (index, term) = snapshot.applied;
            let own = self.disk_view();
            index >= fetch.index
                && self.state.applied.0 < index
                && edge_core::consensus::install(&own, index, term) == Install::Replace
        });
        let Some(snapshot) = wanted else {
            return self.input(Input::SnapshotSent { to: fetch.from, ok: false });
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
            Ok(member) => self.member = member,
            Err(error) => panic!("installing a snapshot: {error}"),
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
