//! The replicated state machine: one command in, one deterministic step.
//!
//! No clock, no identifiers, no chance: what a step does depends on the state, the entry's index
//! and the command alone, so every member that applies the same log holds the same bytes.

use std::sync::Arc;

use edge_core::consensus::{EntryKind, Index, LogEntry, Members, Mutant, Term, mutant};

use crate::base::Base;
use crate::command::{Applied, Command, Op};
use crate::entry::{Change, Entry, Event, Revision, stamp};
use crate::error::{ProposeError, StateError};
use crate::history::History;
use crate::overlay::Overlay;

/// The state above its base's last commit.
pub(crate) struct Machine {
    /// The last entry that was applied.
    pub(crate) head: Head,
    pub(crate) overlay: Overlay,
    pub(crate) history: History,
}

/// How far a state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The index of its last entry.
    pub(crate) index: Index,
    /// That entry's term.
    pub(crate) term: Term,
    /// The members as of it.
    pub(crate) members: Members,
}

/// A command judged against the state.
pub(crate) enum Verdict {
    /// It happens; what its keys hold now, in the order of its operations.
    Holds(Vec<Option<Entry>>),
    /// A precondition does not hold.
    Conflict { key: String, found: Option<Revision> },
}

/// What an entry will do.
pub(crate) enum Plan {
    /// Nothing, and perhaps why.
    Pass(Option<ProposeError>),
    /// Other members.
    Members(Members),
    /// The command; what its keys hold now.
    Do(Command, Vec<Option<Entry>>),
}

/// What an entry did.
pub(crate) type Applying = Result<Applied, ProposeError>;

impl Machine {
    /// The state as it was committed.
    pub(crate) fn new(head: Head) -> Machine {
        let history = History::new(head.index);
        Machine { head, overlay: Overlay::default(), history }
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> Revision {
        self.head.index
    }

    /// Decides what an entry does, without doing anything. `known` spares reading its bytes.
    ///
    /// An error means that nothing can be said of the state behind this entry.
    pub(crate) fn plan(
        &self,
        base: &Base,
        entry: &LogEntry,
        known: Option<Command>,
    ) -> Result<Plan, StateError> {
        if entry.index != self.head.index + 1 || entry.term < self.head.term {
            return Err(misplaced(entry, &self.head));
        }
        if entry.kind == EntryKind::Members {
            let members = self.head.members.after(entry);
            return Ok(members.map_or(Plan::Pass(None), Plan::Members));
        }
        if entry.data.is_empty() {
            return Ok(Plan::Pass(None));
        }
        let read = || Command::decode(&entry.data).ok_or_else(|| unknown(entry));
        let command = known.map_or_else(read, Ok)?;
        if let Some(asked) = command.term
            && asked != entry.term
            && !mutant(Mutant::CommandTermIgnored)
        {
            return Ok(Plan::Pass(Some(ProposeError::StaleTerm { asked, term: entry.term })));
        }
        Ok(match self.judge(base, &command)? {
            Verdict::Holds(held) => Plan::Do(command, held),
            Verdict::Conflict { key, found } => {
                Plan::Pass(Some(ProposeError::Conflict { key, found }))
            }
        })
    }

    /// Does what was decided for the entry that follows the last one, and answers what came of
    /// it. An entry that may not happen moves the revision and changes nothing.
    pub(crate) fn follow(&mut self, entry: &LogEntry, plan: Plan) -> Applying {
        (self.head.index, self.head.term) = (entry.index, entry.term);
        match plan {
            Plan::Pass(Some(refusal)) => return Err(refusal),
            Plan::Pass(None) => {}
            Plan::Members(members) => self.head.members = members,
            Plan::Do(command, held) => self.apply(entry.index, &command, held),
        }
        Ok(Applied { revision: entry.index })
    }

    /// What a key holds.
    pub(crate) fn get(&self, base: &Base, key: &str) -> Result<Option<Entry>, StateError> {
        if let Some(held) = self.overlay.get(key) {
            return Ok(held.clone());
        }
        let view = base.read()?;
        let found = view.get(key)?;
        Ok(found.map(|(revision, value)| Entry {
            key: Arc::from(key),
            revision,
            value: bytes::Bytes::copy_from_slice(value),
        }))
    }

    /// Judges a command's preconditions, all of them, without doing anything.
    pub(crate) fn judge(&self, base: &Base, command: &Command) -> Result<Verdict, StateError> {
        let mut held = Vec::with_capacity(command.ops.len());
        for parts in command.ops.iter().map(Op::parts) {
            let entry = self.get(base, parts.key)?;
            let found = entry.as_ref().map(|entry| entry.revision);
            if !parts.expect.holds(found) {
                return Ok(Verdict::Conflict { key: parts.key.to_owned(), found });
            }
            held.push(entry);
        }
        Ok(Verdict::Holds(held))
    }

    fn apply(&mut self, index: Index, command: &Command, held: Vec<Option<Entry>>) {
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
            let key = match &previous {
                Some(entry) => entry.key.clone(),
                None => Arc::from(parts.key),
            };
            let event = Event { revision: index, key, change, value, previous };
            self.overlay.set(event.key.clone(), event.entry());
            self.history.push(Arc::new(event));
        }
    }
}

/// Going on would make this state another one than everybody else's, and nobody would know.
fn misplaced(entry: &LogEntry, head: &Head) -> StateError {
    StateError {
        operation: "reading",
        path: format!("entry {} of the log", entry.index).into(),
        full: false,
        detail: format!(
            "it is of term {} and does not follow entry {} of term {}, the last one in the state; \
             remove this server from the cluster and let it join with an empty directory",
            entry.term, head.index, head.term
        ),
    }
}

fn unknown(entry: &LogEntry) -> StateError {
    StateError {
        operation: "reading",
        path: format!("entry {} of the log", entry.index).into(),
        full: false,
        detail: "a newer version wrote it; upgrade this server".to_owned(),
    }
}
