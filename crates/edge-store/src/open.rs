//! Opening: log and state are brought together, or refused with one clear line.

use std::path::Path;
use std::sync::Arc;

use edge_core::consensus::{EntryKind, HardState, Index, LogEntry, MemberInfo, Members, Start};

use crate::base::Base;
use crate::error::OpenError;
use crate::home::Home;
use crate::limits::LOSS_GAP;
use crate::log::{self, Log, LogConfig, Outlived, Recovery};
use crate::machine::{Head, Machine};
use crate::meta::Meta;
use crate::replica::{self, Replica};
use crate::store::Founding;

/// Who opens a store, and how it keeps its log.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) me: MemberInfo,
    pub(crate) founding: Founding,
    /// Nothing may be begun: there has been a store.
    pub(crate) begun: bool,
    pub(crate) config: LogConfig,
    /// A number that no other store has.
    pub(crate) fresh: u64,
}

/// Opens the store in `home`, or begins one.
pub(crate) fn open(home: Home, opener: &Opener) -> Result<(Replica, Start), OpenError> {
    let mut config = opener.config.clone();
    config.dir = home.log();
    let base = Arc::new(home.open()?);
    let found = base.read()?.meta()?;
    let mut meta = match found {
        Some(meta) => meta,
        None if opener.begun => return Err(OpenError::Missing { path: home.state() }),
        None => begin(&base, &config, opener)?,
    };
    if let Err(why) = replica::owner(&meta, &opener.me) {
        return Err(OpenError::Foreign { path: home.dir(), why });
    }
    if meta.prior != 0 {
        begin_anew(&config, &meta)?;
    }
    if meta.me == 0 {
        // A restored snapshot: it becomes this member's alone.
        meta.me = opener.me.id;
        meta.members = Members::genesis(opener.me.clone());
        base.commit(&Default::default(), &meta)?;
    }
    if opener.begun && !config.dir.exists() {
        return Err(OpenError::Missing { path: config.dir });
    }
    match Log::recover(config.clone(), meta.store, meta.outlived())? {
        Recovery::Absent if opener.begun => Err(OpenError::Missing { path: config.dir }),
        Recovery::Absent => Err(foreign(
            &home.dir(),
            "the log is missing beside a state; put it back, or empty the whole directory and \
             restore a snapshot",
        )),
        Recovery::Whole(log, entries) => {
            let start = begin_with(&meta, log.hard(), log.next(), entries);
            let replica = Replica::new(home, base, config, log, &meta);
            Ok((replica, start))
        }
        Recovery::Damaged(damage, entries, highest) => {
            let alone = is_alone(&meta, &entries);
            if !alone || !config.disk.exists(&damage.consent) {
                return Err(OpenError::Damaged(crate::error::Damage { alone, ..damage }));
            }
            tracing::warn!("store: going on without what was lost, as asked: {damage}");
            accept_loss(home, base, config, meta, entries, highest, &damage.consent)
        }
    }
}

/// Keeps what could be read, and jumps over the numbers that may have been lost.
fn accept_loss(
    home: Home,
    base: Arc<Base>,
    config: LogConfig,
    meta: Meta,
    entries: Vec<LogEntry>,
    highest: u64,
    consent: &Path,
) -> Result<(Replica, Start), OpenError> {
    let jump = highest + LOSS_GAP;
    // Above every number that the lost segments may have.
    let meta = settle(&base, &meta, &entries, jump, |meta| meta.batch += jump)?;
    let log = Log::create(config.clone(), meta.store, meta.outlived())?;
    log::set_aside(&config, meta.applied.0 + 1, consent)?;
    let replica = Replica::new(home, base, config, log, &meta);
    let start = replica::start(meta.hard, replica.head(), Vec::new());
    Ok((replica, start))
}

/// Applies entries to a state that nobody uses yet, moves its index on to `jump` if that is
/// higher, and commits it with what `change` makes of the rest.
pub(crate) fn settle(
    base: &Base,
    meta: &Meta,
    entries: &[LogEntry],
    jump: Index,
    change: impl FnOnce(&mut Meta),
) -> Result<Meta, OpenError> {
    let (index, term) = meta.applied;
    let mut machine = Machine::new(Head { index, term, members: meta.members.clone() });
    for entry in entries {
        let plan = machine.plan(base, entry, None)?;
        // A refusal was told to whoever asked for it.
        let _ = machine.follow(entry, plan);
    }
    let index = machine.head.index.max(jump);
    let term = meta.hard.term.max(machine.head.term);
    let mut meta = Meta {
        applied: (index, machine.head.term),
        members: machine.head.members.clone(),
        hard: HardState { commit: index, term, ..meta.hard },
        ..meta.clone()
    };
    change(&mut meta);
    base.commit(&machine.overlay.freeze(), &meta)?;
    Ok(meta)
}

/// A recovery made another store of this one: the log of the former gives way to a new one.
pub(crate) fn begin_anew(config: &LogConfig, meta: &Meta) -> Result<(), OpenError> {
    if log::remove_of(config, meta.prior)? == 0 {
        Log::create(config.clone(), meta.store, meta.outlived())?;
    }
    Ok(())
}

/// A lone voter's durable log is committed: nobody else could ever say otherwise.
fn begin_with(meta: &Meta, hard: HardState, next: u64, entries: Vec<LogEntry>) -> Start {
    let last = next - 1;
    let commit = if is_alone(meta, &entries) { last } else { hard.commit.min(last) };
    let (index, term) = meta.applied;
    let head = Head { index, term, members: meta.members.clone() };
    replica::start(HardState { commit, ..hard }, head, entries)
}

pub(crate) fn is_alone(meta: &Meta, entries: &[LogEntry]) -> bool {
    let voters = meta.members.voters();
    voters.len() == 1
        && voters.contains(&meta.me)
        && entries.iter().all(|entry| entry.kind == EntryKind::Command)
}

/// A fresh directory, or one whose first start was cut short.
fn begin(base: &Base, config: &LogConfig, opener: &Opener) -> Result<Meta, OpenError> {
    let members = match opener.founding {
        Founding::Found => Members::genesis(opener.me.clone()),
        Founding::Join => Members::default(),
    };
    let mut meta = Meta { store: opener.fresh, me: opener.me.id, members, ..Meta::default() };
    match Log::identify(config)? {
        None => {
            Log::create(config.clone(), meta.store, Outlived::default())?;
        }
        Some((store, 1)) => meta.store = store,
        Some(_) => {
            let why = "the state is missing behind a log; put it back, or empty the whole \
                       directory and restore a snapshot";
            return Err(foreign(config.dir.parent().unwrap_or(&config.dir), why));
        }
    }
    match base {
        Base::Lmdb(env) => env.initialise(&meta)?,
        Base::Memory(memory) => memory.commit(&Default::default(), &meta),
    }
    Ok(meta)
}

fn foreign(path: &Path, why: &str) -> OpenError {
    OpenError::Foreign { path: path.to_owned(), why: why.to_owned() }
}
