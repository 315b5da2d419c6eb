//! The handle that everybody holds: opening, closing, proposing, and what the parts share.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::command::{Applied, Command};
use crate::entry::{Entry, ListOptions, Listing, Revision};
use crate::env::{Env, Lock};
use crate::error::{Gone, OpenError, ProposeError, ReadError, SnapshotError};
use crate::limits::{
    FIRST_REVISION, LOSS_GAP, PROPOSAL_BYTES_MAX, PROPOSAL_OVERHEAD, PROPOSALS_MAX, SEGMENT_BYTES,
};
use crate::log::disk::{Disk, RealDisk};
use crate::log::{self, Counters, Log, LogConfig, LogEntry, Recovery};
use crate::machine::Machine;
use crate::watch::Watch;
use crate::writer::{Message, Proposal, Writer};
use crate::{read, snapshot};

/// How a store is kept.
#[derive(Clone)]
pub struct Options {
    /// The size of a log segment.
    pub segment_bytes: u64,
    /// What makes the log durable.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: SEGMENT_BYTES, disk: Arc::new(RealDisk) }
    }
}

/// What a store has done since it was opened, and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that a watch or a list can ask for.
    pub oldest: Revision,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Batches made durable; each is one write and one sync.
    pub log_syncs: u64,
    /// Commits of the state.
    pub commits: u64,
    /// Bytes that were applied and are not committed to the state yet.
    pub overlay_bytes: u64,
}

/// Places in the writer's channel that proposals leave to a commit's end and to closers.
const SPARE_SLOTS: usize = 8;

/// A store; clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    sender: Mutex<Option<SyncSender<Message>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waiting: Arc<Semaphore>,
    waiting_bytes: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// What readers, watchers and the writer share.
pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// Wakes watchers; true once the store is closed.
    pub(crate) signal: watch::Sender<bool>,
    pub(crate) dir: PathBuf,
}

/// The machine, and LMDB while the store is open.
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) env: Option<Arc<Env>>,
    pub(crate) commits: u64,
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the files and ends every watch.
    pub(crate) fn shut(&self) {
        self.write().env = None;
        self.signal.send_replace(true);
    }
}

impl Store {
    /// Opens the store in `dir`, or makes one; blocks while it reads the log back.
    pub fn open(dir: &Path, options: Options) -> Result<Store, OpenError> {
        let log_dir = dir.join("log");
        std::fs::create_dir_all(&log_dir).map_err(OpenError::io("creating", &log_dir))?;
        let lock = Lock::take(dir)?;
        if dir.join(snapshot::UNFINISHED).exists() {
            let why = "an unfinished restore; empty the directory and restore again".to_owned();
            return Err(OpenError::Foreign { path: dir.to_owned(), why });
        }
        let config =
            LogConfig { dir: log_dir, disk: options.disk, segment_bytes: options.segment_bytes };
        let env = Arc::new(Env::open(dir, lock)?);
        let (log, machine) = recover(&env, config)?;
        let shared = Arc::new(Shared {
            state: RwLock::new(State { machine, env: Some(env.clone()), commits: 0 }),
            signal: watch::Sender::new(false),
            dir: dir.to_owned(),
        });
        let (sender, receiver) = sync_channel(PROPOSALS_MAX);
        let counters = log.counters.clone();
        let writer = Writer::new(shared.clone(), env, log, sender.clone());
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(OpenError::io("starting the writer of", dir))?;
        Ok(Store {
            inner: Arc::new(Inner {
                shared,
                sender: Mutex::new(Some(sender)),
                thread: Mutex::new(Some(thread)),
                waiting: Arc::new(Semaphore::new(PROPOSALS_MAX - SPARE_SLOTS)),
                waiting_bytes: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX)),
                counters,
            }),
        })
    }

    /// Asks for a command; answers once it is durable and applied, or did not happen.
    ///
    /// A caller that stops waiting does not take the command back.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        command.check()?;
        let size = (command.weight() + PROPOSAL_OVERHEAD) as u32;
        let closed = |_| ProposeError::Closed;
        let bytes = self.inner.waiting_bytes.clone().acquire_many_owned(size).await;
        let bytes = bytes.map_err(closed)?;
        let turn = self.inner.waiting.clone().acquire_owned().await.map_err(closed)?;
        let (answer, answered) = oneshot::channel();
        self.inner.send(Message::Propose(Proposal { command, answer, _held: (turn, bytes) }))?;
        answered.await.unwrap_or(Err(ProposeError::Closed))
    }

    /// Reads one key.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, ReadError> {
        read::get(&self.inner.shared, key)
    }

    /// Lists the keys that begin with `prefix`.
    pub fn list(&self, prefix: &str, options: ListOptions) -> Result<Listing, ReadError> {
        read::list(&self.inner.shared, prefix, &options)
    }

    /// Watches the keys that begin with `prefix`: every event after `from`, each once, in order.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Gone> {
        Watch::begin(self.inner.shared.clone(), prefix, from)
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.inner.shared.read().machine.applied
    }

    /// Forgets the history up to `revision`: older watches and lists are told to begin again.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.inner.shared.write();
        let revision = revision.min(state.machine.applied);
        state.machine.history.forget(revision);
    }

    /// Writes every key and value as of one revision, checksummed and independent of the board,
    /// and answers that revision. Blocks; give it a fast writer.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<Revision, SnapshotError> {
        snapshot::write(&self.inner.shared, out)
    }

    /// What the store has done and holds.
    pub fn stats(&self) -> Stats {
        let state = self.inner.shared.read();
        Stats {
            revision: state.machine.applied,
            oldest: state.machine.history.floor(),
            log_bytes: self.inner.counters.bytes.load(Ordering::Relaxed),
            log_syncs: self.inner.counters.syncs.load(Ordering::Relaxed),
            commits: state.commits,
            overlay_bytes: state.machine.overlay.bytes() as u64,
        }
    }

    /// Answers what was proposed, ends all watches and lets go of the directory.
    pub async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.inner.send(Message::Close(done)).is_ok() {
            // An error means that the writer has ended already.
            let _ = finished.await;
        }
        self.inner.waiting.close();
        self.inner.waiting_bytes.close();
        self.inner.lock_sender().take();
    }
}

