//! A whole image from the other boards: what its name means in the cluster, its documents, its
//! layers. Names that people have pushed mean what they pushed, and no registry is asked.

use super::super::digest::Digest;
use super::super::error::ImageError;
use super::super::install::Candidate;
use super::super::manifest::{ConfigFile, Document, Manifest, choose};
use super::super::progress::{Progress, Step};
use super::super::reference::Reference;
use super::super::registry::Task;
use super::super::{Image, ImageStore};
use super::{Lan, Taken, Wanted};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long another board may take to ask the registry what a name means; after that this one asks
/// as well, since that is little.
const WAIT: Duration = Duration::from_secs(2);
/// A board tells what it holds a moment after it has it, so documents are looked for again.
const LOOKS: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// An index may point to an index; more levels are nonsense.
const INDEX_DEPTH: usize = 4;

/// Layers that are taken at the same time: one comes while the one before is unpacked.
const AT_ONCE: usize = 2;

type Taking = Task<Result<Taken, ImageError>>;

/// What leads to an image, by digest from one document to the next.
pub(in crate::images) struct Documents {
    /// Of what the name stands for.
    pub(in crate::images) digest: Digest,
    pub(in crate::images) index: Option<Vec<u8>>,
    pub(in crate::images) manifest: Option<(Vec<u8>, Manifest)>,
    pub(in crate::images) config: Vec<u8>,
}

