//! The second half of every pull and load: from a configuration and its layers' blobs to an image
//! that can be mounted. Layers are unpacked bottom first, each on top of those beneath; those that
//! the board has are not touched.

use super::digest::{Digest, chain_id};
use super::disk::Blob;
use super::error::ImageError;
use super::index::{Record, Target};
use super::layers::{self, Plan};
use super::manifest::ConfigFile;
use super::progress::{Progress, Step};
use super::{Image, ImageStore};
use std::future::Future;

/// An image on its way into the store.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// For messages: the reference or the archive's name for it.
    pub(super) label: String,
    /// Canonical names to give it, with the registry's digest.
    pub(super) names: Vec<String>,
    /// The registry's digest for those names.
    pub(super) digest: Option<Digest>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Option<Vec<u8>>,
    /// The index that the manifest was chosen from, if there was one.
    pub(super) index: Option<Vec<u8>>,
    /// True when it took a secret to learn what the names stand for.
    pub(super) private: bool,
}

/// Keeps layers from being collected while an image that needs them is on its way.
pub(super) struct Hold<'a> {
    store: &'a ImageStore,
    chains: Vec<Digest>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for chain in &self.chains {
            if let Some(count) = state.held.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(chain);
                }
            }
        }
    }
}

impl ImageStore {
    fn hold(&self, chains: Vec<Digest>) -> Hold<'_> {
        let mut state = self.state();
        for chain in &chains {
            *state.held.entry(chain.clone()).or_default() += 1;
        }
        Hold { store: self, chains }
    }

    pub(super) fn has_layer(&self, chain: &Digest) -> bool {
        self.state().layers.contains_key(chain)
    }

    /// Unpacks what is missing and records the image. `fetch` gives a layer's blob by its number
    /// from 0; it is asked only for layers that the board lacks.
    pub(super) async fn install<F>(
        &self,
        candidate: &Candidate,
        mut fetch: impl FnMut(usize) -> F,
        progress: &Progress,
    ) -> Result<Image, ImageError>
    where
        F: Future<Output = Result<Blob, ImageError>>,
    {
        let what = format!("configuration of {}", candidate.label);
        let config = ConfigFile::parse(&what, &candidate.config)?;
        config.check_platform(&candidate.label, &self.0.config.platform)?;
        let chains = chains(&config.diff_ids);
        let hold = self.hold(chains.clone());
        let of = chains.len();
        for (at, chain) in chains.iter().enumerate() {
            let number = at + 1;
            let _turn = self.0.turns.take(format!("layer {chain}")).await;
            if self.has_layer(chain) {
                progress.tell(Step::Present { number, of });
                continue;
            }
            let blob = fetch(at).await?;
            progress.tell(Step::Unpacking { number, of });
            let lowers = chains[..at].iter().rev();
            let plan = Plan {
                what: format!("layer {number} of {}", candidate.label),
                chain: chain.clone(),
                diff: config.diff_ids[at].clone(),
                lowers: lowers.map(|c| layers::tree(&self.0.layers_dir, c)).collect(),
            };
            let diff = plan.diff.clone();
            self.unpack(plan, blob, progress).await?;
            if let Some(lan) = &self.0.config.lan {
                lan.moved(&diff, "done", Some(&diff)).await;
            }
        }
        let image = self.record(candidate, config, chains)?;
        drop(hold);
        progress.tell(Step::Done { reference: image.reference.clone() });
        Ok(image)
    }

    async fn unpack(&self, plan: Plan, blob: Blob, progress: &Progress) -> Result<(), ImageError> {
        let store = self.clone();
        let layer = blocking("unpack a layer", move || {
            let inner = &store.0;
            let layer = layers::install(&inner.layers_dir, &inner.ingest, &plan, blob.path())?;
            store.state().layers.insert(layer.chain.clone(), layer.clone());
            Ok(layer)
        })
        .await?;
        if !layer.skipped.is_empty() {
            tracing::warn!(layer = %layer.chain, nodes = ?layer.skipped, "left out device nodes");
            progress.tell(Step::Skipped { paths: layer.skipped });
        }
        Ok(())
    }

    /// From here on the image exists.
    fn record(
        &self,
        candidate: &Candidate,
        config: ConfigFile,
        chains: Vec<Digest>,
    ) -> Result<Image, ImageError> {
        let mut state = self.state();
        let files = &self.0.files;
        let id = files.write_document(&self.0.ingest, &candidate.config)?;
        let mut index = state.index.clone();
        let manifest = match &candidate.manifest {
            Some(bytes) => Some(files.write_document(&self.0.ingest, bytes)?),
            None => index.images.get(&id).and_then(|record| record.manifest.clone()),
        };
        index.images.insert(id.clone(), Record { chains, manifest });
        if let Some(bytes) = &candidate.index {
            files.write_document(&self.0.ingest, bytes)?;
        }
        let target =
            Target { id: id.clone(), digest: candidate.digest.clone(), private: candidate.private };
        for name in &candidate.names {
            index.names.insert(name.clone(), target.clone());
        }
        state.configs.insert(id.clone(), config);
        if index != state.index {
            self.replace(&mut state, index)?;
        }
        let name = candidate.names.first().cloned().unwrap_or_else(|| id.to_string());
        self.image(&state, &name, &target).ok_or_else(|| super::unknown(&name))
    }
}

/// The chain ids of layers, bottom first.
pub(super) fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        chains.push(chain_id(chains.last(), diff));
    }
    chains
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(ImageError::Io { operation: what.to_string(), detail: error.to_string() })
        }
    }
}
