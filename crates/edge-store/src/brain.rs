//! The thread that decides, and the ways to it. It steps the mind for whatever arrives, and once
//! a tick while anything waits for time; a lone voter's sleeps until it is asked something.
//!
//! The mind is behind a mutex that is held for a step and never over a disk's work, so that the
//! writer, when a batch is durable, goes on at once with what follows from it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_core::consensus::{Fetch, MemberId, Standing};
use tokio::sync::watch;

use crate::event::{Done, Event, Status, Work};
use crate::home::Home;
use crate::install;
use crate::limits::{MESSAGE_BYTES_MAX, MESSAGES_MAX, REQUESTS_MAX};
use crate::mailbox::Mailbox;
use crate::mind::Mind;
use crate::shared::Shared;
use crate::store::{Peers, fresh_id};

/// What the brain's thread, the writer's and the callers share.
pub(crate) struct Engine {
    mind: Mutex<Mind>,
    inbox: Mailbox<Event>,
    pub(crate) work: Mailbox<Work>,
    pub(crate) standing: watch::Sender<Arc<Standing>>,
    pub(crate) shared: Arc<Shared>,
    peers: Arc<dyn Peers>,
    /// Until the end, for snapshots that are built beside the state.
    home: Mutex<Option<Home>>,
    tick: Duration,
    messages: AtomicUsize,
    message_bytes: AtomicUsize,
    requests: AtomicUsize,
}

impl Engine {
    pub(crate) fn new(
        mind: Mind,
        shared: Arc<Shared>,
        peers: Arc<dyn Peers>,
        home: Home,
        tick: Duration,
    ) -> Engine {
        let standing = watch::Sender::new(mind.standing().clone());
        Engine {
            mind: Mutex::new(mind),
            inbox: Mailbox::new(),
            work: Mailbox::new(),
            standing,
            shared,
            peers,
            home: Mutex::new(Some(home)),
            tick,
            messages: AtomicUsize::new(0),
            message_bytes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        }
    }

    /// Hands a message over, or drops it: whoever sent it sends what matters again.
    pub(crate) fn deliver(&self, from: MemberId, bytes: Bytes) {
        let size = bytes.len();
        let full = self.messages.fetch_add(1, Ordering::AcqRel) >= MESSAGES_MAX
            || self.message_bytes.load(Ordering::Acquire) + size > MESSAGE_BYTES_MAX;
        if full {
            self.messages.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        self.message_bytes.fetch_add(size, Ordering::AcqRel);
        self.inbox.put([Event::Message { from, bytes }]);
    }

    /// Hands a request over that has no bound of its own; answers false if too many wait.
    pub(crate) fn request(&self, event: Event) -> bool {
        if self.requests.fetch_add(1, Ordering::AcqRel) >= REQUESTS_MAX {
            self.requests.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.inbox.put([event]);
        true
    }

    /// Hands something over of which there is never much.
    pub(crate) fn tell(&self, event: Event) {
        self.inbox.put([event]);
    }

    fn account(&self, event: &Event) {
        match event {
            Event::Message { bytes, .. } => {
                self.messages.fetch_sub(1, Ordering::AcqRel);
                self.message_bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
            }
            Event::Barrier(_)
            | Event::Change { .. }
            | Event::Transfer { .. }
            | Event::Gone(_)
            | Event::Unreachable(_) => {
                self.requests.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }

    /// Steps the mind through `events` and whatever waits, and has done what it says. Answers
    /// whether it needs ticks, and whether all is over.
    pub(crate) fn pump(
        self: &Arc<Engine>,
        events: impl IntoIterator<Item = Event>,
    ) -> (bool, bool) {
        let mut mind = self.mind.lock().unwrap_or_else(PoisonError::into_inner);
        let ticked = mind.needs_ticks();
        events.into_iter().for_each(|event| mind.step(event));
        let waiting: VecDeque<Event> = self.inbox.take();
        for event in waiting {
            self.account(&event);
            mind.step(event);
        }
        let effects = mind.settle();
        // Before anything that could make another member a voter leaves this one.
        self.shared.alone.store(mind.is_alone(), Ordering::SeqCst);
        self.work.put(effects.work);
        for (to, message) in effects.send {
            self.peers.send(to, message);
        }
        if let Some(standing) = effects.standing {
            self.standing.send_replace(standing);
        }
        for answer in effects.handed_over {
            // Whoever waits may have stopped waiting.
            let _ = answer.send(Ok(()));
        }
        let answer = (mind.needs_ticks(), mind.is_closed());
        // Whoever took this step: the brain's thread sleeps for good, or is about to.
        if (answer.0 && !ticked) || answer.1 {
            self.inbox.nudge();
        }
        drop(mind);
        if let Some(fetch) = effects.fetch {
            self.fetch(fetch);
        }
        answer
    }

    /// All is over: nothing is taken any more, and the directory is let go.
    pub(crate) fn end(&self) {
        self.inbox.close();
        self.home.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// What the writer did, and how its files stand now.
    pub(crate) fn done(self: &Arc<Engine>, done: Done, status: Status) {
        self.pump([Event::Done(done, status)]);
    }

    /// Works until the store is closed.
    pub(crate) fn run(self: Arc<Engine>) {
        let mut next = Instant::now() + self.tick;
        let (mut ticking, mut over) = self.pump([]);
        while !over {
            self.inbox.wait(ticking.then_some(next));
            let now = Instant::now();
            // However long this thread was held up, one tick has passed: a member that was
            // stopped for a while must hear the others before it thinks they are gone.
            let due = ticking && now >= next;
            let was = ticking;
            (ticking, over) = self.pump(due.then_some(Event::Tick));
            if due || !was {
                next = now + self.tick;
            }
        }
        self.end();
    }

    /// Fetches a snapshot and builds a state from it, on a thread that lives as long as that.
    fn fetch(self: &Arc<Engine>, fetch: Fetch) {
        let engine = self.clone();
        let work = move || {
            let built = engine.build(fetch);
            engine.tell(Event::Fetched(built));
        };
        if let Err(error) = std::thread::Builder::new().name("store-fetch".to_owned()).spawn(work) {
            let why = format!("fetching a snapshot: starting a thread: {error}");
            self.tell(Event::Fetched(Err(why)));
        }
    }

    fn build(&self, fetch: Fetch) -> Result<install::Built, String> {
        let mut input = self
            .peers
            .fetch(fetch.from, fetch.index)
            .map_err(|error| format!("fetching a snapshot: {error}"))?;
        let store = fresh_id().map_err(|error| error.to_string())?;
        let home = self.home.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let home = home.ok_or_else(|| "fetching a snapshot: the store is closed".to_owned())?;
        let built = install::build(&home, store, &mut *input);
        let built = built.map_err(|error| format!("fetching a snapshot: {error}"))?;
        if built.head.index < fetch.index {
            let revision = built.head.index;
            built.discard();
            return Err(format!(
                "fetching a snapshot: it is of revision {revision}, and {} is needed",
                fetch.index
            ));
        }
        Ok(built)
    }
}
