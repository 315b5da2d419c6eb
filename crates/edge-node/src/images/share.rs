//! What this board gives to other boards: documents and layers by digest, also such as are still
//! arriving. Of these the last bytes are held back until the whole has been checked, so a board
//! never completes a blob that it would not use itself, and who completes a wrong one made it.

use super::digest::Digest;
use super::disk::{Blob, Temporary};
use super::error::ImageError;
use super::index::Target;
use super::layers;
use super::{ImageStore, Reference, State};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Blobs given at the same time; who comes then is told to come again.
pub(super) const READERS: usize = 16;
/// Pieces on their way to a slow reader.
const PIECES: usize = 8;
const PIECE: usize = 64 * 1024;
/// So much of an arriving blob is held back until it has been checked.
const HELD_BACK: u64 = 64 * 1024;

/// How far a blob has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes in the file.
    pub(super) written: u64,
    /// All there, and what it should be.
    pub(super) whole: bool,
}

/// A blob on its way to this board.
#[derive(Debug)]
pub(super) struct Arrival {
    file: Weak<Temporary>,
    length: u64,
    seen: watch::Receiver<Seen>,
}

/// Something to give.
#[derive(Debug)]
pub struct Shared {
    /// Its length in bytes.
    pub length: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Document(Bytes),
    /// By chain id.
    Layer(Digest),
    Arriving(Blob, watch::Receiver<Seen>),
}

/// Why something can't be given now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not here.
    Unknown,
    /// As many read as may.
    Busy,
}

impl ImageStore {
    /// What a name stands for here, if any board may know: names that took a secret to pull are
    /// not told.
    pub fn told(&self, reference: &str) -> Option<Digest> {
        let name = Reference::parse(reference).ok()?.canonical();
        let state = self.state();
        let target = state.index.names.get(&name).filter(|target| !target.private)?;
        Some(target.digest.clone().unwrap_or_else(|| target.id.clone()))
    }

    /// The blob of that digest: a document, a layer's uncompressed stream by its diff id, or what
    /// is arriving.
    pub fn share(&self, digest: &Digest) -> Option<Shared> {
        let state = self.state();
        if state.documents().any(|known| known == digest) {
            drop(state);
            let bytes = Bytes::from(self.0.files.read_document(digest).ok()?);
            return Some(Shared { length: bytes.len() as u64, content: Content::Document(bytes) });
        }
        let layer = state.layers.values().find(|l| l.diff == *digest && l.length > 0);
        if let Some(layer) = layer {
            return Some(Shared {
                length: layer.length,
                content: Content::Layer(layer.chain.clone()),
            });
        }
        let arrival = state.arrivals.get(digest)?;
        let content = Content::Arriving(arrival.file.upgrade()?, arrival.seen.clone());
        Some(Shared { length: arrival.length, content })
    }

    /// Registers a blob that is on its way into `file`; what is sent says how far it has come.
    pub(super) fn arriving(
        &self,
        digest: &Digest,
        file: &Blob,
        length: u64,
    ) -> watch::Sender<Seen> {
        let (sender, seen) = watch::channel(Seen::default());
        let mut state = self.state();
        state.arrivals.retain(|_, arrival| arrival.file.strong_count() > 0);
        if length > 0 {
            let arrival = Arrival { file: Arc::downgrade(file), length, seen };
            state.arrivals.insert(digest.clone(), arrival);
        }
        sender
    }

