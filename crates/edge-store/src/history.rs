//! The bounded past: the last events with the values before them.
//!
//! Watchers read it with a cursor each, so that a slow watcher holds nothing, and lists at a past
//! revision are rolled back through it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::entry::{Entry, Event, Revision};
use crate::limits::{EVENT_OVERHEAD, HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX};

/// The events after `floor`, oldest first.
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    /// The number of the first event in `events`; numbers are never given twice.
    first: u64,
    floor: Revision,
    bytes: usize,
}

impl History {
    /// An empty past: nothing before `floor` is known.
    pub(crate) fn new(floor: Revision) -> History {
        History { events: VecDeque::new(), first: 0, floor, bytes: 0 }
    }

    /// Every event with a higher revision than this is kept.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// Appends an event and lets go of the oldest ones above the bounds.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.events.len() > HISTORY_EVENTS_MAX || self.bytes > HISTORY_BYTES_MAX {
            self.pop();
        }
    }

    /// Forgets the events up to and including `revision`.
    pub(crate) fn forget(&mut self, revision: Revision) {
        while self.events.front().is_some_and(|event| event.revision <= revision) {
            self.pop();
        }
        self.floor = self.floor.max(revision);
        self.events.shrink_to_fit();
    }

    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= weight(&event);
            self.floor = self.floor.max(event.revision);
            self.first += 1;
        }
    }

    /// The number of the first event after `revision`.
    pub(crate) fn position(&self, revision: Revision) -> u64 {
        self.first + self.events.partition_point(|event| event.revision <= revision) as u64
    }

    /// The number that the next event gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The events from number `position` on; `None` if some of them are gone.
    pub(crate) fn since(&self, position: u64) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.events.range(skip.min(self.events.len())..))
    }

    /// What the keys that begin with `prefix` and changed after `revision` held at it.
    pub(crate) fn undo(
        &self,
        revision: Revision,
        prefix: &str,
        after: Option<&str>,
    ) -> BTreeMap<Arc<str>, Option<Entry>> {
        let mut held = BTreeMap::new();
        for event in self.since(self.position(revision)).into_iter().flatten() {
            let key = &*event.key;
            if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
                held.entry(event.key.clone()).or_insert_with(|| event.previous.clone());
            }
        }
        held
    }
}

fn weight(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |entry| entry.value.len());
    EVENT_OVERHEAD + event.key.len() + event.value.len() + previous
}
