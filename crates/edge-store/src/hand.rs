//! What the writer does, one step at a time and without a thread or a clock: the writer's thread
//! and the simulator run the same.
//!
//! Committed entries come first, for somebody waits for them; then everything that is to be
//! written goes into one batch, one write and one sync; then the rest, in its order.

use std::collections::VecDeque;

use edge_core::consensus::{EntryKind, Install, Persist, install};

use crate::error::{ChangeError, ProposeError, StateError};
use crate::event::{Committed, Done, Origin, Status, Work};
use crate::install::{Built, InstallError};
use crate::limits::OVERLAY_BYTES_STALL;
use crate::log::AppendError;
use crate::machine::Applying;
use crate::replica::{Commit, Replica};

/// The writer without its thread.
pub(crate) struct Hand {
    pub(crate) replica: Replica,
    work: VecDeque<Work>,
    /// What was done, and is to be told to the mind.
    done: VecDeque<(Done, Status)>,
    committing: bool,
    /// Why the last commit failed for want of room.
    pub(crate) failed: Option<StateError>,
    /// A commit now would let go of what fills the disk.
    pub(crate) hurry: bool,
    /// The log took nothing of a write: what comes from the member that made it is void.
    refusing: bool,
    /// Why nothing is written any more.
    broken: Option<String>,
    /// An entry could not be applied: none behind it may be.
    stuck: bool,
    closing: bool,
}

impl Hand {
    pub(crate) fn new(replica: Replica) -> Hand {
        Hand {
            replica,
            work: VecDeque::new(),
            done: VecDeque::new(),
            committing: false,
            failed: None,
            hurry: false,
            refusing: false,
            broken: None,
            stuck: false,
            closing: false,
        }
    }

    /// How the files stand.
    pub(crate) fn status(&self) -> Status {
        Status {
            room: self.replica.log.room(),
            overlay: self.replica.overlay_bytes(),
            failed: self.failed.as_ref().map(ToString::to_string),
        }
    }

    fn tell(&mut self, done: Done) {
        let status = self.status();
        self.done.push_back((done, status));
    }

    /// What the mind does not know yet.
    pub(crate) fn done(&mut self) -> Option<(Done, Status)> {
        self.done.pop_front()
    }

    /// Takes work.
    pub(crate) fn take(&mut self, work: impl IntoIterator<Item = Work>) {
        self.work.extend(work);
    }

    /// Whether there is anything to do that need not wait for a commit.
    pub(crate) fn is_idle(&self) -> bool {
        let mut ready = self.work.iter().take_while(|work| !is_barrier(work)).peekable();
        match ready.peek() {
            None => self.work.is_empty(),
            Some(_) => self.stalls() && ready.all(|work| matches!(work, Work::Apply(_))),
        }
    }

