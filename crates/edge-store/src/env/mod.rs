//! LMDB, opened without its own lock file, and the rules that make this sound.
//!
//! LMDB's reader table lives in a shared mapping of a file: each read dirties a page of it, and
//! the kernel writes that to the flash, so a cluster that only reads would wear its card. One
//! process has the directory (`Lock`), so the table is not needed, as long as
//! 1. one thread commits at a time (`writing`);
//! 2. no reader is older than the snapshot before a running commit: a commit reuses only pages
//!    that were free in it. Readers join an epoch, and a commit waits for the epochs before;
//! 3. no reader begins on a root that is just being written: a transaction whose number is not
//!    that of the last finished commit is dropped and begun again;
//! 4. the map is resized while nobody reads (`resizing`).

mod lock;
mod pages;

use std::collections::BTreeMap;
use std::fs::File;
use std::mem;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use heed::types::Bytes as Raw;
use heed::{CommitOrAbort, Database, EnvFlags, EnvOpenOptions, MdbError, RoTxn, WithoutTls};

pub(crate) use self::lock::Lock;
use self::pages::page_size_of;
use crate::base::Found;
use crate::entry::{Entry, Revision};
use crate::error::{OpenError, StateError};
use crate::limits::{MAP_BYTES_MAX, MAP_BYTES_MIN};
use crate::meta::Meta;

/// Our own keys begin with a zero byte, which no object's key may.
const META: &[u8] = b"\0meta";
/// What the state of an earlier version has instead.
const FORMER: &[u8] = b"\0applied";
const DATA: &str = "data.mdb";
const FIRST_KEY: &[u8] = b"\x01";

/// How long to wait before beginning a read again, or looking at old readers again.
const RETRY: Duration = Duration::from_micros(200);

/// The state behind the log.
pub(crate) struct Env {
    env: heed::Env<WithoutTls>,
    database: Database<'static, Raw, Raw>,
    path: PathBuf,
    /// The number of the last finished commit.
    stable: AtomicUsize,
    epochs: Mutex<Epochs>,
    writing: Mutex<()>,
    resizing: RwLock<()>,
    // Dropped last: nobody else may open the directory while the map is in use.
    _lock: Arc<Lock>,
}

#[derive(Default)]
struct Epochs {
    current: Arc<()>,
    retired: Vec<Arc<()>>,
}

/// A consistent view of the state as of its last commit.
pub(crate) struct Snapshot<'e> {
    txn: RoTxn<'e, WithoutTls>,
    env: &'e Env,
    _epoch: Arc<()>,
    _resizing: RwLockReadGuard<'e, ()>,
}

/// What a commit writes: a value, or a removal, for each key.
pub(crate) type Changes = BTreeMap<Arc<str>, Option<Entry>>;

impl Env {
    /// Opens or creates the state in the directory `path`.
    pub(crate) fn open(path: PathBuf, lock: Arc<Lock>) -> Result<Env, OpenError> {
        std::fs::create_dir_all(&path).map_err(OpenError::io("creating", &path))?;
        let failed = |error| state_error("opening", &path, error);
        let data = path.join(DATA);
        // Two pages hold no commit, but only the description of the file.
        let bare = || length_of(&path) <= 2 * page_size_of(&data);
        let env = match open_map(&path) {
            // A first start was cut short while it made them.
            Err(_) if bare() => {
                std::fs::remove_file(&data).map_err(OpenError::io("removing", &data))?;
                open_map(&path)
            }
            opened => opened,
        };
        // LMDB does not sync them. A cut could keep what the first commit writes behind them and
        // lose the description, and nobody could tell that from a state that is damaged.
        if env.is_ok() && bare() {
            let synced = File::open(&data).and_then(|data| data.sync_all());
            synced.map_err(OpenError::io("syncing", &data))?;
        }
        let env = env.map_err(|error| match error {
            heed::Error::Mdb(MdbError::Invalid | MdbError::VersionMismatch) => OpenError::Foreign {
                path: data.clone(),
                why: "not a state that this kind of board can read (LMDB files do not move \
                      between word sizes); restore a snapshot instead"
                    .to_owned(),
            },
            other => failed(other).into(),
        })?;
        let txn = env.read_txn().map_err(failed)?;
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            opener.open_database::<Raw, Raw>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        let database = match opened.map_err(failed)? {
            CommitOrAbort::Commit(database) => {
                database.expect("invariant: LMDB's unnamed database always exists")
            }
            CommitOrAbort::Abort(()) => {
                return Err(failed(heed::Error::Mdb(MdbError::BadTxn)).into());
            }
        };
        let stable = AtomicUsize::new(env.info().last_txn_id);
        Ok(Env {
            env,
            database,
            path,
            stable,
            epochs: Mutex::default(),
            writing: Mutex::default(),
            resizing: RwLock::default(),
            _lock: lock,
        })
    }