impl Inner {
    fn lock_sender(&self) -> std::sync::MutexGuard<'_, Option<SyncSender<Message>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never blocks: the semaphores leave room in the channel.
    fn send(&self, message: Message) -> Result<(), ProposeError> {
        match &*self.lock_sender() {
            Some(sender) => sender.try_send(message).map_err(|_| ProposeError::Closed),
            None => Err(ProposeError::Closed),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(sender) = self.lock_sender().take() {
            // An error means that the writer has ended already.
            let _ = sender.send(Message::Close(oneshot::channel().0));
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("store: the writer thread died");
        }
        self.shared.shut();
    }
}

/// Brings log and state together: a fresh store, the tail replayed, or a clear refusal.
fn recover(env: &Env, config: LogConfig) -> Result<(Log, Machine), OpenError> {
    let (applied, id) = {
        let snapshot = env.read()?;
        (snapshot.applied()?, snapshot.store_id()?)
    };
    let (applied, id) = match (applied, id) {
        (Some(applied), Some(id)) => (applied, id),
        _ => return begin(env, config),
    };
    match Log::recover(config.clone(), id, applied)? {
        Recovery::Absent => Err(foreign(
            &config,
            "the log is missing beside a state; put it back, or empty the whole directory and \
             restore a snapshot",
        )),
        Recovery::Whole(log, entries) => Ok((log, replay(env, applied, entries)?)),
        Recovery::Damaged(damage, entries, highest) => {
            if !damage.consent.exists() {
                return Err(OpenError::Damaged(damage));
            }
            tracing::warn!("store: going on without what was lost, as asked: {damage}");
            let mut machine = replay(env, applied, entries)?;
            let applied = machine.applied.max(highest) + LOSS_GAP;
            env.commit(&machine.overlay.freeze(), applied)?;
            let log = Log::create(config.clone(), id, applied + 1)?;
            log::set_aside(&config.dir, applied + 1, &damage.consent)?;
            Ok((log, Machine::new(applied)))
        }
    }
}

/// A fresh directory, or one whose first start was cut short.
fn begin(env: &Env, config: LogConfig) -> Result<(Log, Machine), OpenError> {
    let id = match Log::identify(&config.dir)? {
        None => {
            let id = fresh_id()?;
            Log::create(config.clone(), id, FIRST_REVISION + 1)?;
            id
        }
        Some((id, first)) if first == FIRST_REVISION + 1 => id,
        Some(_) => {
            let why = "the state is missing behind a log; put it back, or empty the whole \
                       directory and restore a snapshot";
            return Err(foreign(&config, why));
        }
    };
    env.initialise(id, FIRST_REVISION)?;
    match Log::recover(config.clone(), id, FIRST_REVISION)? {
        Recovery::Whole(log, entries) => Ok((log, replay(env, FIRST_REVISION, entries)?)),
        Recovery::Damaged(damage, ..) => Err(OpenError::Damaged(damage)),
        Recovery::Absent => Err(foreign(&config, "the log vanished while it was opened")),
    }
}

fn replay(env: &Env, applied: Revision, entries: Vec<LogEntry>) -> Result<Machine, OpenError> {
    let mut machine = Machine::new(applied);
    for LogEntry { index, command, .. } in entries {
        let verdict = machine.judge(env, &command)?;
        machine.apply(index, &command, &verdict);
    }
    Ok(machine)
}

fn foreign(config: &LogConfig, why: &str) -> OpenError {
    let path = config.dir.parent().unwrap_or(&config.dir).to_owned();
    OpenError::Foreign { path, why: why.to_owned() }
}

/// A number that tells this store's files from any other's.
pub(crate) fn fresh_id() -> Result<u64, OpenError> {
    let path = "/dev/urandom";
    let mut bytes = [0; 8];
    let read: io::Result<()> = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(OpenError::io("reading", path))?;
    Ok(u64::from_le_bytes(bytes))
}
