//! The handle that everybody holds: opening, closing, proposing, reading.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use edge_core::consensus::{Change, Index, MemberId, MemberInfo, Refusal, Standing, Tuning};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::brain::Engine;
use crate::command::{Applied, Command};
use crate::entry::{Entry, ListOptions, Listing, Revision};
use crate::error::{
    BarrierError, ChangeError, Gone, OpenError, ProposeError, ReadError, SnapshotError,
};
use crate::event::{Event, Proposal};
use crate::hand::Hand;
use crate::home::{self, Home};
use crate::install;
use crate::limits::{
    PROPOSAL_BYTES_MAX, PROPOSAL_OVERHEAD, PROPOSALS_MAX, SEGMENT_BYTES, SLACK_BYTES,
};
use crate::log::disk::{Disk, RealDisk};
use crate::log::{Counters, LogConfig};
use crate::machine::Verdict;
use crate::mind::{Begin, Mind};
use crate::open::{Opener, open};
use crate::watch::Watch;
use crate::writer::Writer;
use crate::{read, snapshot};

/// The way to the other members.
pub trait Peers: Send + Sync {
    /// Sends a message; never waits. What is lost is sent again by whoever needs it.
    fn send(&self, to: MemberId, message: Bytes);

    /// A snapshot of `from`'s state, of revision `at` or later. Blocks; on a thread of its own.
    fn fetch(&self, from: MemberId, at: Index) -> Result<Box<dyn Read + Send>, String>;
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, _to: MemberId, _message: Bytes) {}

    fn fetch(&self, _from: MemberId, _at: Index) -> Result<Box<dyn Read + Send>, String> {
        Err("this server has no others".to_owned())
    }
}

/// What a fresh directory becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// A cluster of its own.
    #[default]
    Found,
    /// An empty member, which waits for a leader to fill it.
    Join,
}

/// How a store is kept.
#[derive(Clone)]
pub struct Options {
    /// The size of a log segment.
    pub segment_bytes: u64,
    /// What makes the log durable.
    pub disk: Arc<dyn Disk>,
    /// Who this member is. A directory belongs to one member for ever.
    pub me: MemberInfo,
    /// What a fresh directory becomes.
    pub founding: Founding,
    /// The way to the other members.
    pub peers: Arc<dyn Peers>,
    /// The cluster's timing.
    pub tuning: Tuning,
    /// Decides, with the member's id, when it stands for election.
    pub seed: u64,
    /// This member has had a store: it has voted and acknowledged, so that one that is missing is
    /// refused, and not begun anew.
    pub begun: bool,
}

