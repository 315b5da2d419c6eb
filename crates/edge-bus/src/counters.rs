//! What the bus counted since it started. Nothing is dropped silently: every reason for a drop
//! has its number here, and the metrics page shows them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Larger than a packet or a reassembled message may be.
    pub oversized: u64,
    /// Not in the form that this version writes, or a packet that is not MQTT.
    pub malformed: u64,
    /// A seal that does not open: wrong key, sender, receiver, topic or cluster.
    pub forged: u64,
    /// Sealed truly, but seen before or too old to tell.
    pub replayed: u64,
    /// A queue on the way was full.
    pub queue_full: u64,
    /// No session led to the receiver.
    pub no_path: u64,
    /// Parts of a message whose other parts never came.
    pub incomplete: u64,
}

/// A snapshot of all counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sealed messages handed to a session.
    pub sent: u64,
    /// Sealed messages that opened and were new.
    pub received: u64,
    /// Messages dropped by this board's sessions.
    pub drops: Drops,
    /// Sessions with brokers now.
    pub sessions: u64,
    /// Times that a session was established.
    pub connects: u64,
    /// Times that an attempt at a session failed, or an established one ended.
    pub disconnects: u64,
    /// The embedded broker's numbers; zero without one.
    pub broker: BrokerCounters,
}

/// What an embedded broker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounters {
    /// Clients now.
    pub clients: u64,
    /// Retained messages now.
    pub retained: u64,
    /// Messages taken from clients.
    pub received: u64,
    /// Messages put into clients' queues.
    pub delivered: u64,
    /// QoS 0 messages dropped because a client's queue was full.
    pub dropped: u64,
    /// Clients that were disconnected because they did not keep up.
    pub slow: u64,
    /// Publishes and subscriptions that the access rules refused.
    pub denied: u64,
    /// Connections refused: bounds, certificates, protocol versions, client ids.
    pub refused: u64,
    /// Connections without a certificate yet that had to make room for others.
    pub half_open: u64,
    /// Connections ended because of a packet that is not MQTT 5.
    pub malformed: u64,
    /// Connections ended because of a packet over the bound.
    pub oversized: u64,
    /// Wills published.
    pub wills: u64,
}

/// A counter that many tasks raise.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
