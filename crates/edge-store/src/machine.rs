//! The replicated state machine: one command in, one deterministic step.
//!
//! No clock, no identifiers, no chance: what a step does depends on the state, the entry's index
//! and the command alone, so every member that applies the same log holds the same bytes.

use std::sync::Arc;

use crate::command::{Command, Op};
use crate::entry::{Change, Entry, Event, Revision, stamp};
use crate::env::Env;
use crate::error::StateError;
use crate::history::History;
use crate::overlay::Overlay;

/// The state above LMDB's last commit.
pub(crate) struct Machine {
    /// The index of the last entry that was applied.
    pub(crate) applied: Revision,
    pub(crate) overlay: Overlay,
    pub(crate) history: History,
}

/// A command judged against the state.
pub(crate) enum Verdict {
    /// It happens; what its keys hold now, in the order of its operations.
    Holds(Vec<Option<Entry>>),
    /// A precondition does not hold.
    Conflict { key: String, found: Option<Revision> },
}

impl Machine {
    /// The state as it was committed at `applied`.
    pub(crate) fn new(applied: Revision) -> Machine {
        Machine { applied, overlay: Overlay::default(), history: History::new(applied) }
    }

    /// What a key holds.
    pub(crate) fn get(&self, env: &Env, key: &str) -> Result<Option<Entry>, StateError> {
        if let Some(held) = self.overlay.get(key) {
            return Ok(held.clone());
        }
        let snapshot = env.read()?;
        let found = snapshot.get(key)?;
        Ok(found.map(|(revision, value)| Entry {
            key: Arc::from(key),
            revision,
            value: bytes::Bytes::copy_from_slice(value),
        }))
    }

    /// Judges a command's preconditions, all of them, without doing anything.
    pub(crate) fn judge(&self, env: &Env, command: &Command) -> Result<Verdict, StateError> {
        let mut held = Vec::with_capacity(command.ops.len());
        for parts in command.ops.iter().map(Op::parts) {
            let entry = self.get(env, parts.key)?;
            let found = entry.as_ref().map(|entry| entry.revision);
            if !parts.expect.holds(found) {
                return Ok(Verdict::Conflict { key: parts.key.to_owned(), found });
            }
            held.push(entry);
        }
        Ok(Verdict::Holds(held))
    }

    /// Applies entry `index`, whose verdict is given. An entry that conflicts moves the revision
    /// and changes nothing.
    pub(crate) fn apply(&mut self, index: u64, command: &Command, verdict: &Verdict) {
        self.applied = index;
        let Verdict::Holds(held) = verdict else { return };
        for (op, previous) in command.ops.iter().zip(held) {
            let parts = op.parts();
            let change = match op {
                Op::Put { .. } => Change::Put,
                Op::Delete { .. } if previous.is_none() => continue,
                Op::Delete { .. } => Change::Delete,
            };
            let value = match parts.stamp {
                Some(at) => stamp(parts.bytes, at, index),
                None => parts.bytes.clone(),
            };
            let key = match previous {
                Some(entry) => entry.key.clone(),
                None => Arc::from(parts.key),
            };
            let previous = previous.clone();
            let event = Event { revision: index, key, change, value, previous };
            self.overlay.set(event.key.clone(), event.entry());
            self.history.push(Arc::new(event));
        }
    }
}
