//! What sessions bring, on its way in: opened, put together, told from repetitions, and turned
//! into what the rest of edged understands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::bus::{Core, Incoming};
use crate::config::Role;
use crate::counters::Count;
use crate::fragments::{Joined, Joiner};
use crate::opener::{Opener, Reject};
use crate::presence::{Notice, Sign};
use crate::seal::{Header, Kind};
use crate::session::{End, Event};
use crate::topics::Topic;
use crate::twin::Word;

/// After a session is up, the retained hint of another leader has this long to arrive before
/// ours, if we lead, is said there again.
const SETTLE: Duration = Duration::from_millis(150);

/// How long the caller may keep a notice waiting.
const NOTICE: Duration = Duration::from_secs(1);

/// Nodes whose last beat is remembered.
const BEATS: usize = 2048;

/// See the module.
pub(crate) struct Receiver {
    core: Arc<Core>,
    opener: Opener,
    joiner: Joiner,
    incoming: mpsc::Sender<Incoming>,
    /// Last beats, for they come over several brokers.
    beats: BTreeMap<String, Bytes>,
    hint: Option<(String, Bytes)>,
    /// When to say our hint again to newly reached brokers.
    repeat: Option<Instant>,
}

impl Receiver {
    pub(crate) fn new(core: Arc<Core>, opener: Opener, incoming: mpsc::Sender<Incoming>) -> Self {
        let (joiner, beats) = (Joiner::default(), BTreeMap::new());
        Receiver { core, opener, joiner, incoming, beats, hint: None, repeat: None }
    }