    /// Begins to read.
    pub(crate) fn read(&self) -> Result<Snapshot<'_>, StateError> {
        loop {
            let resizing = self.resizing.read().unwrap_or_else(PoisonError::into_inner);
            let epoch = relock(&self.epochs).current.clone();
            let before = self.stable.load(Ordering::Acquire);
            let txn = self.env.read_txn().map_err(|error| self.failed("reading", error))?;
            if txn.id() == before && self.stable.load(Ordering::Acquire) == before {
                return Ok(Snapshot { txn, env: self, _epoch: epoch, _resizing: resizing });
            }
            drop((txn, epoch, resizing));
            std::thread::sleep(RETRY);
        }
    }

    /// Writes `changes` and what they lead to; synced when it returns.
    pub(crate) fn commit(&self, changes: &Changes, meta: &Meta) -> Result<(), StateError> {
        let meta = meta.encode();
        self.write(|database, txn| {
            for (key, change) in changes {
                match change {
                    Some(entry) => {
                        let size = 8 + entry.value.len();
                        database.put_reserved(txn, key.as_bytes(), size, |space| {
                            std::io::Write::write_all(space, &entry.revision.to_le_bytes())?;
                            std::io::Write::write_all(space, &entry.value)
                        })?;
                    }
                    None => {
                        database.delete(txn, key.as_bytes())?;
                    }
                }
            }
            database.put(txn, META, &meta)
        })
    }

    /// Makes a fresh state a finished one. The names of its files are made durable first: a state
    /// that is initialised never needs that again.
    pub(crate) fn initialise(&self, meta: &Meta) -> Result<(), OpenError> {
        for dir in self.path.ancestors().take(3).filter(|dir| !dir.as_os_str().is_empty()) {
            sync_dir(dir)?;
        }
        let meta = meta.encode();
        Ok(self.write(|database, txn| database.put(txn, META, &meta))?)
    }

    /// Writes objects into a state that is not in use yet, and leaves it unfinished.
    pub(crate) fn fill(&self, entries: &[(String, Revision, Vec<u8>)]) -> Result<(), StateError> {
        self.write(|database, txn| {
            for (key, revision, value) in entries {
                let mut bytes = revision.to_le_bytes().to_vec();
                bytes.extend_from_slice(value);
                database.put(txn, key.as_bytes(), &bytes)?;
            }
            Ok(())
        })
    }

    fn write(
        &self,
        work: impl Fn(&Database<'static, Raw, Raw>, &mut heed::RwTxn<'_>) -> heed::Result<()>,
    ) -> Result<(), StateError> {
        let _writing = relock(&self.writing);
        loop {
            self.wait_for_old_readers();
            let attempt = self.env.write_txn().and_then(|mut txn| {
                work(&self.database, &mut txn)?;
                let id = txn.id();
                txn.commit().map(|()| id)
            });
            match attempt {
                Ok(id) => {
                    self.stable.store(id, Ordering::Release);
                    let mut epochs = relock(&self.epochs);
                    let old = mem::take(&mut epochs.current);
                    epochs.retired.push(old);
                    return Ok(());
                }
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                Err(error) => return Err(self.failed("committing", error)),
            }
        }
    }

    /// Rule 2: whoever began before the last commit finished must be done.
    fn wait_for_old_readers(&self) {
        loop {
            let mut epochs = relock(&self.epochs);
            epochs.retired.retain(|epoch| Arc::strong_count(epoch) > 1);
            if epochs.retired.is_empty() {
                return;
            }
            drop(epochs);
            std::thread::sleep(RETRY);
        }
    }

    /// Bytes of its file.
    pub(crate) fn size(&self) -> u64 {
        self.env.real_disk_size().unwrap_or_default()
    }

    fn grow(&self) -> Result<(), StateError> {
        let _resizing = self.resizing.write().unwrap_or_else(PoisonError::into_inner);
        let size = self.env.info().map_size;
        if size >= MAP_BYTES_MAX {
            return Err(StateError {
                operation: "committing",
                path: self.path.clone(),
                full: true,
                detail: format!("the state is at its limit of {MAP_BYTES_MAX} bytes"),
            });
        }
        let larger = size.saturating_mul(2).min(MAP_BYTES_MAX);
        // SAFETY: no transaction is active: readers hold `resizing` shared, the writer is us and
        // has ended its own.
        unsafe { self.env.resize(larger) }.map_err(|error| self.failed("growing", error))
    }

    fn failed(&self, operation: &'static str, error: heed::Error) -> StateError {
        state_error(operation, &self.path, error)
    }
}

