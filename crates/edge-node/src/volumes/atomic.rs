//! Files that change all at once. As in Kubernetes, the files live in a time-stamped directory,
//! `..data` points at it, and each visible name points through `..data`; an update swaps that one
//! link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path};

/// The link that an update swaps.
const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    /// The user that it belongs to, if not this program's own.
    pub(super) owner: Option<u32>,
}

/// Files by their path in the volume.
pub(super) type Files = BTreeMap<String, File>;

/// True for a path that stays inside the volume and does not clash with the links.
pub(super) fn is_safe(path: &str) -> bool {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    plain && !path.is_empty() && !path.starts_with("..")
}

/// True when `dir` has been written before.
pub(super) fn stands(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join(DATA)).is_ok()
}

/// Makes `dir` show exactly `files`. True when anything had to change.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    if let Some(bad) = files.keys().find(|path| !is_safe(path)) {
        let text = format!("invalid path \"{bad}\": must be relative and must not contain '..'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && shows(&dir.join(old), files)
    {
        return Ok(false);
    }
    let fresh = fresh_name(dir);
    let target = dir.join(&fresh);
    fs::create_dir(&target)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        write_file(&target, path, file, group)?;
    }
    if let Some(group) = group {
        chown(&target, None, Some(group))?;
    }
    let link = dir.join(DATA_NEW);
    let _ = fs::remove_file(&link);
    symlink(&fresh, &link)?;
    fs::rename(&link, dir.join(DATA))?;
    links(dir, files)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(true)
}

/// A directory name that is not taken; a counter serves where the board has no clock at boot.
fn fresh_name(dir: &Path) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(0));
    let stamp = edge_api::time::stamp(ms).strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let free = (0u32..).map(|n| format!("..{stamp}.{n}")).find(|name| !dir.join(name).exists());
    free.unwrap_or(stamp)
}

fn write_file(target: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let full = target.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
        let mut up = parent;
        while up != target {
            fs::set_permissions(up, fs::Permissions::from_mode(0o755))?;
            up = up.parent().unwrap_or(target);
        }
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&full)?;
    out.write_all(&file.content)?;
    if file.owner.is_some() || group.is_some() {
        chown(&full, file.owner, group)?;
    }
    fs::set_permissions(&full, fs::Permissions::from_mode(mode_for(file.mode, group)))
}

/// A pod's fsGroup can read what the owner can.
fn mode_for(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | ((mode & 0o400) >> 3) } else { mode }
}

fn shows(data: &Path, files: &Files) -> bool {
    let mut found = Vec::new();
    if list(data, "", &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let full = data.join(path);
        let mode = fs::metadata(&full).map(|m| m.permissions().mode() & 0o777).ok();
        mode.is_some_and(|m| m & !0o040 == file.mode & 0o777 & !0o040)
            && fs::read(&full).is_ok_and(|content| content == file.content)
    })
}

fn list(dir: &Path, prefix: &str, out: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}

/// The visible names, one per first component of a path.
fn links(dir: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