    /// Whether what waits, waits for a commit.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.work.is_empty() && self.is_idle()
    }

    /// Whether it was told to close and has done everything.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing && !self.committing
    }

    /// Whether a commit may begin.
    pub(crate) fn can_commit(&self) -> bool {
        !self.committing && self.broken.is_none() && !self.closing
    }

    /// Whether applying has to wait for a commit.
    fn stalls(&self) -> bool {
        (self.committing || self.failed.is_some())
            && self.replica.overlay_bytes() >= OVERLAY_BYTES_STALL
    }

    /// Does the next thing; answers whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        if let Some(at) = self.work.iter().position(|work| matches!(work, Work::Committed(..)))
            && let Some(Work::Committed(store, result)) = self.work.remove(at)
        {
            self.committed(store, result);
            return true;
        }
        let before = self.work.iter().position(is_barrier).unwrap_or(self.work.len());
        let apply = |work: &Work| matches!(work, Work::Apply(_));
        if let Some(at) = self.work.iter().take(before).position(apply) {
            if !self.stalls() {
                if let Some(Work::Apply(entries)) = self.work.remove(at) {
                    self.apply(entries);
                }
                return true;
            }
            if before < self.work.len() && self.work.iter().take(before).all(apply) {
                return false;
            }
        }
        let mut writes = Vec::new();
        let mut rest = VecDeque::with_capacity(self.work.len());
        for (at, work) in std::mem::take(&mut self.work).into_iter().enumerate() {
            match work {
                Work::Persist(persist) if at < before => writes.push(persist),
                other => rest.push_back(other),
            }
        }
        self.work = rest;
        if !writes.is_empty() {
            self.write(&writes);
            return true;
        }
        match self.work.iter().position(|work| !apply(work)).and_then(|at| self.work.remove(at)) {
            Some(Work::Room(bytes)) => self.make_room(bytes),
            Some(Work::Commit) => self.hurry |= self.failed.is_none(),
            Some(Work::Install(built)) => self.install(*built),
            Some(Work::Discard(built)) => built.discard(),
            Some(Work::Close) => self.closing = true,
            _ => return false,
        }
        true
    }

    fn write(&mut self, writes: &[Persist]) {
        let Some(number) = writes.last().map(|write| write.number) else { return };
        if self.broken.is_some() || self.refusing {
            return;
        }
        match self.replica.persist(writes) {
            Ok(()) => self.tell(Done::Persisted(number)),
            Err(AppendError::Full(error)) => self.full(&error, false),
            Err(AppendError::Refused(error)) => self.full(&error, true),
            Err(AppendError::Failed(detail)) => self.poison(detail),
        }
    }

    /// The log took nothing; perhaps because room that was granted is not there.
    fn full(&mut self, error: &std::io::Error, refused: bool) {
        let detail = format!("making room for the log: {error}");
        self.refusing = true;
        self.hurry |= self.replica.log.has_old_segments();
        match self.replica.again() {
            Ok(start) => {
                if refused {
                    self.replica.log.leave_segment();
                }
                self.tell(Done::Full { detail, start: Box::new(start) });
            }
            Err(error) => self.poison(error.to_string()),
        }
    }

    fn make_room(&mut self, bytes: u64) {
        if self.broken.is_some() {
            return;
        }
        match self.replica.log.make_room(bytes) {
            Ok(()) => {
                self.refusing = false;
                self.tell(Done::Roomy);
            }
            Err(AppendError::Full(error) | AppendError::Refused(error)) => {
                self.hurry |= self.replica.log.has_old_segments();
                self.tell(Done::NoRoom { detail: format!("making room for the log: {error}") });
            }
            Err(AppendError::Failed(detail)) => self.poison(detail),
        }
    }

    /// Applies committed entries, wakes the watchers, answers.
    fn apply(&mut self, entries: Vec<Committed>) {
        let head = self.replica.head();
        let mut answers = Vec::new();
        let (mut last, mut members) = (None, false);
        for Committed { entry, origin } in entries {
            // A member that began anew gives again what was on its way.
            if entry.index <= head.index || self.stuck {
                continue;
            }
            let (command, waiter) = match origin {
                Some(Origin::Proposal(mut proposal)) => {
                    let command = std::mem::take(&mut proposal.command);
                    (Some(command), Some(Origin::Proposal(proposal)))
                }
                other => (None, other),
            };
            members |= entry.kind == EntryKind::Members;
            match self.replica.apply(&entry, command) {
                Ok(result) => answers.extend(waiter.map(|waiter| (waiter, result))),
                Err(error) => {
                    self.stuck = true;
                    self.poison(format!("applying entry {}: {error}", entry.index));
                    let detail = self.broken.clone().unwrap_or_default();
                    let broken = Err(ProposeError::Broken { detail });
                    answers.extend(waiter.map(|waiter| (waiter, broken)));
                    break;
                }
            }
            last = Some((entry.index, entry.term));
        }
        self.replica.shared.wake();
        for (waiter, result) in answers {
            answer(waiter, result);
        }
        if let Some((index, term)) = last {
            let members = members.then(|| self.replica.head().members);
            self.tell(Done::Applied { index, term, members });
        }
    }

    fn install(&mut self, built: Built) {
        if let Some(detail) = self.broken.clone() {
            return self.tell(Done::Broken { detail });
        }
        match self.replica.again() {
            Ok(own) if install(&own, built.head.index, built.head.term) == Install::NotNeeded => {
                built.discard();
                return self.tell(Done::NotInstalled { detail: None, start: Box::new(own) });
            }
            Ok(_) => {}
            Err(error) => return self.poison(error.to_string()),
        }
        match self.replica.install(built) {
            Ok(start) => {
                self.failed = None;
                self.tell(Done::Installed(Box::new(start)));
            }
            Err(InstallError::Kept(error)) => match self.replica.again() {
                Ok(start) => {
                    let detail = Some(error.to_string());
                    self.tell(Done::NotInstalled { detail, start: Box::new(start) });
                }
                Err(error) => self.poison(error.to_string()),
            },
            Err(InstallError::Unknown(error)) => self.poison(error.to_string()),
        }
    }

    /// Begins a commit of what was applied; it ends with `Work::Committed`.
    pub(crate) fn commit(&mut self) -> (u64, Commit) {
        self.committing = true;
        self.hurry = false;
        (self.replica.store, self.replica.freeze())
    }

    fn committed(&mut self, store: u64, result: Result<(), StateError>) {
        self.committing = false;
        match result {
            // A snapshot took this state's place meanwhile.
            _ if store != self.replica.store => {}
            Ok(()) => {
                self.failed = None;
                self.replica.thaw();
            }
            Err(error) if error.full => {
                if self.failed.is_none() {
                    tracing::warn!("store: {error}; the log goes on");
                }
                self.failed = Some(error);
            }
            Err(error) => return self.poison(error.to_string()),
        }
        self.tell(Done::Nothing);
    }

    fn poison(&mut self, detail: String) {
        if self.broken.is_none() {
            tracing::error!("store: {detail}; no more writes are taken");
            self.broken = Some(detail.clone());
        }
        self.tell(Done::Broken { detail });
    }
}

/// A snapshot or the end must not overtake anything, nor be overtaken.
fn is_barrier(work: &Work) -> bool {
    matches!(work, Work::Install(_) | Work::Close)
}

/// Says what came of an entry.
fn answer(waiter: Origin, result: Applying) {
    match waiter {
        Origin::Proposal(proposal) => proposal.answer(result),
        Origin::Change(answer) => {
            let result = result.map(|_| ()).map_err(|_| ChangeError::Unknown);
            // Whoever waits may have stopped waiting.
            let _ = answer.send(result);
        }
    }
}

#[cfg(test)]
mod tests;
