//! The bus as the rest of edged sees it: send, beat, lead, and what comes in.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::config::{Config, Me, Role, StartError};
use crate::counters::{BrokerCounters, Counters, Drops};
use crate::fragments::{PART, split};
use crate::keys::{Keys, Secret};
use crate::opener::Opener;
use crate::paths::{Path, Paths};
use crate::presence::Presence;
use crate::receiver::{Counts, Receiver};
use crate::seal::{Kind, Place, Sealer};
use crate::session::{Refused, SessionCounts};
use crate::sessions;
use crate::topics::{Topics, valid_level};
use crate::twin::{self, Lookout};

/// Messages that may wait for the caller.
const INCOMING: usize = 4096;

/// What sessions brought and has not been opened yet.
const EVENTS: usize = 1024;

/// What the bus brings. Only what was sealed by its sender and is new gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A raft message for this server.
    Raft {
        /// The server that sent it.
        from: String,
        /// The message.
        message: Bytes,
    },
    /// A node's beat (servers only).
    Beat {
        /// The node.
        node: String,
        /// Its beat.
        payload: Bytes,
    },
    /// The leader's hint, retained by brokers: it may be old. The leader gets its own as well.
    Leader {
        /// The server that gave it.
        from: String,
        /// The hint.
        payload: Bytes,
    },
    /// A board's sessions ended without a good-bye: of a server as two witnesses saw it within two
    /// seconds, of an agent as its one broker saw it. A hint, not a proof.
    Gone {
        /// The board.
        name: String,
    },
    /// A board that was gone was heard again.
    Back {
        /// The board.
        name: String,
    },
    /// A board's process has ended, well or badly, or been followed by another one. Said in place
    /// of `Gone`, or before it. A hint, not a proof.
    Ended {
        /// The board.
        name: String,
    },
}

/// Sessions with brokers, the embedded broker, and sealing. Dropping it ends them without a
/// good-bye (brokers publish the wills); [`Bus::close`] says one.
pub struct Bus {
    core: Arc<Core>,
    broker: Option<Broker>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the handle and the tasks of a bus share.
pub(crate) struct Core {
    pub(crate) cluster: String,
    pub(crate) me: Me,
    pub(crate) topics: Topics,
    /// Random number of this process.
    pub(crate) session: u64,
    /// When this process began, by its own clock.
    pub(crate) start: u64,
    pub(crate) lookout: Lookout,
    pub(crate) counts: Counts,
    pub(crate) sessions: Arc<SessionCounts>,
    pub(crate) connections: Arc<AtomicU32>,
    raft: Option<Sealer>,
    beat: Sealer,
    leader: Sealer,
    gone: Sealer,
    parts: AtomicU32,
    paths: Mutex<Paths>,
    presence: Mutex<Presence>,
    /// Our last beat, said again on a new connection: the lost one may have taken it along.
    last_beat: Mutex<Bytes>,
    /// Our hint while we lead.
    hint: Mutex<Option<Bytes>>,
}

impl Bus {
    /// Starts the embedded broker, if any, and the sessions. Returns at once: sessions come up,
    /// and come back, in the background.
    ///
    /// # Errors
    /// Names that can't be in topics, missing keys, an address that is taken.
    pub async fn start(config: Config) -> Result<(Bus, mpsc::Receiver<Incoming>), StartError> {
        let core = Arc::new(Core::new(&config)?);
        let broker = match config.embedded.filter(|_| config.external.is_empty()) {
            Some(listen) => Some(Broker::start(&config.cluster, listen, config.tls.clone()).await?),
            None => None,
        };
        let (events, brought) = mpsc::channel(EVENTS);
        let (sender, receiver) = mpsc::channel(INCOMING);
        let opener = Opener::new(&core.cluster, &core.me.name, config.keys.clone());
        let receiving = Receiver::new(core.clone(), opener, sender).run(brought);
        let mut tasks = vec![tokio::spawn(receiving)];
        if let Some(broker) = &broker {
            tasks.push(sessions::at_own_broker(&core, broker.hub(), events.clone()));
        }
        if config.me.role == Role::Agent {
            tasks.push(tokio::spawn(twin::look_out(core.clone(), config.clone())));
        }
        tasks.push(tokio::spawn(sessions::follow(core.clone(), config, events)));
        Ok((Bus { core, broker, tasks }, receiver))
    }

