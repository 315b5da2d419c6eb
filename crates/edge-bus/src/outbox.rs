//! The queue in front of a connection: bounded in messages and in bytes, never waited for by
//! those who put something in. The broker has one for each client, a session has one for itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode as Reason, Packet};
use tokio::sync::Notify;

use crate::packet::{Manner, Message, put, put_publish};

/// Messages that a queue holds.
pub(crate) const MESSAGES: usize = 8192;

/// Bytes that a queue holds.
pub(crate) const BYTES: usize = 8 * 1024 * 1024;

/// Answers (acknowledgements, pongs) that may wait; beyond, their client is not read.
const ANSWERS: usize = 512;

/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;

/// What came of putting a message in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It waits.
    Taken,
    /// It waits, but the queue is more than half full: hold back if you can.
    Crowded,
    /// There was no room.
    Full,
    /// Its receiver takes no packets of that size.
    TooLarge,
    /// The connection has ended.
    Closed,
}

/// What a writer does next.
pub(crate) enum Next {
    /// The batch holds bytes.
    Write,
    /// There is nothing to write: wait.
    Wait,
    /// Nothing will come any more; say this.
    Close(Reason),
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Arc<Message>, Manner)>,
    answers: VecDeque<Packet>,
    bytes: usize,
    /// Sent at QoS 1 and not acknowledged.
    inflight: VecDeque<(u16, Arc<Message>, bool)>,
    window: usize,
    last_id: u16,
    /// Messages that left since the start: progress.
    taken: u64,
    lagging: bool,
    closed: Option<Reason>,
}

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
    space: Notify,
    /// Bytes in all queues of a broker, with their bound.
    shared: Arc<Shared>,
    /// Bytes of the largest packet that the peer takes.
    largest: usize,
}

/// What all queues of a broker share.
pub(crate) struct Shared {
    bytes: AtomicUsize,
    limit: usize,
}

impl Shared {
    pub(crate) fn new(limit: usize) -> Arc<Shared> {
        Arc::new(Shared { bytes: AtomicUsize::new(0), limit })
    }
}

impl Outbox {
    /// `window`: messages at QoS 1 that may be under way at once.
    pub(crate) fn new(shared: Arc<Shared>, window: u16, largest: usize) -> Arc<Outbox> {
        let state = State { window: usize::from(window.max(1)), ..State::default() };
        let (ready, space) = (Notify::new(), Notify::new());
        Arc::new(Outbox { state: Mutex::new(state), ready, space, shared, largest })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in.
    pub(crate) fn put(&self, message: &Arc<Message>, manner: Manner) -> Put {
        let weight = message.weight();
        let mut state = self.state();
        if state.closed.is_some() {
            return Put::Closed;
        }
        if message.packet_size() > self.largest {
            return Put::TooLarge;
        }
        let all = self.shared.bytes.load(Ordering::Relaxed);
        if state.queue.len() >= MESSAGES
            || state.bytes + weight > BYTES
            || all + weight > self.shared.limit
        {
            return Put::Full;
        }
        self.shared.bytes.fetch_add(weight, Ordering::Relaxed);
        state.bytes += weight;
        state.queue.push_back((message.clone(), manner));
        let crowded = !state.lagging && state.crowded();
        drop(state);
        self.ready.notify_one();
        if crowded { Put::Crowded } else { Put::Taken }
    }

    /// Puts an answer in; false when too many wait.
    pub(crate) fn answer(&self, packet: Packet) -> bool {
        let mut state = self.state();
        state.answers.push_back(packet);
        let room = state.answers.len() < ANSWERS;
        drop(state);
        self.ready.notify_one();
        room
    }

    /// The peer acknowledged `id`.
    pub(crate) fn acknowledged(&self, id: u16) {
        let mut state = self.state();
        if let Some(at) = state.inflight.iter().position(|(i, ..)| *i == id) {
            state.inflight.remove(at);
        }
        drop(state);
        self.ready.notify_one();
        self.space.notify_waiters();
    }

    /// Fills `batch` with what may be written now.
    pub(crate) fn next(&self, batch: &mut BytesMut) -> Next {
        let mut state = self.state();
        while batch.len() < BATCH {
            if let Some(packet) = state.answers.pop_front() {
                put(&packet, batch);
                continue;
            }
            let Some((_, manner)) = state.queue.front() else { break };
            if manner.qos1 && state.inflight.len() >= state.window {
                break;
            }
            let Some((message, manner)) = self.pop(&mut state) else { break };
            let id = if manner.qos1 { state.next_id() } else { 0 };
            put_publish(&message, manner, id, batch);
            if manner.qos1 {
                state.inflight.push_back((id, message, manner.retain));
            }
        }
        if !batch.is_empty() {
            drop(state);
            self.space.notify_waiters();
            return Next::Write;
        }
        match state.closed {
            Some(reason) => Next::Close(reason),
            None => Next::Wait,
        }
    }

    /// Takes one message without the ceremony of a connection: for a session in this process.
    pub(crate) fn take(&self) -> Option<(Arc<Message>, Manner)> {
        let mut state = self.state();
        let found = self.pop(&mut state);
        drop(state);
        self.space.notify_waiters();
        found
    }

    fn pop(&self, state: &mut State) -> Option<(Arc<Message>, Manner)> {
        let (message, manner) = state.queue.pop_front()?;
        let weight = message.weight();
        state.bytes -= weight;
        state.taken += 1;
        state.lagging &= state.crowded();
        self.shared.bytes.fetch_sub(weight, Ordering::Relaxed);
        Some((message, manner))
    }

    /// Resolves when there may be something to write.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until the queue is less than half full. Gives up, and marks the queue as lagging so
    /// that nobody waits for it again before it has drained, when nothing leaves it for `still`,
    /// or when it stays half full for eight times that.
    pub(crate) async fn room(&self, still: std::time::Duration) {
        let (mut seen, begin) = (None, tokio::time::Instant::now());
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            {
                let mut state = self.state();
                if state.closed.is_some() || state.lagging || !state.crowded() {
                    return;
                }
                if seen == Some(state.taken) || begin.elapsed() > still * 8 {
                    state.lagging = true;
                    return;
                }
                seen = Some(state.taken);
            }
            if tokio::time::timeout(still, space).await.is_ok() {
                seen = None;
            }
        }
    }

