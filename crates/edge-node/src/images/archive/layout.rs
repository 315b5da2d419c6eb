//! Finds the images in an archive's files: by `index.json` (OCI) or `manifest.json` (Docker).
//! Recent Docker writes both; whichever knows names is taken.

use super::super::digest::Digest;
use super::super::disk::Blob;
use super::super::error::ImageError;
use super::super::install::Candidate;
use super::super::manifest::not_json;
use super::super::manifest::{ConfigFile, DOCUMENT_MAX, Descriptor, Document, Manifest, choose};
use super::super::platform::Platform;
use super::super::reference::Reference;
use super::{Contents, Stored, WHAT};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;

/// An index may point to an index; more levels are nonsense.
const INDEX_DEPTH: usize = 4;
const LINKS_MAX: usize = 8;

/// An image of the archive, with the blobs of its layers, bottom first.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) candidate: Candidate,
    /// A layer that is not in the archive is an error only where it is needed.
    pub(super) layers: Vec<Result<Blob, ImageError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// All images for this board.
pub(super) fn images(contents: Contents, board: &Platform) -> Result<Vec<Found>, ImageError> {
    let index = contents.lookup("index.json").is_some();
    let docker = contents.lookup("manifest.json").is_some();
    let found = match (index, docker) {
        (false, false) => {
            return Err(ImageError::malformed(
                WHAT,
                "it has neither index.json (OCI) nor manifest.json (docker save); is it cut off?",
            ));
        }
        (true, false) => contents.oci(board)?,
        (false, true) => contents.docker(board)?,
        (true, true) => {
            let found = contents.oci(board)?;
            if found.iter().any(|image| !image.candidate.names.is_empty()) {
                found
            } else {
                contents.docker(board)?
            }
        }
    };
    if found.is_empty() {
        return Err(ImageError::malformed(WHAT, "it has no images"));
    }
    Ok(found)
}

impl Contents {
    fn lookup(&self, path: &str) -> Option<&Stored> {
        let mut path = path;
        for _ in 0..LINKS_MAX {
            match self.files.get(path) {
                Some(stored) => return Some(stored),
                None => path = self.links.get(path)?,
            }
        }
        None
    }

    fn require(&self, path: &str) -> Result<&Stored, ImageError> {
        self.lookup(path)
            .ok_or_else(|| ImageError::malformed(WHAT, format!("{path} is missing from it")))
    }

