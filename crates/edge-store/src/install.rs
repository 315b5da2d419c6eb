//! A snapshot becomes a state: built beside the old one, and swapped for it in one step.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use edge_core::consensus::Start;

use crate::base::Base;
use crate::entry::{Entry, Revision};
use crate::env::{Changes, Lock, sync_dir};
use crate::error::{OpenError, SnapshotError};
use crate::home::Home;
use crate::limits::{OVERLAY_BYTES_SOFT, RESTORE_GAP, SEGMENT_BYTES};
use crate::log::disk::RealDisk;
use crate::log::{Log, LogConfig};
use crate::machine::{Head, Machine};
use crate::meta::Meta;
use crate::replica::{self, Replica};
use crate::snapshot::{Reader, Record};

/// Lies in a directory while it is restored into.
pub(crate) const UNFINISHED: &str = "restoring";

/// A state that was built from a snapshot and is not in use yet.
pub(crate) struct Built {
    home: Home,
    base: Arc<Base>,
    store: u64,
    /// What it is of.
    pub(crate) head: Head,
}

/// Builds a state beside the one in `home`; nothing is changed there. `store` is a fresh number.
pub(crate) fn build(home: &Home, store: u64, input: &mut dyn Read) -> Result<Built, SnapshotError> {
    let home = home.next(format!("{store:016x}"));
    let built = home.open().map_err(SnapshotError::Target).and_then(|base| {
        let head = fill(&base, input, 0, &mut |_, _, value| Fate::Kept(value))?;
        Ok((base, head))
    });
    match built {
        Ok((base, head)) => Ok(Built { home, base: Arc::new(base), store, head }),
        Err(error) => {
            // Else each attempt over a bad link leaves a part of a state, until the next start.
            remove(&home);
            Err(error)
        }
    }
}

/// Takes away what was being made in `home`, which nobody has used, and nothing else: which other
/// generation is in use is not known here.
fn remove(home: &Home) {
    if let Err(error) = home.remove() {
        tracing::warn!("store: removing what came of a snapshot: {error}");
    }
}

impl Built {
    /// It is not to be used, and takes no room until the next start.
    pub(crate) fn discard(self) {
        let Built { home, base, .. } = self;
        drop(base);
        remove(&home);
    }
}

fn fill(
    base: &Base,
    input: &mut dyn Read,
    gap: u64,
    change: &mut dyn FnMut(&str, Revision, Vec<u8>) -> Fate,
) -> Result<Head, SnapshotError> {
    let (mut reader, head) = Reader::begin(input)?;
    let later = head.index.saturating_add(gap);
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some((key, revision, value)) = reader.next()? {
        let (revision, value) = match change(&key, later, value) {
            Fate::Kept(value) => (revision, value),
            Fate::Changed(value) => (later, value),
            Fate::Gone => continue,
        };
        bytes += key.len() + value.len();
        records.push((key, revision, value));
        if bytes >= OVERLAY_BYTES_SOFT {
            keep(base, std::mem::take(&mut records))?;
            bytes = 0;
        }
    }
    keep(base, records)?;
    Ok(head)
}

fn keep(base: &Base, records: Vec<Record>) -> Result<(), SnapshotError> {
    match base {
        Base::Lmdb(env) => {
            let failed = |error| SnapshotError::Target(OpenError::State(error));
            env.fill(&records).map_err(failed)
        }
        Base::Memory(memory) => {
            let entry = |(key, revision, value): Record| {
                let key: Arc<str> = Arc::from(key);
                (key.clone(), Some(Entry { key, revision, value: value.into() }))
            };
            let changes: Changes = records.into_iter().map(entry).collect();
            memory.commit(&changes, &Meta::default());
            Ok(())
        }
    }
}

/// Why a snapshot was not installed.
#[derive(Debug)]
pub(crate) enum InstallError {
    /// The old state and log are as they were.
    Kept(OpenError),
    /// Which of the two a restart finds can't be told: the store must not go on.
    Unknown(OpenError),
}