impl<'e> Snapshot<'e> {
    /// What the last commit said of itself; `None` if the state was never finished.
    pub(crate) fn meta(&self) -> Result<Option<Meta>, StateError> {
        match self.own(META)? {
            None if self.own(FORMER)?.is_some() => Err(self.corrupt("it is an earlier version's")),
            None => Ok(None),
            Some(bytes) => match Meta::decode(bytes) {
                Some(meta) => Ok(Some(meta)),
                None => Err(self.corrupt("its first record is none that this version knows")),
            },
        }
    }

    fn own(&self, key: &[u8]) -> Result<Option<&[u8]>, StateError> {
        let found = self.env.database.get(&self.txn, key);
        found.map_err(|error| self.env.failed("reading", error))
    }

    /// Reads one object.
    pub(crate) fn get(&self, key: &str) -> Result<Option<(Revision, &[u8])>, StateError> {
        if key.as_bytes() < FIRST_KEY {
            return Ok(None);
        }
        let found = self.env.database.get(&self.txn, key.as_bytes());
        match found.map_err(|error| self.env.failed("reading", error))? {
            Some(bytes) => self.split(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the objects whose keys begin with `prefix` and come after `after`, in order.
    pub(crate) fn scan<'s>(
        &'s self,
        prefix: &'s str,
        after: Option<&str>,
    ) -> Result<impl Iterator<Item = Found<'s>> + use<'s, 'e>, StateError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes().max(FIRST_KEY)),
        };
        let range = (start, Bound::<&[u8]>::Unbounded);
        let range = self.env.database.range(&self.txn, &range);
        let range = range.map_err(|error| self.env.failed("reading", error))?;
        let inside = move |item: &heed::Result<(&[u8], &[u8])>| {
            item.as_ref().map_or(true, |(key, _)| key.starts_with(prefix.as_bytes()))
        };
        Ok(range.take_while(inside).map(move |item| {
            let (key, bytes) = item.map_err(|error| self.env.failed("reading", error))?;
            let key = std::str::from_utf8(key).map_err(|_| self.corrupt("a key is no text"))?;
            self.split(bytes).map(|(revision, value)| (key, revision, value))
        }))
    }

    fn split<'s>(&self, bytes: &'s [u8]) -> Result<(Revision, &'s [u8]), StateError> {
        match bytes.split_first_chunk::<8>() {
            Some((revision, value)) => Ok((u64::from_le_bytes(*revision), value)),
            None => Err(self.corrupt("a value is too short")),
        }
    }

    fn corrupt(&self, what: &str) -> StateError {
        StateError {
            operation: "reading",
            path: self.env.path.clone(),
            full: false,
            detail: format!("{what}: the state is damaged; restore a snapshot"),
        }
    }
}

fn open_map(path: &Path) -> heed::Result<heed::Env<WithoutTls>> {
    let wanted = usize::try_from(length_of(path)).unwrap_or(MAP_BYTES_MAX).saturating_mul(2);
    let wanted = wanted.clamp(MAP_BYTES_MIN, MAP_BYTES_MAX);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(wanted.next_multiple_of(MAP_BYTES_MIN));
    // SAFETY: NO_LOCK leaves the exclusion of readers and writers to us: see the rules at the
    // top, which every access keeps. NO_READ_AHEAD has no safety condition.
    unsafe { options.flags(EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD) };
    // SAFETY: the file is only changed through LMDB by this process, which holds the directory's
    // lock as long as the map lives.
    unsafe { options.open(path) }
}

fn length_of(path: &Path) -> u64 {
    std::fs::metadata(path.join(DATA)).map_or(0, |data| data.len())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), OpenError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(OpenError::io("syncing", path))
}

/// Locks a mutex whose content stays whole even if a holder dies.
fn relock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// LMDB reports a write that the disk cut short as EIO, so EIO on a full disk means full.
fn state_error(operation: &'static str, path: &Path, error: heed::Error) -> StateError {
    const NEARLY_NOTHING: u64 = 4 * 1024 * 1024;
    let full = match &error {
        heed::Error::Io(io) => match io.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => true,
            Some(libc::EIO) => free_bytes(path).is_some_and(|free| free < NEARLY_NOTHING),
            _ => false,
        },
        _ => false,
    };
    StateError { operation, path: path.to_owned(), full, detail: error.to_string() }
}

/// Bytes that are free on the disk beneath a directory; `None` where that can't be told.
#[allow(clippy::useless_conversion)] // these numbers are 32 bits wide on 32-bit boards
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}
