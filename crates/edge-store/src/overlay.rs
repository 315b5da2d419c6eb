//! What was applied since the last commit to LMDB. Reads merge it over the state.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use crate::entry::Entry;
use crate::env::Changes;
use crate::limits::OVERLAY_OVERHEAD;

/// Two layers: `active` takes what is applied, `frozen` is being committed.
#[derive(Default)]
pub(crate) struct Overlay {
    active: Changes,
    bytes: usize,
    frozen: Option<Arc<Changes>>,
}

impl Overlay {
    /// Notes what a key holds now; `None` is nothing.
    pub(crate) fn set(&mut self, key: Arc<str>, entry: Option<Entry>) {
        let weight = |change: &Option<Entry>| change.as_ref().map_or(0, |e| e.value.len());
        let (length, value) = (key.len() + OVERLAY_OVERHEAD, weight(&entry));
        match self.active.insert(key, entry) {
            Some(old) => self.bytes = self.bytes + value - weight(&old),
            None => self.bytes += length + value,
        }
    }

    /// What a key holds, if that changed since the last commit.
    pub(crate) fn get(&self, key: &str) -> Option<&Option<Entry>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(key));
        self.active.get(key).or_else(frozen)
    }

    /// The changed keys that begin with `prefix` and come after `after`.
    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> BTreeMap<Arc<str>, Option<Entry>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let layers = self.frozen.as_deref().into_iter().chain([&self.active]);
        layers
            .flat_map(|layer| {
                layer
                    .range::<str, _>((start, Bound::Unbounded))
                    .take_while(|(key, _)| key.starts_with(prefix))
            })
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }

    /// What the active layer holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Freezes the active layer for a commit; a layer that is frozen already is tried again.
    pub(crate) fn freeze(&mut self) -> Arc<Changes> {
        if self.frozen.is_none() {
            self.bytes = 0;
            self.frozen = Some(Arc::new(mem::take(&mut self.active)));
        }
        self.frozen.clone().unwrap_or_default()
    }

    /// Whether a layer waits for its commit.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The frozen layer is in the state now.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }
}