    /// Sends a raft message to server `to`. Never blocks; what can't be sent is dropped and
    /// counted.
    pub fn send(&self, to: &str, message: Bytes) {
        let (core, drops) = (&self.core, &self.core.counts.drops);
        let Some(sealer) = &core.raft else { return drops.no_path.one() };
        if !valid_level(to) {
            return drops.no_path.one();
        }
        let topic = core.topics.raft(to);
        let path = core.paths().to(to, &core.presence());
        let Some(path) = path else { return drops.no_path.one() };
        let place = Place { cluster: &core.cluster, topic: &topic, receiver: to };
        let id = core.parts.fetch_add(1, Ordering::Relaxed);
        let fits = split(&message, id, |head, body| {
            let sealed = sealer.seal(&place, path.connection(), &[head, body]);
            core.publish(&path, &topic, sealed, false);
        });
        if !fits {
            drops.oversized.one();
        }
    }

    /// Publishes this node's beat. Never blocks.
    pub fn beat(&self, payload: Bytes) {
        if payload.is_empty() || payload.len() > PART {
            return self.core.counts.drops.oversized.one();
        }
        let paths = self.core.paths().to_servers();
        if paths.is_empty() {
            self.core.counts.drops.no_path.one();
        }
        for path in paths {
            self.core.publish_beat(&path, &payload);
        }
        *self.core.last_beat() = payload;
    }

    /// Publishes the leader's hint, which brokers retain until the next; it is said again to
    /// brokers that are reached later, until another leader is heard of. Never blocks.
    pub fn lead(&self, payload: Bytes) {
        if payload.is_empty() || payload.len() > PART {
            return self.core.counts.drops.oversized.one();
        }
        *self.core.hint() = Some(payload);
        self.core.repeat_hint();
    }

    /// This server leads no more: its hint is not said again.
    pub fn step_down(&self) {
        self.core.forget_hint();
    }

    /// Ends all sessions of a board at the embedded broker: its certificate was revoked. That it
    /// does not come back is the TLS configuration's to see to. Returns how many there were.
    pub fn evict(&self, name: &str) -> usize {
        self.broker.as_ref().map_or(0, |broker| broker.hub().evict(name))
    }

    /// Tells an agent where another process of its name was met that began before this one: this
    /// one is to end.
    pub fn doubled(&self) -> watch::Receiver<Option<String>> {
        self.core.lookout.doubled.subscribe()
    }

    /// Where the embedded broker listens.
    pub fn broker_address(&self) -> Option<std::net::SocketAddr> {
        self.broker.as_ref().map(Broker::address)
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let drops = &self.core.counts.drops;
        let sessions = self.core.paths().sessions.values().filter(|s| s.is_up()).count();
        Counters {
            sent: self.core.counts.sent.get(),
            received: self.core.counts.received.get(),
            drops: Drops {
                oversized: drops.oversized.get(),
                malformed: drops.malformed.get(),
                forged: drops.forged.get(),
                replayed: drops.replayed.get(),
                queue_full: drops.queue_full.get() + self.core.sessions.forgotten.get(),
                no_path: drops.no_path.get(),
                incomplete: drops.incomplete.get(),
            },
            sessions: sessions as u64,
            connects: self.core.sessions.connects.get(),
            disconnects: self.core.sessions.disconnects.get(),
            broker: self.broker.as_ref().map_or(BrokerCounters::default(), Broker::counters),
        }
    }

    /// Ends all sessions with a good-bye, so that no will is published, and the embedded broker.
    pub async fn close(&self) {
        let paths = std::mem::take(&mut *self.core.paths());
        let closing = paths
            .sessions
            .into_values()
            .map(|session| tokio::spawn(async move { session.close().await }));
        for closed in closing.collect::<Vec<_>>() {
            let _ = closed.await;
        }
        // Not before: a session that nobody listens to ends at the next message, and without a
        // good-bye.
        for task in &self.tasks {
            task.abort();
        }
        self.core.paths().sessions.clear();
        if let Some(own) = paths.own {
            own.leave();
        }
        if let Some(broker) = &self.broker {
            broker.close().await;
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        *self.core.paths() = Paths::default();
    }
}

impl Core {
    fn new(config: &Config) -> Result<Core, StartError> {
        let name = &config.me.name;
        for (what, value) in [("cluster", &config.cluster), ("name", name)] {
            if !valid_level(value) {
                return Err(StartError::Name { what, value: value.clone() });
            }
        }
        let keys: &Keys = &config.keys;
        if config.me.role == Role::Server && keys.raft.is_none() {
            return Err(StartError::NoKey { what: "key that servers share" });
        }
        let session = crate::random::try_number().ok_or(StartError::Random)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let start = now.as_millis() as u64;
        let sealer = |key: &Secret, kind| Sealer::new(key, kind, name, session, start);
        let beat = keys.beat(name, name).ok_or(StartError::NoKey { what: "beat key" })?;
        Ok(Core {
            cluster: config.cluster.clone(),
            me: config.me.clone(),
            topics: Topics::new(&config.cluster),
            session,
            start,
            lookout: Lookout::new()?,
            counts: Counts::default(),
            sessions: Arc::default(),
            connections: Arc::default(),
            raft: keys.raft.map(|key| sealer(&Secret(key), Kind::Raft)),
            beat: sealer(&beat, Kind::Beat),
            leader: sealer(&Secret(keys.leader), Kind::Leader),
            gone: sealer(&beat, Kind::Gone),
            parts: AtomicU32::new(0),
            paths: Mutex::default(),
            presence: Mutex::default(),
            last_beat: Mutex::default(),
            hint: Mutex::new(None),
        })
    }

