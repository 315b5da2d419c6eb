//! The bus as the rest of edged sees it: send, beat, lead, and what comes in.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::{Config, StartError};
use crate::counters::Counters;

/// Messages that may wait for the caller.
const INCOMING: usize = 4096;

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
    /// The leader's hint, retained by brokers: it may be old.
    Leader {
        /// The server that gave it.
        from: String,
        /// The hint.
        payload: Bytes,
    },
    /// A board's sessions ended without a good-bye: of a server as two brokers saw it within two
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
}

/// Sessions with brokers, the embedded broker, and sealing. Dropping it ends them without a
/// good-bye (brokers publish the wills); [`Bus::close`] says one.
pub struct Bus {
    config: Config,
    _incoming: mpsc::Sender<Incoming>,
}

impl Bus {
    /// Starts the embedded broker, if any, and the sessions. Returns at once: sessions come up,
    /// and come back, in the background.
    ///
    /// # Errors
    /// Names that can't be in topics, missing keys, an address that is taken.
    pub async fn start(config: Config) -> Result<(Bus, mpsc::Receiver<Incoming>), StartError> {
        let (sender, receiver) = mpsc::channel(INCOMING);
        Ok((Bus { config, _incoming: sender }, receiver))
    }

    /// Sends a raft message to server `to`. Never blocks; what can't be sent is dropped and
    /// counted.
    pub fn send(&self, to: &str, message: Bytes) {
        let _ = (to, message);
    }

    /// Publishes this node's beat. Never blocks.
    pub fn beat(&self, payload: Bytes) {
        let _ = payload;
    }

    /// Publishes the leader's hint, which brokers retain until the next. Never blocks.
    pub fn lead(&self, payload: Bytes) {
        let _ = payload;
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Ends all sessions with a good-bye, so that no will is published, and the embedded broker.
    pub async fn close(&self) {
        let _ = &self.config;
    }
}
