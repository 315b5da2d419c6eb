//! What readers get: entries, events and listings. All bytes in them are shared, never copied.

use std::sync::Arc;

use bytes::Bytes;

/// A point in the store's life: the index of a log entry.
pub type Revision = u64;

/// One key with its value, as of `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The revision that wrote this value.
    pub revision: Revision,
    /// The value: the object's wire bytes.
    pub value: Bytes,
}

/// What an event did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was written.
    Put,
    /// The key was removed.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the change. Operations of one command share it.
    pub revision: Revision,
    /// The key.
    pub key: Arc<str>,
    /// Written or removed.
    pub change: Change,
    /// The new value; for a removal, the object's final bytes.
    pub value: Bytes,
    /// What the key held before, if anything.
    pub previous: Option<Entry>,
}

impl Event {
    /// What the key holds after this event.
    pub(crate) fn entry(&self) -> Option<Entry> {
        (self.change == Change::Put).then(|| Entry {
            key: self.key.clone(),
            revision: self.revision,
            value: self.value.clone(),
        })
    }
}

/// How to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys after this one: the last key of the page before.
    pub after: Option<String>,
    /// At most so many entries; 0 is all.
    pub limit: usize,
    /// As of this revision instead of now.
    pub at: Option<Revision>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The revision that the whole page is as of.
    pub revision: Revision,
    /// The entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// Whether keys follow that the limit cut off.
    pub more: bool,
    /// How many of them.
    pub remaining: u64,
}

/// The bytes of `value` with `revision` in decimal spliced in at `at`: what `apply` stores for a
/// stamped value, for callers that answer with it.
pub fn stamp(value: &[u8], at: u32, revision: Revision) -> Bytes {
    let at = (at as usize).min(value.len());
    let digits = revision.to_string();
    let mut out = Vec::with_capacity(value.len() + digits.len());
    out.extend_from_slice(&value[..at]);
    out.extend_from_slice(digits.as_bytes());
    out.extend_from_slice(&value[at..]);
    Bytes::from(out)
}
