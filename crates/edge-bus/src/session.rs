//! One MQTT session with a broker: connects, subscribes, keeps alive, and comes back when it is
//! lost, over the next broker if there are several. Publishing never waits. QoS 1 is sent again
//! after a reconnect; QoS 0 that waited for a dead connection is forgotten and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::TlsPair;
use crate::counters::Count;
use crate::dial::Target;
use crate::link;
use crate::outbox::{Outbox, Put, Shared};
use crate::packet::{MAX_PACKET, Manner, Message};

/// A message left with a broker, to be published when the session ends without a good-bye.
#[derive(Clone, Debug)]
pub struct Testament {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
}

/// Makes the will of a connection, from the broker and the connection's number.
pub type MakeWill = Arc<dyn Fn(&Target, u32) -> Testament + Send + Sync>;

/// What a session is made of.
#[derive(Clone)]
pub struct SessionConfig {
    /// MQTT client id.
    pub client_id: String,
    /// Brokers to speak with; the first is tried first.
    pub targets: watch::Receiver<Vec<Target>>,
    /// Whether to return to a broker further up the list once it is back: boards that must meet at
    /// one broker do. If not, one broker is as good as another.
    pub prefer_first: bool,
    /// Certificates for embedded brokers.
    pub tls: watch::Receiver<Arc<TlsPair>>,
    /// Whole seconds; a ping goes out this often.
    pub keepalive: Duration,
    /// How long the broker may be quiet: it is asked half as often, and left when it is quiet for
    /// longer. A board that beats through one broker must not be taken for dead with it.
    pub patience: Duration,
    /// Whether to come back as soon as can be: between servers, whose election waits for it.
    pub eager: bool,
    /// What to subscribe to on each connection, at this QoS (0 or 1).
    pub filters: Vec<(String, u8)>,
    /// The will, if any.
    pub will: Option<MakeWill>,
    /// The number of the next connection, shared by all sessions of a bus.
    pub connections: Arc<std::sync::atomic::AtomicU32>,
    /// Where it counts; may be shared with other sessions.
    pub counts: Arc<SessionCounts>,
}

/// What a session tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// Established and subscribed, with which broker, as which connection.
    Up {
        /// The broker's name.
        broker: String,
        /// The connection's number.
        connection: u32,
    },
    /// Lost, or not established; the session tries again by itself.
    Down {
        /// The broker's name.
        broker: String,
        /// Why.
        why: String,
        /// What that tells of the broker.
        end: End,
    },
    /// A message.
    Message {
        /// The broker that brought it.
        broker: Arc<str>,
        /// Topic.
        topic: Bytes,
        /// Payload.
        payload: Bytes,
        /// Kept by the broker from before the subscription.
        retained: bool,
    },
}

/// What the end of a connection, or of an attempt at one, tells of an embedded broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody listens at its port: its process has ended.
    Refused,
    /// A connection that stood ended without a word.
    Broke,
    /// Nothing that counts.
    Other,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full, or the message larger than a packet may be.
    Full,
    /// No connection now (QoS 0 only).
    Down,
}

/// Numbers of one or several sessions.
#[derive(Debug, Default)]
pub struct SessionCounts {
    pub(crate) connects: Count,
    pub(crate) disconnects: Count,
    pub(crate) forgotten: Count,
}

/// What the handle and the task of a session share.
pub(crate) struct Inner {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) up: AtomicBool,
    pub(crate) connection: std::sync::atomic::AtomicU32,
    pub(crate) counts: Arc<SessionCounts>,
    pub(crate) ended: watch::Sender<bool>,
    /// The broker's board has shown itself: try now.
    pub(crate) nudge: Notify,
    /// It may be another process than the one that this connection is with: ask it for a sign.
    pub(crate) doubt: Notify,
    /// Packets that came.
    pub(crate) packets: AtomicU64,
}

/// A session; dropping it closes the connection without a good-bye.
pub struct Session {
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

/// Room for everything that one session may queue, and for one packet more.
const SESSION_BYTES: usize = crate::outbox::BYTES + MAX_PACKET;

impl Session {
    /// Starts it; events go to `events` with the number `tag`. A full `events` stops reading.
    pub fn start(config: SessionConfig, tag: u64, events: mpsc::Sender<(u64, Event)>) -> Session {
        let outbox = Outbox::new(Shared::new(SESSION_BYTES), 1, MAX_PACKET);
        let inner = Arc::new(Inner {
            outbox,
            up: AtomicBool::new(false),
            connection: std::sync::atomic::AtomicU32::new(0),
            counts: config.counts.clone(),
            ended: watch::Sender::new(false),
            nudge: Notify::new(),
            doubt: Notify::new(),
            packets: AtomicU64::new(0),
        });
        let task = tokio::spawn(link::run(config, inner.clone(), tag, events));
        Session { inner, task }
    }

    /// Whether it is established.
    pub fn is_up(&self) -> bool {
        self.inner.up.load(Ordering::Acquire)
    }

    /// The number of its connection.
    pub fn connection(&self) -> u32 {
        self.inner.connection.load(Ordering::Acquire)
    }

    /// The broker's board was heard of elsewhere: over a new connection, and perhaps as a new
    /// process (`anew`), to which a connection of before does not lead.
    pub(crate) fn appeared(&self, anew: bool) {
        if !self.is_up() {
            self.inner.nudge.notify_one();
        } else if anew {
            self.inner.doubt.notify_one();
        }
    }

    /// Queues a message. Never waits.
    ///
    /// # Errors
    /// See [`Refused`]; the message is not sent.
    pub fn publish(
        &self,
        topic: &str,
        payload: Bytes,
        qos: u8,
        retain: bool,
    ) -> Result<(), Refused> {
        let qos1 = qos > 0;
        if !qos1 && !self.is_up() {
            return Err(Refused::Down);
        }
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        let message = Arc::new(Message { topic, payload, properties: None });
        match self.inner.outbox.put(&message, Manner { qos1, retain }) {
            Put::Taken | Put::Crowded => Ok(()),
            Put::Full | Put::TooLarge => Err(Refused::Full),
            Put::Closed => Err(Refused::Down),
        }
    }

    /// Waits while the queue is more than half full and its connection takes something; for
    /// those who would rather wait than lose.
    pub async fn room(&self) {
        self.inner.outbox.room(Duration::from_secs(1)).await;
    }

    /// Messages that wait to be sent or to be acknowledged.
    pub fn waiting(&self) -> usize {
        self.inner.outbox.waiting()
    }

    /// Sends what waits, says good-bye (no will), and ends; within half a second.
    pub async fn close(&self) {
        use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode::NormalDisconnection;
        self.inner.outbox.close(NormalDisconnection);
        if !self.is_up() {
            return self.task.abort();
        }
        let mut ended = self.inner.ended.subscribe();
        let _ = tokio::time::timeout(Duration::from_millis(500), ended.wait_for(|e| *e)).await;
        self.task.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}
