//! A member's memory: its log and the state behind it. Everything here waits for disks, is done
//! by one thread at a time, and knows nothing of elections.

use std::sync::Arc;

use edge_core::consensus::{HardState, Index, LogEntry, MemberInfo, Persist, Start};

use crate::base::Base;
use crate::command::Command;
use crate::env::Changes;
use crate::error::{OpenError, StateError};
use crate::home::Home;
use crate::log::{AppendError, Log, LogConfig, Outlived, Recovery};
use crate::machine::{Applying, Head, Machine};
use crate::meta::Meta;
use crate::shared::Shared;

/// Log and state of one member.
pub(crate) struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) base: Arc<Base>,
    pub(crate) log: Log,
    pub(crate) home: Home,
    pub(crate) config: LogConfig,
    pub(crate) me: u64,
    pub(crate) store: u64,
    prior: u64,
    /// What a running or failed commit leads to.
    frozen: Option<Meta>,
    /// What the last commit led to.
    committed: Outlived,
}

/// A commit that is due: the changes and what they lead to.
pub(crate) struct Commit {
    pub(crate) base: Arc<Base>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) meta: Meta,
}

impl Replica {
    /// Puts together what `open` found.
    pub(crate) fn new(
        home: Home,
        base: Arc<Base>,
        config: LogConfig,
        log: Log,
        meta: &Meta,
    ) -> Replica {
        let (index, term) = meta.applied;
        let machine = Machine::new(Head { index, term, members: meta.members.clone() });
        Replica {
            shared: Arc::new(Shared::new(home.dir(), machine, base.clone())),
            base,
            log,
            home,
            config,
            me: meta.me,
            store: meta.store,
            prior: meta.prior,
            frozen: None,
            committed: meta.outlived(),
        }
    }

    /// Other files take the place of these.
    pub(crate) fn replace(
        &mut self,
        home: Home,
        base: Arc<Base>,
        config: LogConfig,
        log: Log,
        meta: &Meta,
    ) {
        (self.home, self.base, self.config, self.log) = (home, base, config, log);
        (self.store, self.prior) = (meta.store, meta.prior);
        (self.frozen, self.committed) = (None, meta.outlived());
    }

    /// How far the state has come.
    pub(crate) fn head(&self) -> Head {
        self.shared.read().machine.head.clone()
    }

    /// Makes writes of a member durable, all of them with one write and one sync.
    pub(crate) fn persist(&mut self, writes: &[Persist]) -> Result<(), AppendError> {
        let mut hard = self.log.hard();
        let mut from: Option<Index> = None;
        let mut entries: Vec<LogEntry> = Vec::new();
        for write in writes {
            hard = write.hard.unwrap_or(hard);
            let cut = write.entries.first().map(|entry| entry.index).or(write.truncate_from);
            if let Some(cut) = cut {
                from = Some(from.map_or(cut, |from| from.min(cut)));
                let kept = entries.partition_point(|entry| entry.index < cut);
                entries.truncate(kept);
            }
            entries.extend_from_slice(&write.entries);
        }
        self.log.append(hard, from, &entries)
    }

    /// Applies one committed entry. An error is final.
    pub(crate) fn apply(
        &mut self,
        entry: &LogEntry,
        known: Option<Command>,
    ) -> Result<Applying, StateError> {
        let plan = self.shared.read().machine.plan(&self.base, entry, known)?;
        Ok(self.shared.write().machine.follow(entry, plan))
    }

    /// Takes what was applied since the last commit, for `Commit::run`.
    pub(crate) fn freeze(&mut self) -> Commit {
        let mut state = self.shared.write();
        let machine = &mut state.machine;
        let meta = match &self.frozen {
            Some(meta) if machine.overlay.is_frozen() => meta.clone(),
            _ => self.meta(&machine.head),
        };
        self.frozen = Some(meta.clone());
        Commit { base: self.base.clone(), changes: machine.overlay.freeze(), meta }
    }

    fn meta(&self, head: &Head) -> Meta {
        Meta {
            store: self.store,
            me: self.me,
            applied: (head.index, head.term),
            members: head.members.clone(),
            hard: self.log.hard(),
            batch: self.log.synced(),
            prior: self.prior,
        }
    }

    /// The commit is done: what it outlived can go.
    pub(crate) fn thaw(&mut self) {
        {
            let mut state = self.shared.write();
            state.machine.overlay.thaw();
            state.commits += 1;
        }
        let Some(meta) = self.frozen.take() else { return };
        self.committed = meta.outlived();
        if let Err(error) = self.log.forget(&self.committed) {
            tracing::warn!("store: removing a log segment that is not needed: {error}");
        }
    }

    /// Reads the log again after it refused a write, as a restart would.
    pub(crate) fn again(&mut self) -> Result<Start, OpenError> {
        let counters = self.log.counters.clone();
        let recovered = Log::recover(self.config.clone(), self.store, self.committed)?;
        let Recovery::Whole(mut log, mut entries) = recovered else {
            let why = "the log changed while it was in use".to_owned();
            return Err(OpenError::Foreign { path: self.config.dir.clone(), why });
        };
        log.counters = counters;
        let head = self.head();
        entries.retain(|entry| entry.index > head.index);
        let hard = log.hard();
        self.log = log;
        Ok(start(hard, head, entries))
    }

    /// The overlay's size, in bytes.
    pub(crate) fn overlay_bytes(&self) -> usize {
        self.shared.read().machine.overlay.bytes()
    }
}

impl Commit {
    /// Writes it to the state; blocks.
    pub(crate) fn run(self) -> Result<(), StateError> {
        self.base.commit(&self.changes, &self.meta)
    }
}

/// What a member begins with.
pub(crate) fn start(hard: HardState, head: Head, entries: Vec<LogEntry>) -> Start {
    let commit = hard.commit.max(head.index);
    let hard = HardState { commit, ..hard };
    Start { hard, members: head.members, applied: (head.index, head.term), entries }
}

/// Who a store belongs to, in words.
pub(crate) fn owner(meta: &Meta, me: &MemberInfo) -> Result<(), String> {
    if meta.me == me.id || meta.me == 0 {
        return Ok(());
    }
    let name = meta.members.info(meta.me).map_or("another key", |info| &info.name);
    Err(format!(
        "a data directory of another server: it belongs to {name} ({:016x}) and this is {} \
         ({:016x}); give this server a directory of its own",
        meta.me, me.name, me.id
    ))
}
