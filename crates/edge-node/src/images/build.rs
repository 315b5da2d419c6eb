//! Builds an image archive from files, with no other program: what `edged demo` runs. The archive
//! is an OCI layout of one uncompressed layer, and the same files give the same bytes.

use super::digest::Digest;
use super::error::ImageError;
use super::manifest::ImageConfig;
use super::platform::Platform;
use super::program;
use serde::Deserialize;
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// The recipe of the example image.
const WEBSERVER: &str = include_str!("../../../../images/webserver/image.json");

/// Something to put into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Absolute path in the image; directories above are made as needed.
    pub path: String,
    /// What is there.
    pub content: Content,
}

/// What an [`Item`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A copy of a file of this board, executable.
    Program(PathBuf),
    /// These bytes, readable.
    Bytes(Vec<u8>),
    /// A symbolic link.
    Link(String),
}

/// The file that the example's recipe describes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recipe {
    name: String,
    entrypoint: Vec<String>,
    env: Vec<String>,
    user: String,
    working_dir: String,
    stop_signal: String,
}

/// Writes the archive of the example web server to `out` and returns the image's name. Its program
/// is the one that runs this, with what it needs beside it when it is linked dynamically.
pub fn webserver(out: &mut impl Write) -> Result<String, ImageError> {
    let recipe: Recipe = serde_json::from_str(WEBSERVER)
        .map_err(|e| ImageError::malformed("images/webserver/image.json", e.to_string()))?;
    let path = recipe.entrypoint.first().cloned().unwrap_or_default();
    let items = program::items(Path::new("/proc/self/exe"), &path)?;
    let config = ImageConfig {
        entrypoint: recipe.entrypoint,
        env: recipe.env,
        user: recipe.user,
        working_dir: recipe.working_dir,
        stop_signal: Some(recipe.stop_signal),
        ..ImageConfig::default()
    };
    archive(&recipe.name, &items, &config, out)?;
    Ok(recipe.name)
}

/// Writes an archive with one image, called `name`, for this board's platform.
pub fn archive(
    name: &str,
    items: &[Item],
    config: &ImageConfig,
    out: &mut impl Write,
) -> Result<(), ImageError> {
    // The layer's digest stands before it, so it is made twice: once to be measured.
    let mut measured = Measured { hasher: super::digest::Hasher::new(), length: 0 };
    layer(items, &mut measured)?;
    let (diff, length) = (measured.hasher.finish(), measured.length);
    let config = config_file(config, &diff).into_bytes();
    let layer_entry = json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff, "size": length});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": entry("application/vnd.oci.image.config.v1+json", &config),
        "layers": [layer_entry],
    })
    .to_string()
    .into_bytes();
    let mut top = entry("application/vnd.oci.image.manifest.v1+json", &manifest);
    top["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());

    let failed = |e: io::Error| ImageError::io(format!("write the archive of {name}"), &e);
    file(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    file(out, "index.json", index.as_bytes()).map_err(failed)?;
    file(out, &blob(&Digest::of(&manifest)), &manifest).map_err(failed)?;
    file(out, &blob(&Digest::of(&config)), &config).map_err(failed)?;
    header(out, EntryType::Regular, &blob(&diff), length, 0o644, "").map_err(failed)?;
    layer(items, out)?;
    pad(out, length).map_err(failed)?;
    out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(failed)
}

fn entry(kind: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn config_file(config: &ImageConfig, diff: &Digest) -> String {
    let board = Platform::host();
    let mut file = json!({
        "os": board.os,
        "architecture": board.architecture,
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Env": config.env,
            "User": config.user,
            "WorkingDir": config.working_dir,
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    if !board.variant.is_empty() {
        file["variant"] = json!(board.variant);
    }
    if let Some(signal) = &config.stop_signal {
        file["config"]["StopSignal"] = json!(signal);
    }
    if !config.volumes.is_empty() {
        let volumes = config.volumes.iter().map(|volume| (volume.clone(), json!({})));
        file["config"]["Volumes"] = volumes.collect::<serde_json::Map<_, _>>().into();
    }
    file.to_string()
}

/// Hashes and counts what is written to it.
struct Measured {
    hasher: super::digest::Hasher,
    length: u64,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the layer's tar stream.
fn layer(items: &[Item], out: &mut impl Write) -> Result<(), ImageError> {
    let failed = |item: &Item, e: io::Error| ImageError::io(format!("pack {}", item.path), &e);
    for item in items {
        let path = item.path.trim_start_matches('/');
        match &item.content {
            Content::Program(source) => copy(source, path, out),
            Content::Bytes(bytes) => file(out, path, bytes),
            Content::Link(target) => header(out, EntryType::Symlink, path, 0, 0o777, target),
        }
        .map_err(|e| failed(item, e))?;
    }
    out.write_all(&[0; 1024]).map_err(|e| ImageError::io("write a layer", &e))
}

fn copy(source: &Path, path: &str, out: &mut impl Write) -> io::Result<()> {
    let mut program = File::open(source)?;
    let length = program.metadata()?.len();
    header(out, EntryType::Regular, path, length, 0o755, "")?;
    let copied = io::copy(&mut io::Read::take(&mut program, length), out)?;
    if copied != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pad(out, length)
}

fn file(out: &mut impl Write, path: &str, bytes: &[u8]) -> io::Result<()> {
    header(out, EntryType::Regular, path, bytes.len() as u64, 0o644, "")?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

/// A header that says nothing of when and by whom, so that the same files give the same bytes.
fn header(
    out: &mut impl Write,
    kind: EntryType,
    path: &str,
    size: u64,
    mode: u32,
    link: &str,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if !link.is_empty() {
        header.set_link_name_literal(link)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn pad(out: &mut impl Write, length: u64) -> io::Result<()> {
    let pad = usize::try_from(length.next_multiple_of(512) - length).unwrap_or(0);
    out.write_all(&[0; 512][..pad])
}
