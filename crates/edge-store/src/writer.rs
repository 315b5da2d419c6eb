//! The thread that writes: it steps the hand for whatever the mind says, and has the state
//! committed beside it, by a thread that lives as long as the commit.

use std::sync::Arc;
use std::time::Instant;

use crate::brain::Engine;
use crate::error::StateError;
use crate::event::{Done, Work};
use crate::hand::Hand;
use crate::limits::{COMMIT_RETRY_AFTER, IDLE_COMMIT_AFTER, IDLE_COMMIT_BYTES, OVERLAY_BYTES_SOFT};

/// The writer's own.
pub(crate) struct Writer {
    engine: Arc<Engine>,
    hand: Hand,
    /// When the last commit failed.
    failed_at: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(engine: Arc<Engine>, hand: Hand) -> Writer {
        Writer { engine, hand, failed_at: None }
    }

    /// Works until it is told to close.
    pub(crate) fn run(mut self) {
        while !self.hand.is_closed() {
            let idle = self.receive();
            self.work();
            self.commit_if_due(idle);
        }
        let Writer { engine, hand, .. } = self;
        let status = hand.status();
        hand.replica.shared.shut();
        drop(hand);
        engine.done(Done::Closed, status);
    }

    /// Does what there is to do before the threads begin.
    pub(crate) fn settle(&mut self) {
        loop {
            self.hand.take(self.engine.work.take());
            if self.hand.is_idle() {
                return;
            }
            self.work();
        }
    }

    /// Waits for something to do. Answers whether the store is idle.
    fn receive(&mut self) -> bool {
        let stalled = self.hand.is_stalled();
        if self.hand.is_idle() {
            let bytes = self.hand.replica.overlay_bytes();
            let due = self.hand.can_commit() && bytes >= IDLE_COMMIT_BYTES;
            let after = if stalled { COMMIT_RETRY_AFTER } else { IDLE_COMMIT_AFTER };
            let until = due.then(|| Instant::now() + after);
            if !self.engine.work.wait(until) {
                return !stalled;
            }
        }
        self.hand.take(self.engine.work.take());
        false
    }

    /// Does everything that waits, and tells at once what came of each step: what follows from it
    /// may join the next batch.
    fn work(&mut self) {
        while self.hand.step() {
            while let Some((done, status)) = self.hand.done() {
                self.engine.done(done, status);
            }
            self.hand.take(self.engine.work.take());
        }
    }

    fn commit_if_due(&mut self, idle: bool) {
        if self.hand.failed.is_none() {
            self.failed_at = None;
        } else if self.failed_at.is_none() {
            self.failed_at = Some(Instant::now());
        }
        let due = match self.failed_at {
            Some(at) => at.elapsed() >= COMMIT_RETRY_AFTER,
            None => {
                idle || self.hand.hurry || self.hand.replica.overlay_bytes() >= OVERLAY_BYTES_SOFT
            }
        };
        if !due || !self.hand.can_commit() {
            return;
        }
        self.failed_at = None;
        let (store, commit) = self.hand.commit();
        let engine = self.engine.clone();
        let work = move || {
            let result = commit.run();
            engine.work.put([Work::Committed(store, result)]);
        };
        if let Err(error) = std::thread::Builder::new().name("store-commit".to_owned()).spawn(work)
        {
            let path = self.hand.replica.shared.dir.clone();
            let (operation, detail) = ("starting a commit of", error.to_string());
            let error = StateError { operation, path, full: true, detail };
            self.hand.take([Work::Committed(store, Err(error))]);
        }
    }
}
