//! `hostPath`: a path of the board, checked or made as its type asks.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use edge_api::k8s::api::core::v1::HostPathVolumeSource;

use super::make_dir;

pub(super) fn check(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = Path::new(&source.path);
    if !path.is_absolute() || source.path.split('/').any(|part| part == "..") {
        return Err(format!("hostPath \"{}\" must be absolute and without '..'", source.path));
    }
    let found = fs::metadata(path);
    let wanted = source.type_.as_deref().unwrap_or_default();
    match (wanted, &found) {
        ("" | "DirectoryOrCreate", Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            make_dir(path, 0o755).map_err(|e| format!("create {}: {e}", path.display()))?;
            return Ok(path.to_owned());
        }
        ("FileOrCreate", Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            let mut options = fs::OpenOptions::new();
            let made = options.write(true).create(true).truncate(false).mode(0o644).open(path);
            made.map_err(|e| format!("create {}: {e}", path.display()))?;
            return Ok(path.to_owned());
        }
        _ => {}
    }
    let fits: (&str, fn(&Metadata) -> bool) = match wanted {
        "" => ("", |_| true),
        "Directory" | "DirectoryOrCreate" => ("directory", Metadata::is_dir),
        "File" | "FileOrCreate" => ("file", Metadata::is_file),
        "Socket" => ("socket", |m| m.file_type().is_socket()),
        "CharDevice" => ("character device", |m| m.file_type().is_char_device()),
        "BlockDevice" => ("block device", |m| m.file_type().is_block_device()),
        other => {
            return Err(format!("hostPath type \"{other}\" is not a type that Kubernetes has"));
        }
    };
    match found {
        Ok(meta) if fits.1(&meta) => Ok(path.to_owned()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(format!("hostPath type check failed: {}: {e}", source.path))
        }
        _ => Err(format!("hostPath type check failed: {} is not a {}", source.path, fits.0)),
    }
}
