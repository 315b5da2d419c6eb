//! Makes room when the disk fills up: measures it, asks the rule in `edge-core` which images to
//! remove, and removes them.

use super::digest::Digest;
use super::error::ImageError;
use super::{ImageStore, State};
use crate::clock::wall_ms as now_ms;
use edge_core::image_gc::{self, Candidate, Policy, Usage};
use std::collections::{BTreeMap, BTreeSet};

/// When an image came into sight and when a container last used it, Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    first_ms: i64,
    used_ms: i64,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Ids of the images removed.
    pub removed: Vec<String>,
    /// Bytes of the layers removed with them.
    pub bytes: u64,
    /// Bytes that were to be freed; more than `bytes` if too much is in use.
    pub wanted: u64,
    /// Ids of images that were the cluster's last copies, and stayed.
    pub kept: Vec<String>,
}

impl ImageStore {
    /// Removes images that no container uses, those unused for longest first, when the disk is
    /// fuller than `policy` allows. `in_use` has names or ids; such images are never removed.
    /// To be called every few minutes, since ages count from the first call that saw an image.
    /// `keep` has ids of images that must stay.
    pub fn collect(
        &self,
        in_use: &BTreeSet<String>,
        keep: &BTreeSet<String>,
        policy: &Policy,
    ) -> Result<Collected, ImageError> {
        let usage = self.usage()?;
        self.collect_at(in_use, keep, policy, usage, now_ms())
    }

    /// The images that [`ImageStore::collect`] would remove now.
    pub fn removable(
        &self,
        in_use: &BTreeSet<String>,
        keep: &BTreeSet<String>,
        policy: &Policy,
    ) -> Result<BTreeSet<String>, ImageError> {
        let (usage, now) = (self.usage()?, now_ms());
        let candidates = candidates(&mut self.state(), in_use, now);
        Ok(image_gc::plan(usage, policy, &candidates, keep, now).remove.into_iter().collect())
    }

    fn usage(&self) -> Result<Usage, ImageError> {
        let layers = &self.0.layers_dir;
        let stat = rustix::fs::statvfs(layers)
            .map_err(|e| ImageError::file("examine the disk of", layers, &e.into()))?;
        Ok(Usage {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    pub(super) fn collect_at(
        &self,
        in_use: &BTreeSet<String>,
        keep: &BTreeSet<String>,
        policy: &Policy,
        usage: Usage,
        now_ms: i64,
    ) -> Result<Collected, ImageError> {
        let (collected, gone) = {
            let mut state = self.state();
            let candidates = candidates(&mut state, in_use, now_ms);
            let plan = image_gc::plan(usage, policy, &candidates, keep, now_ms);
            let mut collected =
                Collected { wanted: plan.wanted, kept: plan.kept, ..Collected::default() };
            if plan.remove.is_empty() {
                return Ok(collected);
            }
            let mut index = state.index.clone();
            index.images.retain(|id, _| !plan.remove.iter().any(|gone| gone == id.as_str()));
            let images = &index.images;
            index.names.retain(|_, target| images.contains_key(&target.id));
            let before: u64 = state.layers.values().map(|layer| layer.bytes).sum();
            self.replace(&mut state, index)?;
            let gone = self.take_orphans(&mut state)?;
            let after: u64 = state.layers.values().map(|layer| layer.bytes).sum();
            collected.bytes = before - after;
            collected.removed = plan.remove;
            (collected, gone)
        };
        drop(gone);
        Ok(collected)
    }
}

/// All images as the rule sees them; what is in use is marked as used now.
fn candidates(state: &mut State, in_use: &BTreeSet<String>, now_ms: i64) -> Vec<Candidate> {
    let used: BTreeSet<Digest> =
        in_use.iter().filter_map(|name| Some(state.lookup(name)?.1.id)).collect();
    let ids: Vec<Digest> = state.index.images.keys().cloned().collect();
    let mut candidates = Vec::new();
    for id in ids {
        let seen = state.seen.entry(id.clone()).or_insert(Seen { first_ms: now_ms, used_ms: 0 });
        let in_use = used.contains(&id);
        if in_use {
            seen.used_ms = now_ms;
        }
        let seen = *seen;
        let chains = state.index.images.get(&id).map(|record| record.chains.as_slice());
        let layers: BTreeMap<String, u64> = chains
            .unwrap_or_default()
            .iter()
            .filter_map(|chain| Some((chain.to_string(), state.layers.get(chain)?.bytes)))
            .collect();
        candidates.push(Candidate {
            id: id.to_string(),
            layers,
            in_use,
            first_seen_ms: seen.first_ms,
            last_used_ms: seen.used_ms,
        });
    }
    candidates
}
