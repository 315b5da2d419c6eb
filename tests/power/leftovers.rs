//! What a power cut leaves of images and of the ledger: each image of the index whole, layer by
//! layer, and each record of a pod a whole one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edge_node::images::{ImageStore, ImagesConfig};
use sha2::{Digest, Sha256};

/// Looks at a data directory; `images` were acknowledged.
pub(crate) fn check(data: &Path, images: &BTreeSet<usize>) -> Result<(), String> {
    let store = ImageStore::open(&data.join("images"), ImagesConfig::default())
        .map_err(|error| format!("the image store does not open: {error}"))?;
    for number in images {
        if store.find(&format!("example.org/box-{number}:1")).is_none() {
            return Err(format!("image {number} was acknowledged and is not there"));
        }
    }
    for summary in store.list() {
        let name = summary.tags.first().cloned().unwrap_or(summary.id);
        let image = store.find(&name).ok_or_else(|| format!("{name} is listed and not found"))?;
        for layer in &image.layers {
            layer_is_whole(layer).map_err(|why| format!("{name}: half an image: {why}"))?;
        }
    }
    drop(store);
    ledger(&data.join("ledger/pods"))
}

/// All layers of the tests' images have a single file; those that were ever seen whole are known
/// by their content, which is what the layer's own record says of it.
fn layer_is_whole(tree: &Path) -> Result<(), String> {
    let record = tree.with_file_name("layer.json");
    let text = std::fs::read(&record).map_err(|e| format!("{}: {e}", record.display()))?;
    let record: serde_json::Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let mut files = BTreeMap::new();
    walk(tree, &mut files).map_err(|e| format!("{}: {e}", tree.display()))?;
    let bytes: u64 = files.values().map(|content| content.len() as u64).sum();
    if record["bytes"].as_u64() != Some(bytes) {
        return Err(format!("{} has {bytes} bytes: {record}", tree.display()));
    }
    // The stream of the layer is made again from the tree, as for another board.
    let [(name, content)] = &files.into_iter().collect::<Vec<_>>()[..] else {
        return Err(format!("{} has not one file", tree.display()));
    };
    let mode = if name.ends_with("busybox") { 0o755 } else { 0o644 };
    let digest = Sha256::digest(crate::lab::cargo::layer(name, content, mode));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let said = record["diff"].as_str().unwrap_or_default();
    let same = said.trim_start_matches("sha256:") == digest;
    same.then_some(()).ok_or_else(|| format!("{name} is not what {said} was"))
}

fn walk(tree: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut dirs = vec![tree.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(tree).expect("beneath").display().to_string();
                files.insert(name, std::fs::read(&path)?);
            }
        }
    }
    Ok(())
}

/// Every record of a pod can be read, and is of the pod that its name says.
fn ledger(pods: &Path) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(pods) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = std::fs::read(&path).map_err(|e| e.to_string())?;
        let pod: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|e| format!("half a pod: {}: {e}", path.display()))?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        if path.file_stem().is_none_or(|stem| stem.to_string_lossy() != *uid) {
            return Err(format!("{} is of {uid}", path.display()));
        }
    }
    Ok(())
}
