//! Answers of others, for as long as they count and there is room.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use edge_core::dns::{Heard, Name, Query};

/// Bytes of all that is remembered.
const BYTES: usize = 512 * 1024;
/// What an entry takes besides its name and message, about.
const OVERHEAD: usize = 160;

/// What answers the same question: name in small letters, type, and the two wishes about
/// signatures that change an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    name: Name,
    kind: u16,
    dnssec: bool,
    unchecked: bool,
}

impl Key {
    pub(super) fn new(query: &Query, name: &Name) -> Key {
        Key {
            name: name.lower(),
            kind: query.kind,
            dnssec: query.edns.is_some_and(|edns| edns.dnssec),
            unchecked: query.unchecked,
        }
    }
}

struct Kept {
    heard: Arc<Heard>,
    at: Instant,
    /// Seconds.
    ttl: u32,
    number: u64,
}

/// The memory, the oldest first.
#[derive(Default)]
pub(super) struct Cache {
    kept: BTreeMap<Key, Kept>,
    order: VecDeque<(u64, Key)>,
    bytes: usize,
    next: u64,
}

fn weight(key: &Key, heard: &Heard) -> usize {
    OVERHEAD + 2 * key.name.wire().len() + heard.message.len()
}

impl Cache {
    /// What was heard, and how many seconds ago, if it still counts.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<(Arc<Heard>, u32)> {
        let kept = self.kept.get(key)?;
        let age = now.saturating_duration_since(kept.at).as_secs();
        let age = u32::try_from(age).ok().filter(|age| *age < kept.ttl)?;
        Some((kept.heard.clone(), age))
    }

    /// Remembers an answer that counts for a time.
    pub(super) fn put(&mut self, key: Key, heard: Arc<Heard>, now: Instant) {
        let Some(ttl) = heard.ttl.filter(|ttl| *ttl > 0) else { return };
        let number = self.next;
        self.next += 1;
        self.bytes += weight(&key, &heard);
        self.order.push_back((number, key.clone()));
        let kept = Kept { heard, at: now, ttl, number };
        if let Some(old) = self.kept.insert(key.clone(), kept) {
            self.bytes = self.bytes.saturating_sub(weight(&key, &old.heard));
        }
        // The line has numbers of entries that were replaced; it may be twice as long as what
        // is kept, and no longer.
        while self.bytes > BYTES || self.order.len() > 2 * self.kept.len() {
            let Some((number, key)) = self.order.pop_front() else { return };
            if self.kept.get(&key).is_some_and(|kept| kept.number == number)
                && let Some(old) = self.kept.remove(&key)
            {
                self.bytes = self.bytes.saturating_sub(weight(&key, &old.heard));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }
}
