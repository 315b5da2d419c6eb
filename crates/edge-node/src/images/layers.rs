//! The unpacked layers on disk, each under its chain id: `layers/<id>/tree` is what overlayfs
//! mounts, `layers/<id>/layer.json` says what it is. A layer is there whole or not at all.

use super::decompress::Decompressor;
use super::digest::{Digest, HashingReader};
use super::disk::{self, Ingest, Temporary};
use super::error::{ImageError, unsmuggle};
use super::recipe::{self, Notes, Noting};
use super::tarstream::TarReader;
use super::unpack::{self, Limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Half of the digest is enough to name a directory, and keeps overlayfs' options short; the whole
/// one stands in `layer.json` and is compared.
const NAME_LEN: usize = 32;
/// More than this after the end of a layer's tar stream is no padding.
const TRAILER_MAX: u64 = 1 << 20;
const COPY_BUFFER: usize = 64 * 1024;
const TREE: &str = "tree";
const RECORD: &str = "layer.json";
/// How the stream is made again from the tree …
const RECIPE: &str = "recipe";
/// … or the blob as it came, for the rare layer that writes a path twice.
const BLOB: &str = "blob";

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) chain: Digest,
    pub(super) diff: Digest,
    /// Bytes of file data.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Length of the uncompressed stream; 0 for a layer that can't be handed on.
    #[serde(default)]
    pub(super) length: u64,
    /// Device nodes that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<String>,
}

/// Where a chain's layer is, whether it exists or not.
pub(super) fn path(layers: &Path, chain: &Digest) -> PathBuf {
    layers.join(&chain.hex()[..NAME_LEN])
}

/// The directory of a layer that overlayfs mounts.
pub(super) fn tree(layers: &Path, chain: &Digest) -> PathBuf {
    path(layers, chain).join(TREE)
}

/// Reads what layers there are. Whatever is not a whole layer is removed: nothing that this program
/// leaves there can be, so it is damage.
pub(super) fn scan(layers: &Path) -> Result<BTreeMap<Digest, Layer>, ImageError> {
    disk::make_directory(layers)?;
    let mut found = BTreeMap::new();
    for name in disk::names(layers)? {
        let dir = layers.join(&name);
        let record = fs::read(dir.join(RECORD))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Layer>(&bytes).ok())
            .filter(|layer| layer.chain.hex()[..NAME_LEN] == name && dir.join(TREE).is_dir());
        match record {
            Some(layer) => {
                found.insert(layer.chain.clone(), layer);
            }
            None => {
                tracing::warn!(layer = %dir.display(), "removing a damaged layer");
                disk::remove(&dir)?;
            }
        }
    }
    Ok(found)
}

/// What is to be unpacked, and on top of what.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Names the layer in errors.
    pub(super) what: String,
    pub(super) chain: Digest,
    pub(super) diff: Digest,
    /// Directories of the layers beneath, top first.
    pub(super) lowers: Vec<PathBuf>,
}

/// Unpacks `blob` and puts the layer in its place, if what comes out is what `plan` says.
pub(super) fn install(
    layers: &Path,
    ingest: &Ingest,
    plan: &Plan,
    blob: &Path,
) -> Result<Layer, ImageError> {
    let temporary = ingest.directory()?;
    let tree = temporary.path().join(TREE);
    fs::create_dir(&tree).map_err(|e| ImageError::file("create", &tree, &e))?;
    let limits =
        Limits::of_disk(&tree).map_err(|e| ImageError::file("examine the disk of", &tree, &e))?;
    let file = File::open(blob).map_err(|e| ImageError::file("open", blob, &e))?;
    let recipe = temporary.path().join(RECIPE);
    let failed = |e: io::Error| ImageError::file("write", &recipe, &e);
    let notes = Notes::create(&recipe).map_err(failed)?;
    let layer = extract(plan, file, &tree, limits, &notes)?;
    if !notes.finish().map_err(failed)? {
        disk::remove(&recipe)?;
        let kept = temporary.path().join(BLOB);
        fs::hard_link(blob, &kept).map_err(|e| ImageError::file("keep", &kept, &e))?;
    }
    commit(layers, &layer, &temporary)?;
    Ok(layer)
}

/// The unpacking itself, with the check of the uncompressed stream's digest.
fn extract(
    plan: &Plan,
    source: impl Read,
    tree: &Path,
    limits: Limits,
    notes: &Notes,
) -> Result<Layer, ImageError> {
    let what = plan.what.as_str();
    let stream = |e: io::Error| {
        unsmuggle(e, |e| match e.kind() {
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof => ImageError::malformed(what, e.to_string()),
            _ => ImageError::io(format!("read {what}"), e),
        })
    };
    let plain = Decompressor::new(source).map_err(stream)?;
    let mut tar = TarReader::new(HashingReader::new(Noting::new(plain, notes.clone())));
    let outcome = unpack::unpack(what, &mut tar, tree, &plan.lowers, limits, Some(notes))?;
    let mut rest = tar.into_inner();
    let trailer = io::copy(&mut (&mut rest).take(TRAILER_MAX), &mut io::sink()).map_err(stream)?;
    if trailer == TRAILER_MAX {
        let detail = format!("over {TRAILER_MAX} bytes after the end of its archive");
        return Err(ImageError::malformed(what, detail));
    }
    let (digest, length) = rest.finish();
    if digest != plan.diff {
        return Err(ImageError::Corrupt {
            what: what.to_string(),
            detail: format!("its content has digest {digest}, the image says {}", plan.diff),
        });
    }
    Ok(Layer {
        chain: plan.chain.clone(),
        diff: plan.diff.clone(),
        bytes: outcome.bytes,
        entries: outcome.entries,
        length,
        skipped: outcome.skipped,
    })
}

/// Makes a layer's uncompressed stream again, without its first `skip` bytes; `give` ends it by
/// answering false.
pub(super) fn stream(
    layers: &Path,
    chain: &Digest,
    skip: u64,
    mut give: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let dir = path(layers, chain);
    let recipe = dir.join(RECIPE);
    if recipe.exists() {
        return recipe::follow(&recipe, &dir.join(TREE), skip, give);
    }
    let mut plain = Decompressor::new(File::open(dir.join(BLOB))?)?;
    io::copy(&mut (&mut plain).take(skip), &mut io::sink())?;
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        match plain.read(&mut buffer)? {
            0 => return Ok(()),
            n if !give(&buffer[..n]) => return Ok(()),
            _ => {}
        }
    }
}

/// From here on the layer exists.
fn commit(layers: &Path, layer: &Layer, temporary: &Temporary) -> Result<(), ImageError> {
    let record = temporary.path().join(RECORD);
    let bytes = serde_json::to_vec(layer).map_err(|e| ImageError::Io {
        operation: format!("describe layer {}", layer.chain),
        detail: e.to_string(),
    })?;
    fs::write(&record, bytes).map_err(|e| ImageError::file("write", &record, &e))?;
    disk::sync_file_system(temporary.path())?;
    let place = path(layers, &layer.chain);
    fs::rename(temporary.path(), &place).map_err(|e| ImageError::file("create", &place, &e))?;
    disk::sync_directory(layers)
}
