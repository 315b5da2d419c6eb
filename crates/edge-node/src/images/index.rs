//! Which images there are, and under which names: `index.json`, replaced as a whole at each change,
//! and the JSON documents of each image under `documents/`, named by their digest.

use super::digest::Digest;
use super::disk::{self, Ingest};
use super::error::ImageError;
use super::manifest::ConfigFile;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Chain ids of the layers, bottom first.
    pub(super) chains: Vec<Digest>,
    /// The manifest, if the image came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Digest>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Digest of the image's configuration.
    pub(super) id: Digest,
    /// Digest that the registry has for it: of the index, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    /// It took a secret to learn this, so other boards are not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) private: bool,
}

impl Target {
    /// An image that no registry has named.
    pub(super) fn of(id: Digest) -> Target {
        Target { id, digest: None, private: false }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) images: BTreeMap<Digest, Record>,
    /// By canonical reference: `registry/repository:tag` or `registry/repository@digest`.
    pub(super) names: BTreeMap<String, Target>,
}

/// Where index and documents are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) index: PathBuf,
    pub(super) documents: PathBuf,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Files {
        Files { index: dir.join("index.json"), documents: dir.join("documents") }
    }

    fn document(&self, digest: &Digest) -> PathBuf {
        self.documents.join(digest.hex())
    }

    /// Reads a document and checks that it is what its name says.
    pub(super) fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.document(digest);
        let bytes = fs::read(&path).map_err(|e| ImageError::file("read", &path, &e))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            let detail = format!("its content has digest {found}");
            return Err(ImageError::Corrupt { what: path.display().to_string(), detail });
        }
        Ok(bytes)
    }

    pub(super) fn write_document(
        &self,
        ingest: &Ingest,
        bytes: &[u8],
    ) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        if self.read_document(&digest).is_err() {
            ingest.write(&self.document(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Reads the index; a missing one is empty, a damaged one is an error, since starting anew
    /// would throw all images away.
    pub(super) fn read(&self) -> Result<Index, ImageError> {
        disk::make_directory(&self.documents)?;
        let bytes = match fs::read(&self.index) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(e) => return Err(ImageError::file("read", &self.index, &e)),
        };
        let damaged = |detail: String| ImageError::Corrupt {
            what: self.index.display().to_string(),
            detail: format!("{detail}; remove the file to start with no images"),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if index.version != VERSION {
            return Err(damaged(format!("version {} is not ours", index.version)));
        }
        Ok(index)
    }

    pub(super) fn write(&self, ingest: &Ingest, index: &Index) -> Result<(), ImageError> {
        let index = Index { version: VERSION, ..index.clone() };
        let bytes = serde_json::to_vec_pretty(&index).map_err(|e| ImageError::Io {
            operation: format!("write {}", self.index.display()),
            detail: e.to_string(),
        })?;
        ingest.write(&self.index, &bytes)
    }

    /// Removes documents that no image has.
    pub(super) fn sweep(&self, index: &Index) -> Result<(), ImageError> {
        let used: BTreeSet<&str> = index
            .images
            .iter()
            .flat_map(|(id, record)| std::iter::once(id).chain(&record.manifest))
            .chain(index.names.values().filter_map(|target| target.digest.as_ref()))
            .map(Digest::hex)
            .collect();
        for name in disk::names(&self.documents)? {
            if !used.contains(name.as_str()) {
                disk::remove(&self.documents.join(name))?;
            }
        }
        Ok(())
    }
}

impl Index {
    /// Forgets images whose documents or layers are not whole; their configurations come back.
    pub(super) fn check(
        &mut self,
        files: &Files,
        layer_exists: impl Fn(&Digest) -> bool,
    ) -> BTreeMap<Digest, ConfigFile> {
        let mut configs = BTreeMap::new();
        self.images.retain(|id, record| {
            let config = files
                .read_document(id)
                .and_then(|bytes| ConfigFile::parse(&format!("configuration {id}"), &bytes));
            match config {
                Ok(config) if record.chains.iter().all(&layer_exists) => {
                    configs.insert(id.clone(), config);
                    true
                }
                Ok(_) => {
                    tracing::warn!(image = %id, "forgetting an image: a layer is missing");
                    false
                }
                Err(error) => {
                    tracing::warn!(image = %id, %error, "forgetting an image");
                    false
                }
            }
        });
        let images = &self.images;
        self.names.retain(|_, target| images.contains_key(&target.id));
        configs
    }

    /// Layers that some image uses.
    pub(super) fn used_layers(&self) -> BTreeSet<&Digest> {
        self.images.values().flat_map(|record| &record.chains).collect()
    }

    /// The names of an image.
    pub(super) fn names_of(&self, id: &Digest) -> impl Iterator<Item = &String> {
        let id = id.clone();
        self.names.iter().filter(move |(_, target)| target.id == id).map(|(name, _)| name)
    }
}
