//! A watch: a cursor on the shared history. It holds no events of its own, so it can't grow.

use std::sync::Arc;

use edge_core::consensus::{Mutant, mutant};
use tokio::sync::watch;

use crate::entry::{Event, Revision};
use crate::error::{Gone, WatchEnd};
use crate::shared::Shared;

/// Every event under a prefix after a revision: none missed, none twice, in order.
pub struct Watch {
    shared: Arc<Shared>,
    signal: watch::Receiver<bool>,
    prefix: Arc<str>,
    position: u64,
    progress: Revision,
    era: u64,
}

impl Watch {
    pub(crate) fn begin(shared: Arc<Shared>, prefix: &str, from: Revision) -> Result<Watch, Gone> {
        let signal = shared.signal.subscribe();
        let state = shared.read();
        let (oldest, current) = (state.machine.history.floor(), state.machine.revision());
        let gap = from < oldest && !mutant(Mutant::WatchGap);
        if gap || from > current {
            return Err(Gone { from, oldest, current });
        }
        let position = state.machine.history.position(from);
        let era = state.era;
        drop(state);
        Ok(Watch { shared, signal, prefix: Arc::from(prefix), position, progress: from, era })
    }

    /// The next event, as soon as there is one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchEnd> {
        loop {
            self.signal.borrow_and_update();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.signal.changed().await.is_err() {
                return Err(WatchEnd::Closed);
            }
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchEnd> {
        let state = self.shared.read();
        if state.era != self.era {
            return Err(WatchEnd::Lagged);
        }
        let history = &state.machine.history;
        let Some(events) = history.since(self.position) else { return Err(WatchEnd::Lagged) };
        for event in events {
            self.position += 1;
            if event.key.starts_with(&*self.prefix) {
                // Another operation of the same command may follow.
                self.progress = event.revision - 1;
                return Ok(Some(event.clone()));
            }
        }
        self.position = history.end();
        self.progress = state.machine.revision();
        // What happened before the end is still handed out.
        if *self.signal.borrow() { Err(WatchEnd::Closed) } else { Ok(None) }
    }

    /// A revision up to which every event was handed out: what a bookmark may carry. It follows
    /// the store only through `next` and `try_next`.
    pub fn progress(&self) -> Revision {
        self.progress
    }
}