    /// Waits until fewer answers wait than are allowed.
    pub(crate) async fn answers_sent(&self) {
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            {
                let state = self.state();
                if state.closed.is_some() || state.answers.len() < ANSWERS {
                    return;
                }
            }
            space.await;
        }
    }

    /// Nothing goes in any more; the writer writes what is in it, then says `reason`.
    pub(crate) fn close(&self, reason: Reason) {
        let mut state = self.state();
        state.closed.get_or_insert(reason);
        drop(state);
        self.ready.notify_one();
        self.space.notify_waiters();
    }

    /// Whether it was closed, and why.
    pub(crate) fn closed(&self) -> Option<Reason> {
        self.state().closed
    }

    /// A new connection carries on: what was under way at QoS 1 is sent again, QoS 0 is
    /// forgotten. Returns how many were.
    pub(crate) fn restart(&self, window: u16) -> u64 {
        let mut state = self.state();
        state.answers.clear();
        state.window = usize::from(window.max(1));
        let before = state.queue.len();
        type Queue = VecDeque<(Arc<Message>, Manner)>;
        let queue = std::mem::take(&mut state.queue);
        let (kept, lost): (Queue, Queue) = queue.into_iter().partition(|(_, m)| m.qos1);
        state.queue = kept;
        for (message, _) in &lost {
            state.bytes -= message.weight();
            self.shared.bytes.fetch_sub(message.weight(), Ordering::Relaxed);
        }
        let forgotten = before - state.queue.len();
        for (_, message, retain) in std::mem::take(&mut state.inflight).into_iter().rev() {
            state.bytes += message.weight();
            self.shared.bytes.fetch_add(message.weight(), Ordering::Relaxed);
            state.queue.push_front((message, Manner { qos1: true, retain }));
        }
        state.lagging = false;
        forgotten as u64
    }

    /// Messages that wait or are under way.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state();
        state.queue.len() + state.inflight.len()
    }
}

impl State {
    fn crowded(&self) -> bool {
        self.queue.len() > MESSAGES / 2 || self.bytes > BYTES / 2
    }

    /// An id that is not under way: the window is smaller than the number of ids.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.inflight.iter().any(|(id, ..)| *id == self.last_id) {
                return self.last_id;
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