    pub(crate) fn paths(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.hint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_beat(&self) -> MutexGuard<'_, Bytes> {
        self.last_beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, path: &Path, topic: &str, sealed: Bytes, retain: bool) {
        match path.publish(topic, sealed, retain) {
            Ok(()) => self.counts.sent.one(),
            Err(Refused::Full) => self.counts.drops.queue_full.one(),
            Err(Refused::Down) => self.counts.drops.no_path.one(),
        }
    }

    fn publish_beat(&self, path: &Path, payload: &[u8]) {
        let topic = self.topics.beat(&self.me.name);
        let place = Place { cluster: &self.cluster, topic: &topic, receiver: "" };
        let sealed = self.beat.seal(&place, path.connection(), &[payload]);
        self.publish(path, &topic, sealed, false);
    }

    /// Says on a new connection that we are there: the last beat, or an empty one.
    pub(crate) fn hello(&self, broker: &str) {
        let session = {
            let paths = self.paths();
            paths.sessions.get(broker).or_else(|| paths.sessions.values().next()).cloned()
        };
        if let Some(session) = session {
            let last = self.last_beat().clone();
            self.publish_beat(&Path::Remote(session), &last);
        }
    }

    /// Says something to our own name at this broker, where another process of it listens.
    pub(crate) fn answer_twin(&self, broker: &str, word: &[u8]) {
        let me = self.me.name.as_str();
        let path = match self.me.role {
            Role::Server => self.paths().at(broker, me),
            Role::Agent => self.paths().all().into_iter().next(),
        };
        let Some(path) = path else { return self.counts.drops.no_path.one() };
        let (sealer, topic, receiver) = match &self.raft {
            Some(sealer) => (sealer, self.topics.raft(me), me),
            None => (&self.beat, self.topics.twin(me), ""),
        };
        let place = Place { cluster: &self.cluster, topic: &topic, receiver };
        let sealed = sealer.seal(&place, path.connection(), &[word]);
        self.publish(&path, &topic, sealed, false);
    }

    /// Publishes our hint, if we have one, everywhere.
    pub(crate) fn repeat_hint(&self) {
        let Some(payload) = self.hint().clone() else { return };
        let topic = self.topics.leader();
        let place = Place { cluster: &self.cluster, topic: &topic, receiver: "" };
        let paths = self.paths().all();
        for path in paths {
            let sealed = self.leader.seal(&place, path.connection(), &[&payload]);
            self.publish(&path, &topic, sealed, true);
        }
    }

    pub(crate) fn forget_hint(&self) {
        *self.hint() = None;
    }

    /// The will of a connection with `broker`.
    pub(crate) fn will(&self, broker: &str, connection: u32) -> crate::session::Testament {
        let topic = self.topics.gone(&self.me.name, broker);
        let place = Place { cluster: &self.cluster, topic: &topic, receiver: "" };
        let role: &[u8] = if self.me.role == Role::Server { b"s" } else { b"a" };
        let payload = self.gone.seal(&place, connection, &[role]);
        crate::session::Testament { topic, payload }
    }

    /// What this board subscribes to, at every broker.
    pub(crate) fn filters(&self) -> Vec<(String, u8)> {
        let topics = &self.topics;
        let mut filters = vec![(topics.leader(), 0)];
        if self.me.role == Role::Agent {
            filters.push((topics.twin(&self.me.name), 0));
        } else {
            filters.push((topics.raft(&self.me.name), 0));
            filters.push((topics.beat("+"), 0));
            filters.push((topics.gone("+", "+"), 0));
        }
        filters
    }
}
