//! Volumes of pods on this board: directories, tmpfs mounts and trees of files made from
//! ConfigMaps, Secrets and the pod itself. All is under `<data-dir>/pods/<uid>/volumes`, and goes
//! with the pod.
//!
//! Nothing here talks to the API: what a volume needs is handed in as [`Material`].

mod atomic;
mod empty_dir;
mod host_path;
mod payload;
mod sub_path;
mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use edge_api::Object;
use edge_api::k8s::api::core::v1::{PodSpec, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub(crate) use payload::text_content;
pub use payload::{Reference, references};
pub use sub_path::bind_sub_path;
pub use token::{Token, TokenWanted, Tokens, tokens};

use crate::fields::Fields;
use crate::mounts;

/// Why a volume could not be set up: the words of a `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeError {
    /// The volume's name in the pod.
    pub volume: String,
    /// What went wrong.
    pub message: String,
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MountVolume.SetUp failed for volume \"{}\" : {}", self.volume, self.message)
    }
}

impl std::error::Error for VolumeError {}

/// ConfigMaps and Secrets that a pod's volumes name, as far as they exist.
pub type Material = BTreeMap<Reference, Option<Object>>;

/// What all volumes of a pod share.
pub struct Scene<'a> {
    /// The pod's directory on the board.
    pub pod_dir: &'a Path,
    /// The pod's spec.
    pub spec: &'a PodSpec,
    /// Fields of the pod, for the downward API.
    pub fields: &'a Fields<'a>,
    /// ConfigMaps and Secrets.
    pub material: &'a Material,
    /// Tokens, as far as they could be had.
    pub tokens: &'a Tokens,
}

impl Scene<'_> {
    fn fs_group(&self) -> Option<u32> {
        let context = self.spec.security_context.as_ref()?;
        context.fs_group.and_then(|group| u32::try_from(group).ok())
    }
}

/// Where a volume of this pod stands on the board.
pub fn volume_dir(pod_dir: &Path, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(name)
}

/// Sets up all volumes of a pod and says where each stands. May be called again at any time: what
/// stands is left alone, and files made from objects are brought up to date in one step each.
pub fn set_up(scene: &Scene<'_>) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut out = BTreeMap::new();
    for volume in scene.spec.volumes.iter().flatten() {
        let path = set_up_one(scene, volume)
            .map_err(|message| VolumeError { volume: volume.name.clone(), message })?;
        out.insert(volume.name.clone(), path);
    }
    Ok(out)
}

/// Brings the files of volumes that are made from objects up to date. True when any has changed.
/// What is not set up yet is left to `set_up`.
pub fn refresh(scene: &Scene<'_>) -> Result<bool, VolumeError> {
    let mut changed = false;
    for volume in scene.spec.volumes.iter().flatten() {
        let error = |message| VolumeError { volume: volume.name.clone(), message };
        let Some(files) = payload::payload(volume, scene).map_err(error)? else { continue };
        let dir = volume_dir(scene.pod_dir, &volume.name);
        if !atomic::stands(&dir) {
            continue;
        }
        changed |= atomic::write(&dir, &files, scene.fs_group())
            .map_err(|e| error(format!("write files to {}: {e}", dir.display())))?;
    }
    Ok(changed)
}

fn set_up_one(scene: &Scene<'_>, volume: &Volume) -> Result<PathBuf, String> {
    let dir = volume_dir(scene.pod_dir, &volume.name);
    if let Some(empty) = &volume.empty_dir {
        empty_dir::set_up(empty, &dir, scene.fs_group())?;
        return Ok(dir);
    }
    if let Some(host) = &volume.host_path {
        return host_path::check(host);
    }
    let Some(files) = payload::payload(volume, scene)? else {
        return Err(format!(
            "volumes of this kind ({}) are not supported on this board; use emptyDir, hostPath, \
             configMap, secret, downwardAPI or projected",
            kind_of(volume)
        ));
    };
    make_dir(&dir, 0o755).map_err(|e| format!("create {}: {e}", dir.display()))?;
    if payload::is_secret(volume) {
        mount_tmpfs(&dir, None).map_err(|e| format!("mount tmpfs at {}: {e}", dir.display()))?;
    }
    atomic::write(&dir, &files, scene.fs_group())
        .map_err(|e| format!("write files to {}: {e}", dir.display()))?;
    Ok(dir)
}

/// The field that says what a volume is, for messages.
fn kind_of(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let keys = value.as_object().into_iter().flat_map(|map| map.keys());
    keys.into_iter().find(|key| *key != "name").cloned().unwrap_or_else(|| "none".into())
}

pub(crate) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

/// True when something is mounted at `path` itself.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let here = fs::symlink_metadata(path)?;
    let above = fs::metadata(path.parent().unwrap_or(path))?;
    Ok(here.dev() != above.dev())
}

fn mount_tmpfs(dir: &Path, size: Option<u64>) -> io::Result<()> {
    if is_mount_point(dir)? {
        return Ok(());
    }
    let options = match size {
        Some(bytes) => format!("size={bytes},mode=0777"),
        None => "mode=0755".to_owned(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}

/// Takes down everything under a pod's directory: mounts first, then files. Safe to repeat.
pub fn take_down(pod_dir: &Path) -> Result<(), VolumeError> {
    let error = |what: &str, e: io::Error| VolumeError {
        volume: String::new(),
        message: format!("{what} {}: {e}", pod_dir.display()),
    };
    for point in mounts_under(pod_dir).map_err(|e| error("list mounts under", e))? {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(error("unmount", errno.into())),
        }
    }
    match fs::remove_dir_all(pod_dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error("remove", e)),
    }
}

/// Mount points at or under `dir`, deepest first.
fn mounts_under(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let table = mounts::table()?;
    let points = mounts::parse(&table).map(|mount| mount.point).rev();
    Ok(points.filter(|point| point.starts_with(&dir)).collect())
}
