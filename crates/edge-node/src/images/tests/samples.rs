//! Images made in memory for tests: layers entry by entry, and archives around them.

use super::super::digest::Digest;
use super::super::platform::Platform;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tar::{EntryType, Header};

/// A directory that goes away with the value.
pub(in crate::images) struct Scratch(pub(in crate::images) PathBuf);

impl Scratch {
    pub(in crate::images) fn new(name: &str) -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-images-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        super::super::disk::remove(&self.0).unwrap();
    }
}

/// A tar stream, entry by entry, with names that no library would write.
#[derive(Default)]
pub(in crate::images) struct Tar(pub(in crate::images) Vec<u8>);

impl Tar {
    pub(in crate::images) fn raw(
        mut self,
        kind: EntryType,
        path: &[u8],
        data: &[u8],
        link: &[u8],
    ) -> Tar {
        self.add(kind, path, data, link, |_| {});
        self
    }

    pub(in crate::images) fn add(
        &mut self,
        kind: EntryType,
        path: &[u8],
        data: &[u8],
        link: &[u8],
        adjust: impl FnOnce(&mut Header),
    ) {
        let mut pax = Vec::new();
        if path.len() > 100 {
            record(&mut pax, b"path", path);
        }
        if link.len() > 100 {
            record(&mut pax, b"linkpath", link);
        }
        self.records(&pax);
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        old.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        adjust(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(data);
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// A PAX header for the next entry.
    pub(in crate::images) fn records(&mut self, records: &[u8]) {
        if !records.is_empty() {
            self.add(EntryType::XHeader, b"pax", records, b"", |_| {});
        }
    }

    pub(in crate::images) fn pax(mut self, key: &[u8], value: &[u8]) -> Tar {
        let mut records = Vec::new();
        record(&mut records, key, value);
        self.records(&records);
        self
    }

    pub(in crate::images) fn file(self, path: &str, data: &[u8]) -> Tar {
        self.raw(EntryType::Regular, path.as_bytes(), data, b"")
    }

    pub(in crate::images) fn dir(self, path: &str) -> Tar {
        self.raw(EntryType::Directory, path.as_bytes(), b"", b"")
    }

    pub(in crate::images) fn symlink(self, path: &str, target: &str) -> Tar {
        self.raw(EntryType::Symlink, path.as_bytes(), b"", target.as_bytes())
    }

    pub(in crate::images) fn link(self, path: &str, target: &str) -> Tar {
        self.raw(EntryType::Link, path.as_bytes(), b"", target.as_bytes())
    }

    pub(in crate::images) fn moded(
        mut self,
        kind: EntryType,
        path: &str,
        data: &[u8],
        mode: u32,
    ) -> Tar {
        self.add(kind, path.as_bytes(), data, b"", |header| header.set_mode(mode));
        self
    }

    pub(in crate::images) fn device(
        mut self,
        kind: EntryType,
        path: &str,
        major: u32,
        minor: u32,
    ) -> Tar {
        self.add(kind, path.as_bytes(), b"", b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        });
        self
    }

    /// The whole stream.
    pub(in crate::images) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Appends a PAX record, whose length counts its own digits.
pub(in crate::images) fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(&[key, b"=", value, b"\n"].concat());
}

pub(in crate::images) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(in crate::images) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An image in parts, for archives and registries.
#[derive(Clone)]
pub(in crate::images) struct Sample {
    pub(in crate::images) config: Vec<u8>,
    pub(in crate::images) manifest: Vec<u8>,
    /// As they travel.
    pub(in crate::images) layers: Vec<Vec<u8>>,
    pub(in crate::images) plain: Vec<Vec<u8>>,
}

impl Sample {
    /// An image of uncompressed layers; `pack` makes what travels of each.
    pub(in crate::images) fn new(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Sample {
        Sample::with_config(layers, pack, |_| {})
    }

    pub(in crate::images) fn with_config(
        layers: &[Vec<u8>],
        pack: fn(&[u8]) -> Vec<u8>,
        change: impl FnOnce(&mut Value),
    ) -> Sample {
        let board = Platform::host();
        let diffs: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let mut config = json!({
            "os": board.os, "architecture": board.architecture, "variant": board.variant,
            "config": {"Entrypoint": ["/bin/app"], "Cmd": ["--serve"], "Env": ["A=1"],
                "User": "nobody", "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
                "Volumes": {"/data": {}}},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        change(&mut config);
        let config = config.to_string().into_bytes();
        let packed: Vec<Vec<u8>> = layers.iter().map(|layer| pack(layer)).collect();
        let entry = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": entry("application/vnd.oci.image.config.v1+json", &config),
            "layers": packed.iter()
                .map(|layer| entry("application/vnd.oci.image.layer.v1.tar", layer))
                .collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        Sample { config, manifest, layers: packed, plain: layers.to_vec() }
    }

    pub(in crate::images) fn blobs(&self) -> Vec<Vec<u8>> {
        let mut blobs = vec![self.config.clone(), self.manifest.clone()];
        blobs.extend(self.layers.iter().cloned());
        blobs
    }

    /// An OCI layout with this image under `name`.
    pub(in crate::images) fn oci(&self, name: Option<&str>) -> Vec<u8> {
        let mut entry = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&self.manifest), "size": self.manifest.len()});
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut tar = Tar::default().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for blob in self.blobs() {
            tar = tar.file(&format!("blobs/sha256/{}", Digest::of(&blob).hex()), &blob);
        }
        tar.file("index.json", index.as_bytes()).end()
    }

    /// What `docker save` wrote before it wrote OCI layouts.
    pub(in crate::images) fn docker(&self, tags: &[&str]) -> Vec<u8> {
        let name = format!("{}.json", Digest::of(&self.config).hex());
        let mut tar = Tar::default().file(&name, &self.config);
        let mut layers = Vec::new();
        for (number, layer) in self.plain.iter().enumerate() {
            let path = format!("layer{number}/layer.tar");
            tar = tar.file(&path, layer);
            layers.push(path);
        }
        let manifest = json!([{"Config": name, "RepoTags": tags, "Layers": layers}]);
        tar.file("manifest.json", manifest.to_string().as_bytes()).end()
    }
}

pub(in crate::images) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
