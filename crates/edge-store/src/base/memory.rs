//! A committed state in memory, which a restart in the simulator finds again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Found;
use crate::entry::{Entry, Revision};
use crate::env::Changes;
use crate::meta::Meta;

/// A handle on a state in memory; clones share it, so that it outlives its store.
#[derive(Clone, Debug, Default)]
pub struct MemoryBase(Arc<Mutex<Arc<Content>>>);

/// What was committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) meta: Option<Meta>,
    /// Which log goes with it.
    pub(crate) generation: String,
    entries: BTreeMap<Arc<str>, Entry>,
}

impl MemoryBase {
    pub(crate) fn content(&self) -> Arc<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn commit(&self, changes: &Changes, meta: &Meta) {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let content = Arc::make_mut(&mut content);
        content.meta = Some(meta.clone());
        for (key, change) in changes {
            match change {
                Some(entry) => content.entries.insert(key.clone(), entry.clone()),
                None => content.entries.remove(key),
            };
        }
    }

    /// Another state, with another log, takes this one's place.
    pub(crate) fn replace(&self, generation: &str, other: &MemoryBase) {
        let mut content = Content::clone(&other.content());
        content.generation = generation.to_owned();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(content);
    }
}

impl Content {
    pub(crate) fn get(&self, key: &str) -> Option<(Revision, &[u8])> {
        self.entries.get(key).map(|entry| (entry.revision, &entry.value[..]))
    }

    pub(crate) fn scan<'s>(
        &'s self,
        prefix: &'s str,
        after: Option<&str>,
    ) -> impl Iterator<Item = Found<'s>> + use<'s> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| Ok((&**key, entry.revision, &entry.value[..])))
    }
}
