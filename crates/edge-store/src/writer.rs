//! The one thread that writes. Whatever waits becomes one batch: one write, one sync, then each
//! command is applied, then each caller is answered. The state is committed beside it, by a
//! thread that lives as long as the commit.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::command::{Applied, Command};
use crate::env::Env;
use crate::error::{ProposeError, StateError};
use crate::limits::{
    BATCH_BYTES_MAX, COMMIT_RETRY_AFTER, IDLE_COMMIT_AFTER, IDLE_COMMIT_BYTES, OVERLAY_BYTES_HARD,
    OVERLAY_BYTES_SOFT, PROPOSALS_MAX,
};
use crate::log::{AppendError, Log};
use crate::machine::Verdict;
use crate::store::Shared;

/// Entries carry the term of the leader that made them; a lone member has one.
const LONE_TERM: u64 = 1;

/// What the writer is told.
pub(crate) enum Message {
    /// Make this command durable and apply it.
    Propose(Proposal),
    /// A commit ended.
    Committed(Result<u64, StateError>),
    /// End, and say so.
    Close(oneshot::Sender<()>),
}

/// A command and who waits for it.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Applied, ProposeError>>,
    /// Its place in the channel, and its bytes.
    pub(crate) _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// The writer's own.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    env: Arc<Env>,
    log: Log,
    sender: SyncSender<Message>,
    waiting: VecDeque<Proposal>,
    /// The index that the running or failed commit leads to.
    frozen_at: u64,
    committing: bool,
    /// Why the last commit failed, and when.
    failed: Option<(StateError, Instant)>,
    broken: Option<ProposeError>,
    closing: Option<oneshot::Sender<()>>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        env: Arc<Env>,
        log: Log,
        sender: SyncSender<Message>,
    ) -> Writer {
        Writer {
            shared,
            env,
            log,
            sender,
            waiting: VecDeque::new(),
            frozen_at: 0,
            committing: false,
            failed: None,
            broken: None,
            closing: None,
        }
    }

    /// Works until it is told to close.
    pub(crate) fn run(mut self, receiver: &Receiver<Message>) {
        while self.step(receiver).is_continue() {}
        let Writer { shared, env, log, closing, .. } = self;
        shared.shut();
        drop((env, log, shared));
        if let Some(done) = closing {
            // Whoever closed may have stopped waiting.
            let _ = done.send(());
        }
    }

    fn step(&mut self, receiver: &Receiver<Message>) -> ControlFlow<()> {
        let idle = self.receive(receiver);
        if self.has_room() {
            let batch = self.take_batch();
            self.write(batch);
        }
        self.commit_if_due(idle);
        let done = self.closing.is_some() && self.waiting.is_empty() && !self.committing;
        if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Takes what was sent; blocks if there is nothing to do. Answers whether the store is idle.
    fn receive(&mut self, receiver: &Receiver<Message>) -> bool {
        if self.waiting.is_empty() || !self.has_room() {
            let bytes = self.shared.read().machine.overlay.bytes();
            let due = !self.committing && self.broken.is_none() && bytes >= IDLE_COMMIT_BYTES;
            let first = if due {
                receiver.recv_timeout(IDLE_COMMIT_AFTER)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match first {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    debug_assert!(false, "the writer holds a sender itself");
                }
            }
        }
        while self.waiting.len() < PROPOSALS_MAX {
            match receiver.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
        false
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Propose(proposal) => self.waiting.push_back(proposal),
            Message::Committed(result) => self.committed(result),
            Message::Close(done) => {
                // A second closer waits for the channel to end.
                self.closing.get_or_insert(done);
            }
        }
    }

    fn overlay_bytes(&self) -> usize {
        self.shared.read().machine.overlay.bytes()
    }

    /// Whether what waits can be decided now: always, except while a commit may make room.
    fn has_room(&self) -> bool {
        self.broken.is_some() || !self.committing || self.overlay_bytes() < OVERLAY_BYTES_HARD
    }

    fn take_batch(&mut self) -> Vec<Proposal> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX {
            let Some(proposal) = self.waiting.pop_front() else { break };
            bytes += proposal.command.weight();
            batch.push(proposal);
        }
        batch
    }

    fn write(&mut self, batch: Vec<Proposal>) {
        if batch.is_empty() {
            return;
        }
        if let Some(error) = self.refusal() {
            return refuse(batch, &error);
        }
        let admitted = match self.admit(batch) {
            Ok(admitted) if admitted.is_empty() => return,
            Ok(admitted) => admitted,
            Err((batch, error)) => {
                self.poison(format!("judging a command: {error}"));
                return self.refuse_broken(batch);
            }
        };
        let commands: Vec<&Command> = admitted.iter().map(|(each, _)| &each.command).collect();
        match self.log.append(LONE_TERM, &commands) {
            Ok(first) => self.apply(first, admitted),
            Err(AppendError::Full(error)) => {
                let detail = format!("making room for the log: {error}");
                let full = ProposeError::Full { path: self.shared.dir.clone(), detail };
                refuse(admitted.into_iter().map(|(each, _)| each).collect(), &full);
                if self.log.has_old_segments() {
                    self.commit();
                }
            }
            Err(AppendError::Failed(detail)) => {
                self.poison(detail);
                self.refuse_broken(admitted.into_iter().map(|(each, _)| each).collect());
            }
        }
    }

    /// Why nothing can be written now.
    fn refusal(&self) -> Option<ProposeError> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        match &self.failed {
            Some((error, _)) if self.overlay_bytes() >= OVERLAY_BYTES_HARD => {
                let (path, detail) = (self.shared.dir.clone(), error.to_string());
                Some(ProposeError::Full { path, detail })
            }
            _ => None,
        }
    }

    /// Answers what certainly conflicts, which spares the log an entry, and judges the rest as far
    /// as that is possible before the batch is applied.
    #[allow(clippy::type_complexity)]
    fn admit(
        &self,
        batch: Vec<Proposal>,
    ) -> Result<Vec<(Proposal, Option<Verdict>)>, (Vec<Proposal>, StateError)> {
        let state = self.shared.read();
        let mut touched = BTreeSet::new();
        let mut admitted = Vec::with_capacity(batch.len());
        let mut rest = batch.into_iter();
        while let Some(proposal) = rest.next() {
            let mut keys = proposal.command.ops.iter().map(|op| op.parts().key);
            let verdict = if keys.any(|key| touched.contains(key)) {
                None
            } else {
                match state.machine.judge(&self.env, &proposal.command) {
                    Ok(verdict) => Some(verdict),
                    Err(error) => {
                        let before = admitted.into_iter().map(|(each, _)| each);
                        return Err((before.chain([proposal]).chain(rest).collect(), error));
                    }
                }
            };
            if let Some(Verdict::Conflict { key, found }) = verdict {
                answer(proposal, Err(ProposeError::Conflict { key, found }));
                continue;
            }
            touched.extend(proposal.command.ops.iter().map(|op| op.parts().key.to_owned()));
            admitted.push((proposal, verdict));
        }
        Ok(admitted)
    }

    /// The batch is durable: applies it, wakes the watchers, answers.
    fn apply(&mut self, first: u64, batch: Vec<(Proposal, Option<Verdict>)>) {
        let mut answers = Vec::with_capacity(batch.len());
        for (index, (proposal, verdict)) in (first..).zip(batch) {
            let verdict = match verdict {
                Some(verdict) if self.broken.is_none() => Ok(verdict),
                _ => self.shared.read().machine.judge(&self.env, &proposal.command),
            };
            let result = match (verdict, &self.broken) {
                (_, Some(broken)) => Err(broken.clone()),
                (Err(error), None) => {
                    self.poison(format!("applying entry {index}: {error}"));
                    Err(self.broken.clone().unwrap_or(ProposeError::Closed))
                }
                (Ok(verdict), None) => {
                    self.shared.write().machine.apply(index, &proposal.command, &verdict);
                    match verdict {
                        Verdict::Holds(_) => Ok(Applied { revision: index }),
                        Verdict::Conflict { key, found } => {
                            Err(ProposeError::Conflict { key, found })
                        }
                    }
                }
            };
            answers.push((proposal, result));
        }
        self.shared.signal.send_modify(|_| ());
        for (proposal, result) in answers {
            answer(proposal, result);
        }
    }

    fn commit_if_due(&mut self, idle: bool) {
        let waited = match &self.failed {
            Some((_, at)) => at.elapsed() >= COMMIT_RETRY_AFTER,
            None => false,
        };
        let large = self.failed.is_none() && self.overlay_bytes() >= OVERLAY_BYTES_SOFT;
        if large || waited || (idle && self.failed.is_none()) {
            self.commit();
        }
    }

    /// Begins to commit the overlay, unless that is going on.
    fn commit(&mut self) {
        if self.committing || self.broken.is_some() {
            return;
        }
        let changes = {
            let machine = &mut self.shared.write().machine;
            if !machine.overlay.is_frozen() {
                self.frozen_at = machine.applied;
            }
            machine.overlay.freeze()
        };
        let (env, sender, index) = (self.env.clone(), self.sender.clone(), self.frozen_at);
        let work = move || {
            let result = env.commit(&changes, index).map(|()| index);
            drop((changes, env));
            // The writer waits for this message before it ends.
            let _ = sender.send(Message::Committed(result));
        };
        match std::thread::Builder::new().name("store-commit".to_owned()).spawn(work) {
            Ok(_) => self.committing = true,
            Err(error) => {
                let path = self.shared.dir.clone();
                let (operation, detail) = ("starting a commit of", error.to_string());
                let error = StateError { operation, path, full: true, detail };
                self.failed = Some((error, Instant::now()));
            }
        }
    }

    fn committed(&mut self, result: Result<u64, StateError>) {
        self.committing = false;
        match result {
            Ok(index) => {
                self.failed = None;
                {
                    let mut state = self.shared.write();
                    state.machine.overlay.thaw();
                    state.commits += 1;
                }
                if let Err(error) = self.log.forget(index) {
                    tracing::warn!("store: removing a log segment that is not needed: {error}");
                }
            }
            Err(error) if error.full => {
                if self.failed.is_none() {
                    tracing::warn!("store: {error}; the log goes on");
                }
                self.failed = Some((error, Instant::now()));
            }
            Err(error) => self.poison(error.to_string()),
        }
    }

    fn poison(&mut self, detail: String) {
        tracing::error!("store: {detail}; no more writes are taken");
        self.broken.get_or_insert(ProposeError::Broken { detail });
    }

    fn refuse_broken(&self, batch: Vec<Proposal>) {
        if let Some(error) = &self.broken {
            refuse(batch, error);
        }
    }
}

fn refuse(batch: Vec<Proposal>, error: &ProposeError) {
    for proposal in batch {
        answer(proposal, Err(error.clone()));
    }
}

fn answer(proposal: Proposal, result: Result<Applied, ProposeError>) {
    // A caller may have stopped waiting.
    let _ = proposal.answer.send(result);
}
