//! Reads: the committed state with the overlay merged over it, now or rolled back.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::Found;
use crate::entry::{Entry, ListOptions, Listing};
use crate::error::{ReadError, StateError};
use crate::machine::Head;
use crate::shared::Shared;

/// Reads one key.
pub(crate) fn get(shared: &Shared, key: &str) -> Result<Option<Entry>, ReadError> {
    let state = shared.read();
    let base = state.base.clone().ok_or(ReadError::Closed)?;
    if let Some(held) = state.machine.overlay.get(key) {
        return Ok(held.clone());
    }
    // Begun under the lock, so that no commit can come between.
    let snapshot = base.read()?;
    drop(state);
    Ok(snapshot.get(key)?.map(|(revision, value)| Entry {
        key: Arc::from(key),
        revision,
        value: Bytes::copy_from_slice(value),
    }))
}

/// Lists the keys that begin with `prefix`.
pub(crate) fn list(
    shared: &Shared,
    prefix: &str,
    options: &ListOptions,
) -> Result<Listing, ReadError> {
    let after = options.after.as_deref();
    let state = shared.read();
    let base = state.base.clone().ok_or(ReadError::Closed)?;
    let (current, oldest) = (state.machine.revision(), state.machine.history.floor());
    let revision = options.at.unwrap_or(current);
    if revision > current {
        return Err(ReadError::Future { at: revision, current });
    }
    if revision < oldest {
        return Err(ReadError::Compacted { at: revision, oldest });
    }
    let mut changed = state.machine.overlay.range(prefix, after);
    if revision < current {
        changed.extend(state.machine.history.undo(revision, prefix, after));
    }
    let snapshot = base.read()?;
    drop(state);
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut entries = Vec::new();
    let mut remaining = 0;
    let committed = snapshot.scan(prefix, after)?.peekable();
    for item in (Merge { committed, changed: changed.into_iter().peekable() }) {
        let item = item?;
        if entries.len() < limit {
            entries.push(match item {
                Item::Changed(entry) => entry,
                Item::Committed(key, revision, value) => {
                    Entry { key: Arc::from(key), revision, value: Bytes::copy_from_slice(value) }
                }
            });
        } else {
            remaining += 1;
        }
    }
    Ok(Listing { revision, entries, more: remaining > 0, remaining })
}

/// Calls `each` for every entry of the newest revision, which it answers.
pub(crate) fn visit<E: From<ReadError>>(
    shared: &Shared,
    mut begin: impl FnMut(&Head) -> Result<(), E>,
    mut each: impl FnMut(&str, u64, &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let state = shared.read();
    let base = state.base.clone().ok_or(ReadError::Closed)?;
    let head = state.machine.head.clone();
    let changed = state.machine.overlay.range("", None);
    let snapshot = base.read().map_err(ReadError::State)?;
    drop(state);
    begin(&head)?;
    let committed = snapshot.scan("", None).map_err(ReadError::State)?.peekable();
    for item in (Merge { committed, changed: changed.into_iter().peekable() }) {
        match item.map_err(ReadError::State)? {
            Item::Changed(entry) => each(&entry.key, entry.revision, &entry.value)?,
            Item::Committed(key, revision, value) => each(key, revision, value)?,
        }
    }
    Ok(head.index)
}

enum Item<'s> {
    Changed(Entry),
    Committed(&'s str, u64, &'s [u8]),
}

type Changed = std::collections::btree_map::IntoIter<Arc<str>, Option<Entry>>;

/// Two sorted sequences as one; where both have a key, what changed wins.
struct Merge<I: Iterator> {
    committed: Peekable<I>,
    changed: Peekable<Changed>,
}

impl<'s, I: Iterator<Item = Found<'s>>> Iterator for Merge<I> {
    type Item = Result<Item<'s>, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let committed = match self.committed.peek() {
                Some(Ok((key, ..))) => Some(*key),
                Some(Err(error)) => return Some(Err(error.clone())),
                None => None,
            };
            let changed = self.changed.peek().map(|(key, _)| &**key);
            let take_changed = match (committed, changed) {
                (None, None) => return None,
                (Some(committed), Some(changed)) => changed <= committed,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if !take_changed {
                let item = self.committed.next()?;
                return Some(
                    item.map(|(key, revision, value)| Item::Committed(key, revision, value)),
                );
            }
            if committed == changed {
                self.committed.next();
            }
            if let Some((_, Some(entry))) = self.changed.next() {
                return Some(Ok(Item::Changed(entry)));
            }
        }
    }
}