impl Replica {
    /// The state and the whole log give way to what was built. Term and vote are kept, and
    /// whoever watches has to list again.
    pub(crate) fn install(&mut self, built: Built) -> Result<Start, InstallError> {
        let Built { home, base, store, head } = built;
        let mut hard = self.log.hard();
        hard.commit = head.index;
        let (applied, members) = ((head.index, head.term), head.members.clone());
        let meta = Meta { store, me: self.me, applied, members, hard, batch: 0, prior: 0 };
        let config = LogConfig { dir: home.log(), ..self.config.clone() };
        let made = Log::create(config.clone(), store, meta.outlived())
            .and_then(|log| finish(&base, &meta).map(|()| log));
        let mut log = match made {
            Ok(log) => log,
            Err(error) => {
                drop(base);
                remove(&home);
                return Err(InstallError::Kept(error));
            }
        };
        log.counters = self.log.counters.clone();
        let home = self.home.give_way(home).map_err(InstallError::Unknown)?;
        let base = match home {
            Home::Memory { .. } => Arc::new(home.open().map_err(InstallError::Unknown)?),
            Home::Dir { .. } => base,
        };
        {
            let mut state = self.shared.write();
            state.machine = Machine::new(head.clone());
            state.base = Some(base.clone());
            state.era += 1;
        }
        self.shared.wake();
        self.replace(home, base, config, log, &meta);
        self.sweep();
        Ok(replica::start(hard, head, Vec::new()))
    }

    fn sweep(&self) {
        if let Err(error) = self.home.sweep() {
            tracing::warn!("store: removing a state that is not in use: {error}");
        }
    }
}

fn finish(base: &Base, meta: &Meta) -> Result<(), OpenError> {
    match base {
        Base::Lmdb(env) => env.initialise(meta),
        Base::Memory(memory) => {
            memory.commit(&Changes::default(), meta);
            Ok(())
        }
    }
}

/// What becomes of a key's value on its way from a snapshot into a store of another cluster's life.
#[derive(Debug)]
pub enum Fate {
    /// It comes along as it is, with its revision.
    Kept(Vec<u8>),
    /// It is this, as of the revision that the store begins with.
    Changed(Vec<u8>),
    /// It does not come along.
    Gone,
}

/// Bytes of the disk that a store takes, about, which is made from a snapshot of so many bytes:
/// values that fill half a page take a whole one.
pub fn restore_needs(snapshot: u64) -> u64 {
    snapshot.saturating_mul(2).saturating_add(2 * SEGMENT_BYTES)
}

/// Makes a store in the empty or absent directory `dir` from a snapshot, and answers its revision.
/// What is left of an interrupted restore does not open. The store belongs to nobody: the member
/// that opens it is its only one.
pub fn restore(dir: &Path, input: &mut dyn Read) -> Result<Revision, SnapshotError> {
    into(dir, input, 0, &mut |_, _, value| Fate::Kept(value))
}

/// [`restore`] for a cluster whose last writes the snapshot may lack: revisions and terms go on so
/// far above its own that no number which clients or boards may have seen comes again. `change` is
/// asked about every key, and told the revision that the store begins with.
pub fn restore_later(
    dir: &Path,
    input: &mut dyn Read,
    change: &mut dyn FnMut(&str, Revision, Vec<u8>) -> Fate,
) -> Result<Revision, SnapshotError> {
    into(dir, input, RESTORE_GAP, change)
}

fn into(
    dir: &Path,
    input: &mut dyn Read,
    gap: u64,
    change: &mut dyn FnMut(&str, Revision, Vec<u8>) -> Fate,
) -> Result<Revision, SnapshotError> {
    let target = SnapshotError::Target;
    fs::create_dir_all(dir).map_err(OpenError::io("creating", dir)).map_err(target)?;
    let mut listing = fs::read_dir(dir).map_err(OpenError::io("listing", dir)).map_err(target)?;
    if listing.next().is_some() {
        let why = "not empty; restore into an empty directory".to_owned();
        return Err(target(OpenError::Foreign { path: dir.to_owned(), why }));
    }
    let marker = dir.join(UNFINISHED);
    fs::write(&marker, b"").map_err(OpenError::io("creating", &marker)).map_err(target)?;
    let lock = Arc::new(Lock::take(dir).map_err(target)?);
    let home = Home::Dir { dir: dir.to_owned(), lock, generation: String::new() };
    let base = home.open().map_err(target)?;
    let head = fill(&base, input, gap, change)?;
    let store = crate::store::fresh_id().map_err(target)?;
    let (index, term) = (head.index.saturating_add(gap), head.term.saturating_add(gap));
    let applied = (index, term);
    let hard = edge_core::consensus::HardState { term, vote: 0, commit: index };
    let meta = Meta { store, applied, hard, ..Meta::default() };
    let disk = Arc::new(RealDisk);
    let config = LogConfig { dir: home.log(), disk, segment_bytes: SEGMENT_BYTES };
    Log::create(config, store, meta.outlived()).map_err(target)?;
    finish(&base, &meta).map_err(target)?;
    fs::remove_file(&marker).map_err(OpenError::io("removing", &marker)).map_err(target)?;
    sync_dir(dir).map_err(target)?;
    Ok(index)
}