impl Default for Options {
    fn default() -> Options {
        let (name, api, broker) = ("lone".to_owned(), String::new(), String::new());
        Options {
            segment_bytes: SEGMENT_BYTES,
            disk: Arc::new(RealDisk),
            me: MemberInfo { id: 1, name, api, broker },
            founding: Founding::Found,
            peers: Arc::new(NoPeers),
            tuning: Tuning::default(),
            seed: 1,
            begun: false,
        }
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

/// A store; clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    waiting: Arc<Semaphore>,
    waiting_bytes: Arc<Semaphore>,
    counters: Arc<Counters>,
    standing: watch::Receiver<Arc<Standing>>,
}

impl Store {
    /// Opens the store in `dir`, or makes one; blocks while it reads the log back. A lone member
    /// leads when this returns, unless its disk has no room for that.
    pub fn open(dir: &Path, options: Options) -> Result<Store, OpenError> {
        if options.begun {
            home::expect(dir)?;
        }
        let home = Home::take(dir)?;
        if dir.join(install::UNFINISHED).exists() {
            let why = "an unfinished restore; empty the directory and restore again".to_owned();
            return Err(OpenError::Foreign { path: dir.to_owned(), why });
        }
        let Options { segment_bytes, disk, me, founding, peers, tuning, seed, begun } = options;
        let config = LogConfig { dir: home.log(), disk, segment_bytes };
        let id = me.id;
        let opener = Opener { me, founding, begun, config, fresh: fresh_id()? };
        let (replica, start) = open(home.clone(), &opener)?;
        let (shared, counters) = (replica.shared.clone(), replica.log.counters.clone());
        let hand = Hand::new(replica);
        let begin = Begin {
            me: id,
            tuning,
            seed,
            slack: SLACK_BYTES.min(segment_bytes / 8),
            status: hand.status(),
            dir: dir.to_owned(),
        };
        let mind = Mind::new(begin, start)
            .map_err(|error| OpenError::Foreign { path: dir.to_owned(), why: error.to_string() })?;
        let tick = Duration::from_millis(tuning.tick_ms);
        let engine = Arc::new(Engine::new(mind, shared, peers, home, tick));
        let mut writer = Writer::new(engine.clone(), hand);
        engine.pump([]);
        writer.settle();
        let standing = engine.standing.subscribe();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(OpenError::io("starting a thread of", dir))
        };
        let brain = engine.clone();
        let threads = vec![
            spawn("store", Box::new(move || writer.run()))?,
            spawn("store-brain", Box::new(move || brain.run()))?,
        ];
        Ok(Store {
            inner: Arc::new(Inner {
                engine,
                threads: Mutex::new(threads),
                waiting: Arc::new(Semaphore::new(PROPOSALS_MAX)),
                waiting_bytes: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX)),
                counters,
                standing,
            }),
        })
    }

    /// Asks for a command; answers once it is durable with a majority and applied here, or did
    /// not happen, or its outcome can't be known.
    ///
    /// A caller that stops waiting does not take the command back.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        command.check()?;
        if let Some(conflict) = self.certain_conflict(&command)? {
            return Err(conflict);
        }
        let size = (command.weight() + PROPOSAL_OVERHEAD) as u32;
        let closed = |_| ProposeError::Closed;
        let bytes = self.inner.waiting_bytes.clone().acquire_many_owned(size).await;
        let bytes = bytes.map_err(closed)?;
        let turn = self.inner.waiting.clone().acquire_owned().await.map_err(closed)?;
        let (answer, answered) = oneshot::channel();
        let (data, held) = (Bytes::from(command.encode()), Some((turn, bytes)));
        let proposal = Proposal { command, data, answer, _held: held };
        self.inner.engine.tell(Event::Propose(proposal));
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// What certainly conflicts spares the log an entry. Only where this member is alone is its
    /// own state the newest; elsewhere the log decides.
    fn certain_conflict(&self, command: &Command) -> Result<Option<ProposeError>, ProposeError> {
        let shared = &self.inner.engine.shared;
        if !shared.alone.load(Ordering::SeqCst) || !command.has_expectations() {
            return Ok(None);
        }
        let state = shared.read();
        let Some(base) = state.base.clone() else { return Err(ProposeError::Closed) };
        match state.machine.judge(&base, command) {
            Ok(Verdict::Conflict { key, found }) => Ok(Some(ProposeError::Conflict { key, found })),
            Ok(Verdict::Holds(_)) => Ok(None),
            Err(error) => {
                Err(ProposeError::Broken { detail: format!("judging a command: {error}") })
            }
        }
    }

    /// Hands a message of another member over; never waits, and drops it when too many do.
    pub fn deliver(&self, from: MemberId, message: Bytes) {
        self.inner.engine.deliver(from, message);
    }

    /// Where this member stands, always the newest.
    pub fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.inner.standing.clone()
    }

    /// A linearizable read point: whatever was acknowledged anywhere before the call is visible
    /// here when it returns. Fails within about two seconds if no leader confirms.
    pub async fn barrier(&self) -> Result<Revision, BarrierError> {
        if self.inner.engine.shared.alone.load(Ordering::SeqCst) {
            return Ok(self.revision());
        }
        let (answer, answered) = oneshot::channel();
        if !self.inner.engine.request(Event::Barrier(answer)) {
            return Err(BarrierError::Timeout);
        }
        answered.await.unwrap_or(Err(BarrierError::Closed))
    }

    /// Changes the members; only the leader can. Answers when the change is applied here.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        self.ask(|answer| Event::Change { change, answer }).await
    }

    /// Has another member lead: this one, or the one that has most of the log. Answers when this
    /// member does not lead any more.
    pub async fn transfer(&self, to: Option<MemberId>) -> Result<(), ChangeError> {
        self.ask(|answer| Event::Transfer { to, answer }).await
    }

    async fn ask(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<(), ChangeError>>) -> Event,
    ) -> Result<(), ChangeError> {
        let (answer, answered) = oneshot::channel();
        if !self.inner.engine.request(event(answer)) {
            return Err(ChangeError::Refused(Refusal::Busy));
        }
        answered.await.unwrap_or(Err(ChangeError::Closed))
    }

    /// Two brokers saw this member's last will: if it leads, its heirs need not wait.
    pub fn gone(&self, member: MemberId) {
        // With so much waiting, a hint more or less makes no difference.
        self.inner.engine.request(Event::Gone(member));
    }

    /// What was last sent to this member did not arrive.
    pub fn unreachable(&self, member: MemberId) {
        // As above.
        self.inner.engine.request(Event::Unreachable(member));
    }

    /// A member has fetched its snapshot from here, or failed to.
    pub fn snapshot_sent(&self, to: MemberId, ok: bool) {
        self.inner.engine.tell(Event::SnapshotSent { to, ok });
    }

    /// Reads one key.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, ReadError> {
        read::get(&self.inner.engine.shared, key)
    }

    /// Lists the keys that begin with `prefix`.
    pub fn list(&self, prefix: &str, options: ListOptions) -> Result<Listing, ReadError> {
        read::list(&self.inner.engine.shared, prefix, &options)
    }

    /// Watches the keys that begin with `prefix`: every event after `from`, each once, in order.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Gone> {
        Watch::begin(self.inner.engine.shared.clone(), prefix, from)
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.inner.engine.shared.read().machine.revision()
    }

    /// Forgets the history up to `revision`: older watches and lists are told to begin again.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.inner.engine.shared.write();
        let revision = revision.min(state.machine.revision());
        state.machine.history.forget(revision);
    }

    /// Writes every key and value as of one revision, checksummed and independent of the board,
    /// and answers that revision. Blocks; give it a fast writer.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<Revision, SnapshotError> {
        Ok(self.export(out)?.0)
    }

    /// [`Store::snapshot`]; answers the number of keys as well.
    pub fn export(&self, out: &mut dyn Write) -> Result<(Revision, u64), SnapshotError> {
        snapshot::write(&self.inner.engine.shared, out)
    }

    /// What the store has done and holds.
    pub fn stats(&self) -> Stats {
        let state = self.inner.engine.shared.read();
        Stats {
            revision: state.machine.revision(),
            oldest: state.machine.history.floor(),
            log_bytes: self.inner.counters.bytes.load(Ordering::Relaxed),
            log_syncs: self.inner.counters.syncs.load(Ordering::Relaxed),
            commits: state.commits,
            overlay_bytes: state.machine.overlay.bytes() as u64,
        }
    }

    /// Bytes that the state takes on the disk, without the log; 0 when it is closed.
    pub fn state_bytes(&self) -> u64 {
        self.inner.engine.shared.read().base.as_ref().map_or(0, |base| base.size())
    }

    /// Answers what was proposed, ends all watches and lets go of the directory.
    pub async fn close(&self) {
        let (done, finished) = oneshot::channel();
        self.inner.engine.tell(Event::Close(done));
        // An error means that the threads have ended already.
        let _ = finished.await;
        self.inner.waiting.close();
        self.inner.waiting_bytes.close();
        self.inner.engine.end();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.engine.tell(Event::Close(oneshot::channel().0));
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("store: one of its threads died");
            }
        }
        self.engine.end();
        self.engine.shared.shut();
    }
}

#[cfg(test)]
mod tests;

/// A number that tells this store's files from any other's.
pub(crate) fn fresh_id() -> Result<u64, OpenError> {
    let path = "/dev/urandom";
    let mut bytes = [0; 8];
    let read: io::Result<()> = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(OpenError::io("reading", path))?;
    Ok(u64::from_le_bytes(bytes))
}
