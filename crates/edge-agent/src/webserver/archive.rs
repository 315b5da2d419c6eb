//! Makes the example's image: an OCI archive with one layer that holds this executable and,
//! where it is not static, the loader and libraries that it runs with.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where the executable is in the image.
const PROGRAM: &str = "edged";

/// `linux/<this>` of the platform the executable is for, as OCI names it.
fn architecture() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7")),
        other => (other, None),
    }
}

/// The archive, ready to be loaded under `reference`.
///
/// # Errors
/// When the executable or a library of it can't be read.
pub(crate) fn webserver(reference: &str) -> io::Result<Vec<u8>> {
    let layer = layer()?;
    let (architecture, variant) = architecture();
    let mut config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{PROGRAM}"), "webserver"],
            "ExposedPorts": {"8080/tcp": {}},
            "User": "65532:65532",
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    if let Some(variant) = variant {
        config["variant"] = json!(variant);
    }
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", &config),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = described("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": reference,
                                  "io.containerd.image.name": reference});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let mut archive = tar::Builder::new(Vec::new());
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(&mut archive, "oci-layout", 0o644, layout)?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&manifest, &config, &layer] {
        let digest = digest(blob);
        let name = digest.trim_start_matches("sha256:");
        append(&mut archive, &format!("blobs/sha256/{name}"), 0o644, blob)?;
    }
    archive.into_inner()
}

fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn described(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn append(to: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    to.append_data(&mut header, name, data)
}

/// The one layer.
fn layer() -> io::Result<Vec<u8>> {
    let mut files: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    files.insert(PROGRAM.into(), "/proc/self/exe".into());
    for path in libraries()? {
        let inside = path.strip_prefix("/").unwrap_or(&path).to_owned();
        files.insert(inside, path);
    }
    let mut layer = tar::Builder::new(Vec::new());
    for (inside, path) in files {
        let mut file = std::fs::File::open(&path)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let mut data = Vec::new();
        file.read_to_end(&mut data)?;
        let mode = file.metadata()?.permissions().mode() & 0o755 | 0o444;
        append(&mut layer, &inside.display().to_string(), mode, &data)?;
    }
    layer.into_inner()
}

/// The loader and libraries that this process runs with; none when it is static.
fn libraries() -> io::Result<Vec<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut found: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.splitn(6, ' ').nth(5).map(str::trim))
        .filter(|path| path.starts_with('/') && is_library(Path::new(path)))
        .map(PathBuf::from)
        .collect();
    found.sort();
    found.dedup();
    // The kernel knows the loader by the name in the executable, which may be a link.
    let loaders =
        ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-linux-armhf.so.3"];
    let dynamic = !found.is_empty();
    found.extend(loaders.map(PathBuf::from).into_iter().filter(|path| dynamic && path.exists()));
    found.dedup();
    Ok(found)
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.ends_with(".so") || name.contains(".so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_where_its_digest_says() {
        let archive = webserver("example/x:1").unwrap();
        let mut blobs = BTreeMap::new();
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            blobs.insert(name, data);
        }
        let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        let name = |digest: &Value| {
            format!("blobs/sha256/{}", &digest.as_str().unwrap()["sha256:".len()..])
        };
        let manifest = &blobs[&name(&index["manifests"][0]["digest"])];
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let layer = &blobs[&name(&manifest["layers"][0]["digest"])];
        assert_eq!(manifest["layers"][0]["size"], layer.len());
        assert_eq!(manifest["layers"][0]["digest"], digest(layer));
        let paths: Vec<String> = tar::Archive::new(&layer[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(paths.contains(&PROGRAM.to_owned()), "{paths:?}");
    }
}
