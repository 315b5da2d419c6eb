//! An image of a given size that runs: a static busybox beside bytes that nothing can compress,
//! as an archive that `docker save` could have made.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::chance::Chance;

/// What the image is called.
pub(crate) const NAME: &str = "example.org/heavy:1";

/// Bytes of one layer.
const LAYER: usize = 20 << 20;

/// Writes an archive with layers of 20 MiB, `bytes` in all.
pub(crate) fn archive(path: &Path, bytes: usize, seed: u64) {
    named(path, NAME, bytes, seed);
}

/// The same, called something else.
pub(crate) fn named(path: &Path, name: &str, bytes: usize, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut layers = vec![busybox()];
    for n in 0..bytes.div_ceil(LAYER) {
        let size = LAYER.min(bytes - n * LAYER);
        let mut noise = Vec::with_capacity(size + 8);
        while noise.len() < size {
            noise.extend(chance.next().to_le_bytes());
        }
        noise.truncate(size);
        layers.push(layer(&format!("noise-{n}"), &noise, 0o644));
    }
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    write(path, name, arch, &layers);
}

/// Writes an archive of that program alone, as `/bin/busybox`, for another architecture.
pub(crate) fn program(path: &Path, name: &str, arch: &str, program: &[u8]) {
    write(path, name, arch, &[layer("bin/busybox", program, 0o755)]);
}

fn write(path: &Path, name: &str, arch: &str, layers: &[Vec<u8>]) {
    let digest = |layer: &Vec<u8>| {
        let sum = Sha256::digest(layer);
        format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(digest).collect::<Vec<_>>()},
    });
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": names}]);
    let mut tar = tar::Builder::new(std::fs::File::create(path).expect("an archive"));
    add(&mut tar, "config.json", config.to_string().as_bytes(), 0o644);
    for (name, layer) in names.iter().zip(layers) {
        add(&mut tar, name, layer, 0o644);
    }
    add(&mut tar, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    tar.finish().expect("an archive");
}

fn busybox() -> Vec<u8> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let program = places.into_iter().find_map(|path| std::fs::read(path).ok());
    let program = program.expect("busybox-static: tests/setup.sh test installs it");
    layer("bin/busybox", &program, 0o755)
}

/// A layer with one file.
pub(crate) fn layer(name: &str, content: &[u8], mode: u32) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, name, content, mode);
    tar.into_inner().expect("a layer")
}

fn add<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).expect("64 bits"));
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, name, content).expect("a file in an archive");
}
