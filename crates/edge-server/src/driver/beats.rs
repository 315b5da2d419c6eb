//! The table of living boards as the whole server shares it: the bus puts beats and wills in, the
//! driver sleeps on it, and readers of Leases look into it. In memory only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use edge_core::liveness::{BeatError, Liveness, Moment, Settings, Standing, Table};
use edge_store::Store;
use tokio::sync::Notify;

use crate::api::now_ms;

/// A majority that is reached answers within this.
const ANSWER_MS: i64 = 500;

/// Where beats go in and what is known of boards comes out.
pub struct Beats {
    table: Mutex<Table>,
    /// Something stands better than it did, or a will was heard.
    news: Notify,
    origin: Instant,
}

impl Beats {
    pub(crate) fn new(settings: Settings) -> Beats {
        Beats {
            table: Mutex::new(Table::new(settings)),
            news: Notify::new(),
            origin: Instant::now(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mono_ms(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// A beat that came from the board `sender`; its sender is proven by who delivers it.
    ///
    /// # Errors
    /// The beat does not count, and changes nothing.
    pub fn beat(&self, sender: &str, payload: &[u8]) -> Result<(), BeatError> {
        let now = Moment { mono_ms: self.mono_ms(), wall_ms: now_ms() };
        if self.table().hear(sender, payload, now)? {
            self.news.notify_one();
        }
        Ok(())
    }

    /// The board's will was heard: its process has ended.
    pub fn gone(&self, node: &str) {
        if self.table().gone(node, self.mono_ms()) {
            self.news.notify_one();
        }
    }

    /// The board is connected again.
    pub fn back(&self, node: &str) {
        if self.table().back(node) {
            self.news.notify_one();
        }
    }

    /// From now on beats carry `nonce`, or the one before it.
    pub fn ask(&self, nonce: String) {
        self.table().ask(nonce);
    }

    /// How one board lives.
    pub fn of(&self, node: &str) -> Option<Liveness> {
        self.table().one(node, self.mono_ms())
    }

    /// How many boards are known.
    pub fn count(&self) -> usize {
        self.table().count()
    }

    /// How all boards live.
    pub fn all(&self) -> BTreeMap<String, Liveness> {
        self.table().all(self.mono_ms())
    }

    /// Somebody leads the servers, or nobody does.
    pub(crate) fn led(&self, somebody: bool) {
        self.table().led(somebody, self.mono_ms());
    }

    /// This member begins to lead.
    pub(super) fn lead(&self) {
        self.table().lead(self.mono_ms());
    }

    /// A board seems to have fallen silent. If it takes the other servers long to answer as well,
    /// or if they don't, it is the bus that is silent, and the board has time until it is back.
    pub(super) async fn doubt(&self, store: &Store) {
        let begin = self.mono_ms();
        for (name, board) in self.all() {
            if board.standing == Standing::Silent {
                let since = board.heard_at_ms.map_or(0, |at| now_ms() - at);
                tracing::debug!("{name} is silent, heard {since} ms ago");
            }
        }
        let answered = store.barrier().await;
        let now = self.mono_ms();
        if answered.is_err() || now - begin > ANSWER_MS {
            tracing::debug!("boards are silent, and so are other servers");
            self.table().excuse(now - begin, now);
        }
    }

    /// Which boards there are.
    pub(super) fn expect<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.table().expect(names, self.mono_ms());
    }

    /// Waits until a board may stand otherwise than it did; for ever, where none is waited for.
    pub(super) async fn changed(&self) {
        let due = self.table().due_ms(self.mono_ms());
        let pause = async {
            match due.map(|due| u64::try_from(due - self.mono_ms()).unwrap_or(0)) {
                Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms + 1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.news.notified() => {}
            () = pause => {}
        }
    }
}
