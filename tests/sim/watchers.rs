//! Watchers: they follow the clients' keys on one server, go on at another from the revision they
//! have, and list again only when they are told to.

use edge_core::consensus::MemberId;

use super::clients::KEYS;
use super::state::Gone;
use super::world::{Asker, Event, Reply, What, World};

pub(super) struct Watcher {
    pub(super) server: MemberId,
    /// Everything up to here was seen.
    pub(super) seen: u64,
    /// The newest event that was handed out.
    pub(super) last: u64,
    listing: bool,
    asked_at: u64,
}

impl Watcher {
    pub(super) fn new() -> Watcher {
        Watcher { server: 1, seen: 0, last: 0, listing: true, asked_at: 0 }
    }
}

impl World {
    pub(super) fn watch(&mut self, number: usize) {
        let pause = self.chance.range(10_000, 60_000);
        self.after(pause, Event::Watch(number));
        let now = self.now;
        let moves = self.chance.permille(60);
        let watcher = &self.watchers[number];
        let (id, seen, listing) = (watcher.server, watcher.seen, watcher.listing);
        let run = self.servers.get(&id).filter(|server| server.paused_until <= now);
        let run = run.and_then(|server| server.run.as_ref()).filter(|_| !moves);
        // A server that no leader is known to serves what it has for a while.
        let lost = self.healing || self.chance.permille(200);
        let Some(run) = run.filter(|run| !lost || run.standing.leader.is_some()) else {
            let other = self.some_server();
            self.watchers[number].server = other;
            return;
        };
        if listing {
            if self.watchers[number].asked_at + 100_000 < now {
                self.watchers[number].asked_at = now;
                let ticket = self.ask(Asker::Watcher(number), What::List);
                self.after(200, Event::Request { id, ticket, forward: 0 });
            }
            return;
        }
        match run.since(seen) {
            Ok(events) => {
                let upto = run.state.applied.0;
                let watcher = &mut self.watchers[number];
                for event in events.iter().filter(|event| u64::from(event.key) < KEYS) {
                    self.checks.watched(number, watcher.seen, watcher.last, event);
                    watcher.last = event.revision;
                }
                self.checks.bookmarked(number, watcher.last, upto);
                watcher.seen = upto;
            }
            Err(Gone::Compacted) => self.watchers[number].listing = true,
            Err(Gone::Future) => self.watchers[number].server = id % 5 + 1,
        }
    }

    pub(super) fn watch_answer(&mut self, number: usize, reply: Reply) {
        let Reply::List { state } = reply else { return };
        let watcher = &mut self.watchers[number];
        if !watcher.listing {
            return;
        }
        let keys = state.keys.iter().filter(|(key, _)| u64::from(**key) < KEYS);
        let found: Vec<_> =
            keys.map(|(key, (revision, value))| (*key, *revision, *value)).collect();
        self.checks.listed(number, watcher.seen, state.applied.0, &found);
        watcher.seen = state.applied.0;
        watcher.last = state.applied.0;
        watcher.listing = false;
    }
}