    /// A JSON document, whole in memory.
    fn document(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let stored = self.require(path)?;
        if stored.size > DOCUMENT_MAX {
            let detail = format!("{path} is over {DOCUMENT_MAX} bytes");
            return Err(ImageError::malformed(WHAT, detail));
        }
        let file = stored.blob.path();
        fs::read(file).map_err(|e| ImageError::file("read", file, &e))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<String, ImageError> {
        let path = format!("blobs/sha256/{}", descriptor.digest.hex());
        let stored = self.require(&path)?;
        if stored.digest != descriptor.digest {
            return Err(ImageError::Corrupt {
                what: format!("{path} in the {WHAT}"),
                detail: format!("its content has digest {}", stored.digest),
            });
        }
        Ok(path)
    }

    fn oci(&self, board: &Platform) -> Result<Vec<Found>, ImageError> {
        let what = format!("index.json of the {WHAT}");
        let Document::Index(entries) = Document::parse(&what, &self.document("index.json")?)?
        else {
            return Err(ImageError::malformed(what, "it is no index"));
        };
        // Several platforms under one name, or without any, are one image; several names are not.
        let mut labels: Vec<Option<String>> = Vec::new();
        for entry in &entries {
            let label = label(entry);
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        let mut found: Vec<Found> = Vec::new();
        for name in labels {
            let group: Vec<Descriptor> =
                entries.iter().filter(|entry| label(entry) == name).cloned().collect();
            let image = match group.as_slice() {
                [one] => self.follow(one.clone(), name.as_deref(), board)?,
                several => {
                    let shown = name.clone().unwrap_or_else(|| WHAT.to_string());
                    let best = choose(&shown, several, board)?.clone();
                    self.follow(best, name.as_deref(), board)?
                }
            };
            match found.iter_mut().find(|other| other.candidate.config == image.candidate.config) {
                Some(same) => same.candidate.names.extend(image.candidate.names),
                None => found.push(image),
            }
        }
        Ok(found)
    }

    /// From a descriptor in `index.json` to the image for this board.
    fn follow(
        &self,
        top: Descriptor,
        name: Option<&str>,
        board: &Platform,
    ) -> Result<Found, ImageError> {
        let names = names(name.into_iter())?;
        let shown = names.first().cloned().unwrap_or_else(|| top.digest.to_string());
        let mut descriptor = top.clone();
        let mut index = None;
        for _ in 0..INDEX_DEPTH {
            let bytes = self.document(&self.blob(&descriptor)?)?;
            let what = format!("manifest {} in the {WHAT}", descriptor.digest);
            match Document::parse(&what, &bytes)? {
                Document::Index(entries) => {
                    descriptor = choose(&shown, &entries, board)?.clone();
                    index.get_or_insert(bytes);
                }
                Document::Manifest(manifest) => {
                    let mut found = self.assemble(shown, names, top.digest, &manifest, bytes)?;
                    found.candidate.index = index;
                    return Ok(found);
                }
            }
        }
        Err(ImageError::malformed(WHAT, format!("{shown}: indexes nested too deeply")))
    }

    fn assemble(
        &self,
        label: String,
        names: Vec<String>,
        digest: Digest,
        manifest: &Manifest,
        bytes: Vec<u8>,
    ) -> Result<Found, ImageError> {
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            let found = self.blob(layer).and_then(|path| Ok(self.require(&path)?.blob.clone()));
            match found {
                Err(error @ ImageError::Corrupt { .. }) => return Err(error),
                found => layers.push(found),
            }
        }
        Ok(Found {
            candidate: Candidate {
                label,
                names,
                digest: Some(digest),
                config: self.document(&self.blob(&manifest.config)?)?,
                manifest: Some(bytes),
                index: None,
                private: false,
            },
            layers,
        })
    }

    fn docker(&self, board: &Platform) -> Result<Vec<Found>, ImageError> {
        let what = format!("manifest.json of the {WHAT}");
        let bytes = self.document("manifest.json")?;
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::malformed(&what, not_json(&bytes, &e)))?;
        let mut found = Vec::new();
        for image in images {
            let names = names(image.repo_tags.iter().flatten().map(String::as_str))?;
            let label = names.first().cloned().unwrap_or_else(|| image.config.clone());
            let config = self.document(&image.config)?;
            let parsed = ConfigFile::parse(&format!("configuration of {label}"), &config)?;
            if parsed.diff_ids.len() != image.layers.len() {
                let (says, has) = (parsed.diff_ids.len(), image.layers.len());
                let detail = format!("{label}: {has} layers, its configuration says {says}");
                return Err(ImageError::malformed(what, detail));
            }
            parsed.check_platform(&label, board)?;
            let mut layers = Vec::new();
            for layer in &image.layers {
                layers.push(self.require(layer).map(|stored| stored.blob.clone()));
            }
            let candidate = Candidate {
                label,
                names,
                digest: None,
                config,
                manifest: None,
                index: None,
                private: false,
            };
            found.push(Found { candidate, layers });
        }
        Ok(found)
    }
}

/// The name that an index gives to an entry: containerd's is complete, OCI's may be a tag only.
fn label(entry: &Descriptor) -> Option<String> {
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .find_map(|key| entry.annotations.get(*key))
        .filter(|name| !name.is_empty())
        .cloned()
}

/// Complete references, each once.
fn names<'a>(written: impl Iterator<Item = &'a str>) -> Result<Vec<String>, ImageError> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for name in written {
        let name = Reference::parse(name)?.canonical();
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}
