//! Where whatever carries messages hands in what came: the log's frames, beats and wills.

use super::peers::Links;
use crate::api::Api;
use crate::driver::Beats;
use crate::join::Trust;
use bytes::Bytes;
use edge_core::liveness::BeatError;
use std::sync::Arc;
use tokio::sync::watch;

/// A handle on a server for those who bring it messages; cheap to clone.
#[derive(Clone)]
pub struct Inlet {
    api: Api,
    links: Arc<Links>,
    trust: watch::Receiver<Arc<Trust>>,
    boards: Arc<watch::Sender<usize>>,
}

impl Inlet {
    pub(crate) fn new(api: Api, links: Arc<Links>, trust: watch::Receiver<Arc<Trust>>) -> Inlet {
        Inlet { api, links, trust, boards: Arc::new(watch::Sender::new(0)) }
    }

    fn beats(&self) -> &Arc<Beats> {
        self.api.beats()
    }

    /// Takes in a message of another server. Never blocks.
    pub fn deliver(&self, from: &str, message: Bytes) {
        match self.links.id(from) {
            Some(id) => self.api.store().deliver(id, message),
            None => tracing::debug!("a message of {from:?}, which is no server known here"),
        }
    }

    /// Takes in a beat of the board `node`, which the transport has proven to be its sender.
    ///
    /// # Errors
    /// The beat does not count, and changes nothing.
    pub fn beat(&self, node: &str, payload: &[u8]) -> Result<(), BeatError> {
        // A board that was thrown out falls silent, whatever it says.
        if self.trust.borrow().is_out(node) {
            return Ok(());
        }
        self.beats().beat(node, payload)?;
        let count = self.beats().count();
        self.boards.send_if_modified(|known| std::mem::replace(known, count) != count);
        Ok(())
    }

    /// Takes in a board's will: its process has ended. If it led, the others hurry to elect.
    pub fn gone(&self, board: &str) {
        self.beats().gone(board);
        if let Some(id) = self.links.id(board) {
            self.api.store().gone(id);
        }
    }

    /// Takes in that a board's `edged` has ended, or is another process now. If it led, it leads no
    /// more; of the board's pods that says nothing.
    pub fn ended(&self, board: &str) {
        if let Some(id) = self.links.id(board) {
            self.api.store().gone(id);
        }
    }

    /// Takes in that a board is connected again.
    pub fn back(&self, node: &str) {
        self.beats().back(node);
    }

    /// From now on beats must carry what this answers, or what it answered before.
    pub fn ask(&self) -> String {
        let nonce = format!("{:016x}", self.api.random());
        self.beats().ask(nonce.clone());
        nonce
    }

    /// What the leader, another server, asks of beats.
    pub fn asked(&self, nonce: &str) {
        self.beats().ask(nonce.to_owned());
    }

    /// How many boards have been heard of.
    pub fn boards(&self) -> watch::Receiver<usize> {
        self.boards.subscribe()
    }
}
