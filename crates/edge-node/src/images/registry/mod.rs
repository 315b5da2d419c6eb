//! Pulls images from registries, by the OCI distribution protocol, on the HTTP and TLS that the
//! rest of the program has anyway.

mod auth;
mod challenge;
mod config;
mod download;
mod roots;
mod session;
mod wire;

#[cfg(test)]
pub(super) mod tests;

pub use auth::RegistryAuth;
pub use config::{RegistriesConfig, RegistryConfig, Timing};

use super::digest::Digest;
use super::disk::Blob;
use super::error::ImageError;
use super::install::{Candidate, chains};
use super::lan::{Taken, Wanted};
use super::manifest::{ConfigFile, Descriptor, Document, Manifest, choose};
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::{Image, ImageStore};
use session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use wire::Wire;

/// Layers of one image that are downloaded at the same time.
const DOWNLOADS_MAX: usize = 3;
/// Tries for a manifest; the kubelet's back-off comes on top.
const MANIFEST_ATTEMPTS: u32 = 3;
/// An index may point to an index; more levels are nonsense.
const INDEX_DEPTH: usize = 4;

/// A task that ends when nobody waits for it any more.
pub(super) struct Task<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a registry has for a reference.
struct Resolved {
    /// Of what the reference names, be it an index.
    digest: Digest,
    /// The manifest for this board.
    bytes: Vec<u8>,
    manifest: Manifest,
    /// The index that it was chosen from.
    index: Option<Vec<u8>>,
}

impl ImageStore {
    /// Makes sure that the board has what the registry has for `reference`: nothing is fetched that
    /// is here already. `auth` is what the pod's imagePullSecrets hold, all of them.
    pub async fn pull(
        &self,
        reference: &str,
        auth: &[RegistryAuth],
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        self.obtain(reference, auth, true, progress).await
    }

    /// As [`ImageStore::pull`]; when the name need not be `fresh`, what other boards pulled under
    /// it without a secret will do. Names that people have pushed to the cluster mean that.
    pub async fn obtain(
        &self,
        reference: &str,
        auth: &[RegistryAuth],
        fresh: bool,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(reference)?;
        let name = reference.canonical();
        let _turn = self.0.turns.take(format!("pull {name}")).await;
        if reference.digest().is_some()
            && let Some(image) = self.find(&name)
        {
            return Ok(image);
        }
        progress.tell(Step::Resolving { reference: name.clone() });
        // What a digest pins never changes, so the boards' word will do; but content that took a
        // secret is not told under any name.
        let fresh = fresh && reference.digest().is_none();
        if let Some(lan) = &self.0.config.lan
            && let Some(result) = self.take_from_boards(lan, &reference, fresh, progress).await
        {
            return result;
        }
        let config = &self.0.config;
        let wire = Arc::new(Wire::new(config.registries.clone(), config.timing.clone()));
        let mut last = None;
        for endpoint in config.registries.endpoints(&reference)? {
            let found = config.registries.credentials(&endpoint, &reference, auth);
            let credentials: Vec<Option<RegistryAuth>> =
                if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
            for credentials in credentials {
                let session = Arc::new(Session::new(
                    wire.clone(),
                    endpoint.clone(),
                    reference.repository(),
                    &name,
                    credentials,
                ));
                match self.pull_from(&session, &reference, progress).await {
                    Ok(image) => return Ok(image),
                    Err(error) => {
                        let denied = matches!(error, ImageError::Denied { .. });
                        last = Some(error);
                        if !denied {
                            break;
                        }
                    }
                }
            }
            // A full disk is full for every mirror.
            if let Some(error @ (ImageError::Full { .. } | ImageError::Io { .. })) = last {
                return Err(error);
            }
        }
        Err(last.unwrap_or_else(|| super::unknown(&name)))
    }

    async fn pull_from(
        &self,
        session: &Arc<Session>,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        let name = reference.canonical();
        // A tag that means what it meant, or what boards have, costs one request without a body.
        let (found, lan) = (self.find(&name), self.0.config.lan.as_deref());
        let digest = match found.is_some() || lan.is_some() {
            true => session.head(reference.target()).await?,
            false => None,
        };
        if let (Some(image), Some(digest)) = (found, &digest)
            && image.digest.as_deref() == Some(digest.as_str())
        {
            progress.tell(Step::Done { reference: name });
            return Ok(image);
        }
        let (resolved, config) = match self.known(digest.as_ref(), &name).await {
            Some(known) => known,
            None => self.resolve(session, reference).await?,
        };
        let parsed = ConfigFile::parse(&format!("configuration of {name}"), &config)?;
        parsed.check_platform(&name, &self.0.config.platform)?;
        let layers = &resolved.manifest.layers;
        if parsed.diff_ids.len() != layers.len() {
            let (says, has) = (parsed.diff_ids.len(), layers.len());
            let detail = format!("it has {has} layers, the configuration says {says}");
            return Err(ImageError::malformed(format!("manifest of {name}"), detail));
        }
        let mut downloads = self.start(session, layers, &parsed.diff_ids, progress);
        let mut names = vec![name.clone()];
        let pinned = reference.pinned(&resolved.digest);
        if pinned != name {
            names.push(pinned);
        }
        let candidate = Candidate {
            label: name,
            names,
            digest: Some(resolved.digest),
            config,
            manifest: Some(resolved.bytes),
            index: resolved.index,
            private: session.used_secret(),
        };
        let fetch = |number: usize| {
            let task = downloads.remove(&number);
            let (store, session) = (self.clone(), session.clone());
            let (layer, progress) = (layers[number].clone(), progress.clone());
            let diff = parsed.diff_ids[number].clone();
            async move {
                match task {
                    Some(mut task) => match (&mut task.0).await {
                        Ok(result) => result,
                        Err(error) => Err(ImageError::Io {
                            operation: format!("download layer {}", layer.digest),
                            detail: error.to_string(),
                        }),
                    },
                    // It was here when the pull began, and is no longer.
                    None => store.download(&session, &layer, &diff, &progress).await,
                }
            }
        };
        self.install(&candidate, fetch, progress).await
    }