    /// Runs until the bus is dropped.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<(u64, Event)>) {
        loop {
            let due = self.core.presence().next().into_iter().chain(self.repeat).min();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some((_, event)) => self.take(event).await,
                    None => return,
                },
                () = wait => self.due().await,
            }
        }
    }

    async fn due(&mut self) {
        let now = Instant::now();
        if self.repeat.is_some_and(|at| at <= now) {
            self.repeat = None;
            self.core.repeat_hint();
        }
        let notices = self.core.presence().due(now);
        for notice in notices {
            self.notify(Some(notice)).await;
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Up { broker, .. } => {
                self.core.hello(&broker);
                self.core.lookout.look.notify_one();
                self.repeat = Some(Instant::now() + SETTLE);
            }
            Event::Down { broker, end, .. } if self.core.me.role == Role::Server => {
                self.unreached(&broker, end).await;
            }
            Event::Down { .. } => {}
            Event::Message { broker, topic, payload, retained } => {
                let topic = String::from_utf8_lossy(&topic).into_owned();
                self.message(&broker, &topic, &payload, retained).await;
            }
        }
    }

    async fn message(&mut self, broker: &str, topic: &str, payload: &[u8], retained: bool) {
        let core = self.core.clone();
        let drops = &core.counts.drops;
        let (kind, under) = match core.topics.read(topic) {
            Some(Topic::Raft(to)) if to == core.me.name => (Kind::Raft, None),
            Some(Topic::Twin(node)) if node == core.me.name => return self.of_own(topic, payload),
            Some(Topic::Beat(node)) => (Kind::Beat, Some(node)),
            Some(Topic::Gone(node, at)) if at == broker => (Kind::Gone, Some(node)),
            Some(Topic::Leader) => (Kind::Leader, None),
            _ => return drops.malformed.one(),
        };
        let now = Instant::now();
        let (header, plain) = match self.opener.open(kind, topic, payload, retained, now) {
            Ok(opened) => opened,
            // What a broker retains comes again with each session: no attack.
            Err(Reject::Replayed) if retained => return,
            Err(reject) => return core.counts.of(reject).one(),
        };
        if under.is_some_and(|node| node != header.sender) {
            return drops.forged.one();
        }
        core.counts.received.one();
        let own = header.sender == core.me.name;
        if kind != Kind::Gone && !retained && !own {
            self.heard(&header, now).await;
        }
        match kind {
            Kind::Raft if own => self.twin(&header, &plain, broker),
            Kind::Raft => self.raft(header, plain, now),
            Kind::Beat => self.beat(header.sender, plain),
            // A hint of an earlier process of ours is nobody's.
            Kind::Leader if own && header.session != core.session => {}
            Kind::Leader => self.leader(header.sender, plain, own).await,
            Kind::Gone if !own && !retained => self.will(header, &plain, broker, now).await,
            Kind::Gone => {}
        }
    }

    /// Something new came from another board.
    async fn heard(&mut self, header: &Header, now: Instant) {
        let heard = self.core.presence().heard(&header.sender, sign(header), now);
        if heard.fresh {
            let session = self.core.paths().sessions.get(&header.sender).cloned();
            if let Some(session) = session {
                session.appeared(heard.anew);
            }
        }
        self.notify(heard.notice).await;
    }

    /// A session with a server's own broker ended, or did not begin.
    async fn unreached(&mut self, server: &str, end: End) {
        let refused = match end {
            End::Refused => true,
            End::Broke => false,
            End::Other => return,
        };
        let notice = self.core.presence().unreached(server, refused, Instant::now());
        self.notify(notice).await;
    }

    /// Something on the topic on which an agent's processes find each other. That it came before
    /// does no harm: whoever asks knows an answer to its own question.
    fn of_own(&self, topic: &str, payload: &[u8]) {
        let opened = self.opener.fresh().open(Kind::Beat, topic, payload, false, Instant::now());
        let (header, plain) = match opened {
            Ok(opened) => opened,
            Err(reject) => return self.core.counts.of(reject).one(),
        };
        let Some(Word::Question(nonce)) = Word::read(&plain) else { return };
        // Our own question comes here as well.
        if header.sender != self.core.me.name || nonce == self.core.lookout.nonce {
            return;
        }
        if header.start < self.core.start {
            self.core.lookout.look.notify_one();
        }
        tracing::warn!("another process with this board's identity is there");
        self.core.answer_twin("", &Word::Answer(nonce).write());
    }

    /// Somebody with this server's own identity asks whether we live.
    fn twin(&self, header: &Header, plain: &[u8], broker: &str) {
        let Some(Word::Question(nonce)) = Word::read(plain) else { return };
        if header.session == self.core.session {
            return;
        }
        tracing::warn!("another process with this server's identity wants to take part: refused");
        self.core.answer_twin(broker, &Word::Answer(nonce).write());
    }

    fn raft(&mut self, header: Header, plain: Bytes, now: Instant) {
        let before = self.joiner.incomplete;
        match self.joiner.take(&header.sender, header.session, plain, now) {
            Joined::Whole(message) => self.give(Incoming::Raft { from: header.sender, message }),
            Joined::Waiting => {}
            Joined::Malformed => self.core.counts.drops.malformed.one(),
        }
        self.core.counts.drops.incomplete.add(self.joiner.incomplete - before);
    }

    fn beat(&mut self, node: String, payload: Bytes) {
        // An empty one only says that the sender is there; the same again came another way.
        if payload.is_empty() || self.beats.get(&node) == Some(&payload) {
            return;
        }
        if self.beats.len() >= BEATS {
            self.beats.clear();
        }
        self.beats.insert(node.clone(), payload.clone());
        self.give(Incoming::Beat { node, payload });
    }

    async fn leader(&mut self, from: String, payload: Bytes, own: bool) {
        let hint = (from, payload);
        if self.hint.as_ref() == Some(&hint) {
            return;
        }
        if !own {
            self.core.forget_hint();
        }
        self.hint = Some(hint.clone());
        let (from, payload) = hint;
        self.tell(Incoming::Leader { from, payload }).await;
    }

    async fn will(&mut self, header: Header, plain: &[u8], broker: &str, now: Instant) {
        let role = match plain {
            b"s" => Role::Server,
            b"a" => Role::Agent,
            _ => return self.core.counts.drops.malformed.one(),
        };
        let sign = sign(&header);
        let notice = self.core.presence().will(&header.sender, role, sign, broker, now);
        self.notify(notice).await;
    }

    async fn notify(&mut self, notice: Option<Notice>) {
        match notice {
            Some(Notice::Gone(name)) => self.tell(Incoming::Gone { name }).await,
            Some(Notice::Back(name)) => self.tell(Incoming::Back { name }).await,
            Some(Notice::Ended(name)) => self.tell(Incoming::Ended { name }).await,
            None => {}
        }
    }

    /// Hands over what may be lost: a full queue drops it.
    fn give(&self, incoming: Incoming) {
        if self.incoming.try_send(incoming).is_err() {
            self.core.counts.drops.queue_full.one();
        }
    }

    /// Hands over what is said only once: waits a while for room.
    async fn tell(&self, incoming: Incoming) {
        if self.incoming.send_timeout(incoming, NOTICE).await.is_err() {
            self.core.counts.drops.queue_full.one();
        }
    }
}

fn sign(header: &Header) -> Sign {
    Sign { session: header.session, start: header.start, connection: header.connection }
}

/// Counters of a bus.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) sent: Count,
    pub(crate) received: Count,
    pub(crate) drops: DropCounts,
}

/// Counters of drops.
#[derive(Default)]
pub(crate) struct DropCounts {
    pub(crate) oversized: Count,
    pub(crate) malformed: Count,
    pub(crate) forged: Count,
    pub(crate) replayed: Count,
    pub(crate) queue_full: Count,
    pub(crate) no_path: Count,
    pub(crate) incomplete: Count,
}

impl Counts {
    fn of(&self, reject: Reject) -> &Count {
        match reject {
            Reject::Malformed => &self.drops.malformed,
            Reject::Forged => &self.drops.forged,
            Reject::Replayed => &self.drops.replayed,
            Reject::Full => &self.drops.queue_full,
        }
    }
}