impl ImageStore {
    /// The image from the boards alone, if the cluster knows the name. `None`: the registry is to
    /// be asked. With `fresh`, only names that were pushed are known.
    pub(in crate::images) async fn take_from_boards(
        &self,
        lan: &Lan,
        reference: &Reference,
        fresh: bool,
        progress: &Progress,
    ) -> Option<Result<Image, ImageError>> {
        let name = reference.canonical();
        let began = Instant::now();
        let (digest, pushed) = loop {
            let body = json!({ "name": name, "pushed_only": fresh });
            let answer = match lan.ask("resolve", body).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(%error, image = name, "ask what an image's name means");
                    return None;
                }
            };
            let digest = answer["digest"].as_str().and_then(|text| Digest::parse(text).ok());
            match (digest, answer["wait_ms"].as_u64()) {
                (Some(digest), _) => break (digest, answer["pushed"] == true),
                (None, Some(wait)) if began.elapsed() < WAIT => {
                    tokio::time::sleep(Duration::from_millis(wait.clamp(50, 2000))).await;
                }
                _ => return None,
            }
        };
        match self.take(lan, reference, &digest, progress).await {
            Ok(image) => Some(Ok(image)),
            Err(error) if pushed => Some(Err(error)),
            Err(error) => {
                tracing::debug!(%error, image = name, "take an image from the boards");
                None
            }
        }
    }

    async fn take(
        &self,
        lan: &Lan,
        reference: &Reference,
        digest: &Digest,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        let name = reference.canonical();
        if let Some(image) = self.find(&name)
            && (image.digest.as_deref() == Some(digest.as_str()) || image.id == digest.as_str())
        {
            progress.tell(Step::Done { reference: name });
            return Ok(image);
        }
        let found = self.documents(lan, digest, (&name, LOOKS)).await?;
        let what = format!("configuration of {name}");
        let wanted = wanted(&ConfigFile::parse(&what, &found.config)?, found.manifest.as_ref());
        let with_manifest = found.manifest.is_some();
        let pinned = reference.pinned(digest);
        let mut names = vec![name.clone()];
        if with_manifest && pinned != name {
            names.push(pinned);
        }
        let candidate = Candidate {
            label: name.clone(),
            names,
            digest: with_manifest.then(|| found.digest.clone()),
            config: found.config,
            manifest: found.manifest.map(|(bytes, _)| bytes),
            index: found.index,
            private: false,
        };
        let mut tasks = self.start_lan(&wanted, progress);
        let fetch = |number: usize| {
            let (task, name) = (tasks.remove(&number), name.clone());
            let (store, wanted, progress) =
                (self.clone(), wanted.get(number).cloned(), progress.clone());
            async move {
                let taken = match (task, wanted) {
                    (Some(mut task), _) => (&mut task.0).await.unwrap_or(Ok(Taken::Nowhere)),
                    // It was here when the pull began, and is no longer.
                    (None, Some(wanted)) => store.take_layer(lan, &wanted, &progress).await,
                    (None, None) => Ok(Taken::Nowhere),
                };
                match taken? {
                    Taken::Blob(blob) => Ok(blob),
                    Taken::Uplink | Taken::Nowhere => Err(ImageError::NotFound {
                        reference: name,
                        detail: format!("no board that answers has layer {}", number + 1),
                    }),
                }
            }
        };
        self.install(&candidate, fetch, progress).await
    }

    /// Starts taking the layers that this board lacks, bottom first, while others are unpacked.
    fn start_lan(&self, wanted: &[Wanted], progress: &Progress) -> BTreeMap<usize, Taking> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let diffs: Vec<Digest> = wanted.iter().map(|wanted| wanted.diff.clone()).collect();
        let start = |number: usize| {
            let wanted = wanted.get(number)?.clone();
            let (store, lan) = (self.clone(), self.0.config.lan.clone()?);
            let (permits, progress) = (permits.clone(), progress.clone());
            let task = tokio::spawn(async move {
                let _permit = permits.acquire_owned().await;
                store.take_layer(&lan, &wanted, &progress).await
            });
            Some((number, Task(task)))
        };
        self.missing(&diffs).into_iter().filter_map(start).collect()
    }

    /// One taking of a layer at a time; whoever comes while another has it gets the same file.
    async fn take_layer(
        &self,
        lan: &Lan,
        wanted: &Wanted,
        progress: &Progress,
    ) -> Result<Taken, ImageError> {
        let _turn = self.0.turns.take(format!("blob {}", wanted.diff)).await;
        let known = self.state().blobs.get(&wanted.diff).and_then(Weak::upgrade);
        if let Some(blob) = known {
            return Ok(Taken::Blob(blob));
        }
        let taken = self.take_from_lan(lan, wanted, false, progress).await?;
        if let Taken::Blob(blob) = &taken {
            let mut state = self.state();
            state.blobs.retain(|_, blob| blob.strong_count() > 0);
            state.blobs.insert(wanted.diff.clone(), Arc::downgrade(blob));
        }
        Ok(taken)
    }

    /// Follows digests from what a name stands for to the configuration.
    pub(in crate::images) async fn documents(
        &self,
        lan: &Lan,
        digest: &Digest,
        (name, looks): (&str, u32),
    ) -> Result<Documents, ImageError> {
        let (mut at, mut index) = (digest.clone(), None);
        for _ in 0..INDEX_DEPTH {
            let bytes = self.document(lan, &at, (name, looks)).await?;
            match Document::parse(&format!("manifest of {name}"), &bytes) {
                Ok(Document::Index(entries)) => {
                    at = choose(name, &entries, &self.0.config.platform)?.digest.clone();
                    index.get_or_insert(bytes);
                }
                Ok(Document::Manifest(manifest)) => {
                    let config = self.document(lan, &manifest.config.digest, (name, looks)).await?;
                    let (digest, manifest) = (digest.clone(), Some((bytes, manifest)));
                    return Ok(Documents { digest, index, manifest, config });
                }
                // An image without a manifest goes by its configuration.
                Err(_) if at == *digest => {
                    let digest = digest.clone();
                    return Ok(Documents { digest, index, manifest: None, config: bytes });
                }
                Err(error) => return Err(error),
            }
        }
        Err(ImageError::malformed(format!("manifest of {name}"), "indexes nested too deeply"))
    }

    async fn document(
        &self,
        lan: &Lan,
        digest: &Digest,
        (name, looks): (&str, u32),
    ) -> Result<Vec<u8>, ImageError> {
        if let Ok(bytes) = self.0.files.read_document(digest) {
            return Ok(bytes);
        }
        let mut last = String::new();
        for look in 0..looks {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            match lan.document(digest).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = error,
            }
        }
        let detail = format!("{digest} of it can't be had from the boards: {last}");
        Err(ImageError::NotFound { reference: name.to_owned(), detail })
    }
}

/// The layers, bottom first.
fn wanted(config: &ConfigFile, manifest: Option<&(Vec<u8>, Manifest)>) -> Vec<Wanted> {
    let packed = |number: usize| Some(manifest?.1.layers.get(number)?.clone());
    let diffs = config.diff_ids.iter().enumerate();
    diffs.map(|(number, diff)| Wanted { diff: diff.clone(), packed: packed(number) }).collect()
}
