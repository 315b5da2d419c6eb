//! What readers, watchers and the threads share.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::base::Base;
use crate::machine::Machine;

/// The state of one store, and who waits for it.
pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// Wakes watchers; true once the store is closed.
    pub(crate) signal: watch::Sender<bool>,
    /// For messages to people.
    pub(crate) dir: PathBuf,
    /// This member is the only one and leads: what it has applied is all there is.
    pub(crate) alone: AtomicBool,
}

/// The machine, and what it lies on while the store is open.
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) commits: u64,
    /// Rises when a snapshot takes the state's place: watches of the old one end.
    pub(crate) era: u64,
}

impl Shared {
    pub(crate) fn new(dir: PathBuf, machine: Machine, base: Arc<Base>) -> Shared {
        Shared {
            state: RwLock::new(State { machine, base: Some(base), commits: 0, era: 0 }),
            signal: watch::Sender::new(false),
            dir,
            alone: AtomicBool::new(false),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watchers.
    pub(crate) fn wake(&self) {
        self.signal.send_modify(|_| ());
    }

    /// Lets go of the files and ends every watch.
    pub(crate) fn shut(&self) {
        self.write().base = None;
        self.signal.send_replace(true);
    }
}