    /// From a reference to the manifest for this board, and the configuration.
    async fn resolve(
        &self,
        session: &Arc<Session>,
        reference: &Reference,
    ) -> Result<(Resolved, Vec<u8>), ImageError> {
        let name = reference.canonical();
        let mut target = reference.target().to_string();
        let (mut top, mut index) = (None, None);
        for _ in 0..INDEX_DEPTH {
            let (digest, bytes) = retry(session, || session.manifest(&target)).await?;
            let top = top.get_or_insert(digest).clone();
            match Document::parse(&format!("manifest of {name}"), &bytes)? {
                Document::Index(entries) => {
                    let chosen = choose(&name, &entries, &self.0.config.platform)?;
                    target = chosen.digest.to_string();
                    index.get_or_insert(bytes);
                }
                Document::Manifest(manifest) => {
                    let config = &manifest.config.digest;
                    let config = retry(session, || session.document(config)).await?;
                    return Ok((Resolved { digest: top, bytes, manifest, index }, config));
                }
            }
        }
        Err(ImageError::malformed(format!("manifest of {name}"), "indexes nested too deeply"))
    }

    /// Starts downloading the layers that the board lacks, a few at a time, bottom first.
    fn start(
        &self,
        session: &Arc<Session>,
        layers: &[Descriptor],
        diffs: &[Digest],
        progress: &Progress,
    ) -> BTreeMap<usize, Task<Result<Blob, ImageError>>> {
        let permits = Arc::new(Semaphore::new(DOWNLOADS_MAX));
        let mut downloads = BTreeMap::new();
        let chains = chains(diffs);
        for (number, layer) in layers.iter().enumerate() {
            if self.has_layer(&chains[number]) {
                continue;
            }
            let (store, session, permits) = (self.clone(), session.clone(), permits.clone());
            let (layer, progress) = (layer.clone(), progress.clone());
            let diff = diffs[number].clone();
            let task = tokio::spawn(async move {
                let _permit = permits.acquire_owned().await;
                store.download(&session, &layer, &diff, &progress).await
            });
            downloads.insert(number, Task(task));
        }
        downloads
    }

    /// One download of a blob at a time; whoever comes while another has it gets the same file.
    async fn download(
        &self,
        session: &Session,
        layer: &Descriptor,
        diff: &Digest,
        progress: &Progress,
    ) -> Result<Blob, ImageError> {
        let _turn = self.0.turns.take(format!("blob {}", layer.digest)).await;
        let known = self.state().blobs.get(&layer.digest).and_then(std::sync::Weak::upgrade);
        if let Some(blob) = known {
            return Ok(blob);
        }
        let blob = self.fetch(session, layer, diff, progress).await?;
        let mut state = self.state();
        state.blobs.retain(|_, blob| blob.strong_count() > 0);
        state.blobs.insert(layer.digest.clone(), Arc::downgrade(&blob));
        Ok(blob)
    }
}

impl ImageStore {
    /// From a board that has it, else from the registry; the boards that want the same at the same
    /// time read along.
    async fn fetch(
        &self,
        session: &Session,
        layer: &Descriptor,
        diff: &Digest,
        progress: &Progress,
    ) -> Result<Blob, ImageError> {
        let Some(lan) = &self.0.config.lan else {
            return download::download(session, layer, self, progress).await;
        };
        let wanted = Wanted { diff: diff.clone(), packed: Some(layer.clone()) };
        match self.take_from_lan(lan, &wanted, true, progress).await? {
            Taken::Blob(blob) => Ok(blob),
            Taken::Nowhere => download::download(session, layer, self, progress).await,
            Taken::Uplink => {
                let work = download::download(session, layer, self, progress);
                let done = lan.confirming(&layer.digest, work).await;
                if done.is_err() {
                    lan.moved(&layer.digest, "failed", None).await;
                }
                done
            }
        }
    }

    /// The documents of what a registry calls `digest`, if the boards have them.
    async fn known(&self, digest: Option<&Digest>, name: &str) -> Option<(Resolved, Vec<u8>)> {
        let lan = self.0.config.lan.as_deref()?;
        let found = self.documents(lan, digest?, (name, 1)).await.ok()?;
        let (bytes, manifest) = found.manifest?;
        let resolved = Resolved { digest: found.digest, bytes, manifest, index: found.index };
        Some((resolved, found.config))
    }
}

/// Tries a small request again when the registry is having a bad moment.
async fn retry<T, F>(session: &Session, request: impl Fn() -> F) -> Result<T, ImageError>
where
    F: Future<Output = Result<T, ImageError>>,
{
    let mut wait = session.wire.timing.backoff;
    for _ in 1..MANIFEST_ATTEMPTS {
        match request().await {
            Err(error) if error.transient() => {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2);
            }
            result => return result,
        }
    }
    request().await
}