    /// Digests of all that other boards can have from this one.
    pub fn holds(&self) -> Vec<Digest> {
        let state = self.state();
        let layers = state.layers.values().filter(|l| l.length > 0).map(|l| l.diff.clone());
        let mut all: Vec<Digest> = state.documents().cloned().chain(layers).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The names that every board may know, and what they stand for here.
    pub fn names(&self) -> Vec<(String, Digest)> {
        let state = self.state();
        let public = state.index.names.iter().filter(|(_, target)| !target.private);
        public
            .map(|(name, target)| {
                (name.clone(), target.digest.clone().unwrap_or_else(|| target.id.clone()))
            })
            .collect()
    }

    /// Calls the only image of an archive by another name; gives the complete name.
    pub fn call_only(&self, loaded: &[String], name: &str) -> Result<String, ImageError> {
        let bad =
            |why: &str| ImageError::InvalidName { name: name.to_owned(), why: why.to_owned() };
        let new = Reference::parse(name)?;
        if new.digest().is_some() {
            return Err(bad("a name for an image can't hold a digest"));
        }
        let mut state = self.state();
        let targets: Vec<Target> =
            loaded.iter().filter_map(|name| Some(state.lookup(name)?.1)).collect();
        let Some(first) = targets.first() else { return Err(super::unknown(name)) };
        if targets.iter().any(|target| target.id != first.id) {
            return Err(bad("the archive has several images, and one can have that name"));
        }
        let mut index = state.index.clone();
        index.names.insert(new.canonical(), first.clone());
        self.replace(&mut state, index)?;
        Ok(new.canonical())
    }

    /// A named image as the cluster keeps it: what it is, its size, its layers.
    pub fn describe(&self, name: &str) -> Option<Value> {
        let state = self.state();
        let (name, target) = state.lookup(name)?;
        let chains = &state.index.images.get(&target.id)?.chains;
        let bytes: u64 = chains.iter().filter_map(|c| Some(state.layers.get(c)?.bytes)).sum();
        let layers = &state.configs.get(&target.id)?.diff_ids;
        let digest = target.digest.as_ref().unwrap_or(&target.id);
        Some(json!({ "name": name, "digest": digest, "id": target.id, "bytes": bytes,
            "layers": layers }))
    }

    /// For each list of diff ids, bottom first, the positions of layers that are not here.
    pub fn missing(&self, diffs: &[Digest]) -> Vec<usize> {
        let chains = super::install::chains(diffs);
        let missing = chains.iter().enumerate().filter(|(_, chain)| !self.has_layer(chain));
        missing.map(|(number, _)| number).collect()
    }

    /// Begins to read from `from` on; the stream ends early if the rest can't be had.
    pub fn read(&self, shared: Shared, from: u64) -> Result<mpsc::Receiver<Bytes>, Refused> {
        let permit = self.0.readers.clone().try_acquire_owned().map_err(|_| Refused::Busy)?;
        let (out, pieces) = mpsc::channel(PIECES);
        match shared.content {
            Content::Document(bytes) => {
                let start = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                let _ = out.try_send(bytes.slice(start..));
            }
            Content::Layer(chain) => {
                let store = self.clone();
                tokio::task::spawn_blocking(move || store.give_layer(&chain, from, &out, permit));
            }
            Content::Arriving(file, seen) => {
                let length = shared.length;
                tokio::spawn(async move {
                    let given = give_arriving(&file, length, seen, from, &out).await;
                    if let Err(error) = given {
                        tracing::debug!(%error, "read a blob that is arriving");
                    }
                    drop(permit);
                });
            }
        }
        Ok(pieces)
    }

    fn give_layer(
        &self,
        chain: &Digest,
        from: u64,
        out: &mpsc::Sender<Bytes>,
        permit: OwnedSemaphorePermit,
    ) {
        // Small segments are gathered, since each piece becomes a write of its own.
        let mut gathered: Vec<u8> = Vec::with_capacity(PIECE);
        let mut give = |bytes: &[u8]| {
            gathered.extend_from_slice(bytes);
            if gathered.len() < PIECE {
                return true;
            }
            let piece = std::mem::replace(&mut gathered, Vec::with_capacity(PIECE));
            out.blocking_send(Bytes::from(piece)).is_ok()
        };
        let made = layers::stream(&self.0.layers_dir, chain, from, &mut give);
        match made {
            Ok(()) if gathered.is_empty() => {}
            Ok(()) => drop(out.blocking_send(Bytes::from(gathered))),
            Err(error) => tracing::warn!(layer = %chain, %error, "hand on a layer"),
        }
        drop(permit);
    }
}

impl State {
    /// Digests of the documents of all images: configurations, manifests, indexes.
    fn documents(&self) -> impl Iterator<Item = &Digest> {
        let images = self.index.images.iter();
        let of_images = images.flat_map(|(id, record)| std::iter::once(id).chain(&record.manifest));
        of_images.chain(self.index.names.values().filter_map(|target| target.digest.as_ref()))
    }
}

/// Follows the file as it grows.
async fn give_arriving(
    file: &Blob,
    length: u64,
    mut seen: watch::Receiver<Seen>,
    from: u64,
    out: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut source = tokio::fs::File::open(file.path()).await?;
    source.seek(std::io::SeekFrom::Start(from)).await?;
    let mut at = from;
    loop {
        let now = *seen.borrow_and_update();
        let end = match now.whole {
            true => length,
            false => now.written.min(length.saturating_sub(HELD_BACK)),
        };
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; want];
            source.read_exact(&mut piece).await?;
            at += want as u64;
            if out.send(Bytes::from(piece)).await.is_err() {
                return Ok(());
            }
        }
        if now.whole {
            return Ok(());
        }
        tokio::select! {
            changed = seen.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = out.closed() => return Ok(()),
        }
    }
}
