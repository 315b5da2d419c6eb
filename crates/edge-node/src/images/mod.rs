//! The image store of a board: images come from registries or archives, are unpacked once into
//! layers that all images share, and go when the disk fills up. The layers are directories that
//! overlayfs mounts as they are.

mod archive;
pub mod build;
mod collect;
mod decompress;
mod digest;
mod disk;
mod error;
mod index;
mod install;
mod lan;
mod layers;
mod manifest;
mod pax;
mod platform;
mod program;
mod progress;
mod recipe;
mod reference;
mod registry;
pub(crate) mod relay;
mod share;
mod tarstream;
mod turns;
mod unpack;
pub mod webserver;

#[cfg(test)]
mod tests;

pub use collect::Collected;
pub use digest::Digest;
pub use error::ImageError;
pub use lan::Lan;
pub use manifest::ImageConfig;
pub use platform::Platform;
pub use progress::{Progress, Step};
pub use reference::Reference;
pub use registry::{RegistriesConfig, RegistryAuth, RegistryConfig, Timing};
pub use share::{Refused, Shared};

use disk::{Ingest, Temporary};
use index::{Files, Index, Target};
use layers::Layer;
use manifest::ConfigFile;
use nix::fcntl::Flock;
use relay::{Relays, Waits};
use share::Arrival;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Semaphore, watch};
use turns::Turns;

/// How to open an [`ImageStore`].
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// Registries that need something other than the default.
    pub registries: RegistriesConfig,
    /// What images must be for.
    pub platform: Platform,
    /// How patient to be with registries.
    pub timing: Timing,
    /// The way to the other boards, if there may be any.
    pub lan: Option<Arc<Lan>>,
}

impl Default for ImagesConfig {
    fn default() -> ImagesConfig {
        ImagesConfig {
            registries: RegistriesConfig::default(),
            platform: Platform::host(),
            timing: Timing::default(),
            lan: None,
        }
    }
}

/// An image that is on the board, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the image's configuration: the same for the same image under every name.
    pub id: String,
    /// The complete reference that it was found by, or its id.
    pub reference: String,
    /// `sha256:…` that the registry has for that reference, if it came from one.
    pub digest: Option<String>,
    /// Directories of the layers, bottom first, as overlayfs wants them.
    pub layers: Vec<PathBuf>,
    /// What containers of it get unless the pod says otherwise.
    pub config: ImageConfig,
}

impl Image {
    /// What Kubernetes shows as `imageID`: `repository@digest` where known, else the id.
    pub fn image_id(&self) -> String {
        match (&self.digest, Reference::parse(&self.reference)) {
            (Some(digest), Ok(reference)) => format!("{}@{digest}", reference.name()),
            _ => self.id.clone(),
        }
    }
}

/// An image as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `repository:tag` names.
    pub tags: Vec<String>,
    /// `repository@digest` names.
    pub digests: Vec<String>,
    /// Bytes on disk, shared layers included.
    pub bytes: u64,
}

/// The store; cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layers_dir: PathBuf,
    files: Files,
    ingest: Ingest,
    config: ImagesConfig,
    state: Mutex<State>,
    /// One unpacking of a layer, one pull of a reference, one load at a time.
    turns: Turns,
    /// Counts changes of what this board holds.
    changes: watch::Sender<u64>,
    /// How many may read what this board gives away.
    readers: Arc<Semaphore>,
    /// Pushes that it hands on.
    relays: Relays,
    _lock: Flock<File>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    configs: BTreeMap<Digest, ConfigFile>,
    layers: BTreeMap<Digest, Layer>,
    /// Layers that a pull under way relies on, and how many do.
    held: BTreeMap<Digest, usize>,
    /// Downloads that somebody still holds, for others that want the same.
    blobs: BTreeMap<Digest, Weak<Temporary>>,
    /// What is on its way, for boards that want the same.
    arrivals: BTreeMap<Digest, Arrival>,
    /// When an image was first seen and last used in this run, Unix milliseconds.
    seen: BTreeMap<Digest, collect::Seen>,
}

impl ImageStore {
    /// Opens the store in `dir`, made if missing, and removes what a crash left unfinished.
    pub fn open(dir: &Path, config: ImagesConfig) -> Result<ImageStore, ImageError> {
        config.registries.check()?;
        disk::make_directory(dir)?;
        let lock = disk::lock(dir)?;
        let files = Files::new(dir);
        let layers_dir = dir.join("layers");
        let ingest = Ingest::open(dir.join("ingest"))?;
        let mut index = files.read()?;
        let layers = layers::scan(&layers_dir)?;
        let configs = index.check(&files, |chain| layers.contains_key(chain));
        files.sweep(&index)?;
        let state = State { index, configs, layers, ..State::default() };
        let store = ImageStore(Arc::new(Inner {
            layers_dir,
            files,
            ingest,
            config,
            state: Mutex::new(state),
            turns: Turns::default(),
            changes: watch::Sender::new(0),
            readers: Arc::new(Semaphore::new(share::READERS)),
            relays: Relays::new(Waits::default()),
            _lock: lock,
        }));
        drop(store.take_orphans(&mut store.state())?);
        Ok(store)
    }

    /// The pushes that this board hands on.
    pub(crate) fn relays(&self) -> &Relays {
        &self.0.relays
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image of that name, digest or id, if the board has it.
    pub fn find(&self, reference: &str) -> Option<Image> {
        let state = self.state();
        let (name, target) = state.lookup(reference)?;
        self.image(&state, &name, &target)
    }

    fn image(&self, state: &State, name: &str, target: &Target) -> Option<Image> {
        let record = state.index.images.get(&target.id)?;
        let config = state.configs.get(&target.id)?;
        let tree = |chain| layers::tree(&self.0.layers_dir, chain);
        Some(Image {
            id: target.id.to_string(),
            reference: name.to_string(),
            digest: target.digest.as_ref().map(Digest::to_string),
            layers: record.chains.iter().map(tree).collect(),
            config: config.run.clone(),
        })
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<ImageSummary> {
        let state = self.state();
        let images = state.index.images.iter();
        images
            .map(|(id, record)| {
                let (digests, tags) =
                    state.index.names_of(id).cloned().partition(|name| name.contains('@'));
                let layers = record.chains.iter().filter_map(|chain| state.layers.get(chain));
                let bytes = layers.map(|layer| layer.bytes).sum();
                ImageSummary { id: id.to_string(), tags, digests, bytes }
            })
            .collect()
    }

    /// Gives an image a further name.
    pub fn tag(&self, existing: &str, new: &str) -> Result<(), ImageError> {
        let new = Reference::parse(new)?;
        if new.digest().is_some() {
            let why = "a tag can't hold a digest".to_string();
            return Err(ImageError::InvalidName { name: new.to_string(), why });
        }
        let mut state = self.state();
        let (_, target) = state.lookup(existing).ok_or_else(|| unknown(existing))?;
        let mut index = state.index.clone();
        index
            .names
            .insert(new.canonical(), Target { private: target.private, ..Target::of(target.id) });
        self.replace(&mut state, index)
    }

    /// Removes a name, and the image with its last tag; by id, the image with all names. Whether a
    /// container uses it is for the caller to know.
    pub fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let gone = {
            let mut state = self.state();
            let (name, target) = state.lookup(reference).ok_or_else(|| unknown(reference))?;
            let mut index = state.index.clone();
            index.names.remove(&name);
            let tagged = index.names_of(&target.id).any(|other| !other.contains('@'));
            if name == target.id.as_str() || !tagged {
                index.images.remove(&target.id);
                index.names.retain(|_, other| other.id != target.id);
            }
            self.replace(&mut state, index)?;
            self.take_orphans(&mut state)?
        };
        drop(gone);
        Ok(())
    }

    /// Makes `index` the store's index, on disk first.
    fn replace(&self, state: &mut State, index: Index) -> Result<(), ImageError> {
        self.0.files.write(&self.0.ingest, &index)?;
        state.configs.retain(|id, _| index.images.contains_key(id));
        state.seen.retain(|id, _| index.images.contains_key(id));
        let dropped = state.index.images.len() > index.images.len();
        state.index = index;
        self.0.changes.send_modify(|changes| *changes += 1);
        if dropped {
            self.0.files.sweep(&state.index)?;
        }
        Ok(())
    }

    /// Takes layers that nothing needs out of use; they are removed when the values are dropped,
    /// which takes long and should happen without the state's lock.
    fn take_orphans(&self, state: &mut State) -> Result<Vec<Temporary>, ImageError> {
        let used = state.index.used_layers();
        let needed = |chain: &Digest| used.contains(chain) || state.held.contains_key(chain);
        let orphans: Vec<Digest> =
            state.layers.keys().filter(|chain| !needed(chain)).cloned().collect();
        let mut gone = Vec::new();
        for chain in orphans {
            gone.push(self.0.ingest.discard(&layers::path(&self.0.layers_dir, &chain))?);
            state.layers.remove(&chain);
        }
        if !gone.is_empty() {
            disk::sync_directory(&self.0.layers_dir)?;
        }
        Ok(gone)
    }
}

fn unknown(reference: &str) -> ImageError {
    let detail = "this board doesn't have it".to_string();
    ImageError::NotFound { reference: reference.to_string(), detail }
}

/// Fewer hex digits of an id than this name no image.
const SHORT_ID_MIN: usize = 12;

impl State {
    /// Resolves a name, a pinned name, an id or the beginning of one.
    fn lookup(&self, reference: &str) -> Option<(String, Target)> {
        if let Ok(parsed) = Reference::parse(reference) {
            let name = parsed.canonical();
            if let Some(target) = self.index.names.get(&name) {
                return Some((name, target.clone()));
            }
        }
        let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
        if hex.len() < SHORT_ID_MIN || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut matches = self.index.images.keys().filter(|id| id.hex().starts_with(hex));
        let id = matches.next()?;
        if matches.next().is_some() {
            return None;
        }
        Some((id.to_string(), Target::of(id.clone())))
    }
}
