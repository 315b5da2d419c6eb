//! Makes the places in a container's root that something goes to: its working directory, and the
//! targets of its mounts where the image has a link there. Every step is taken beneath the root's
//! handle, so that no link leads out of it.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use pathrs::Root;
use pathrs::flags::OpenFlags;

use super::{Failure, chain};
use crate::seams::{ContainerSpec, Mount};

/// Links followed before it is called a loop, as the kernel has it.
const LINKS: usize = 40;

/// A handle on the directory at `path`, which may itself be a link.
pub(super) fn root_at(path: &Path) -> nix::Result<Root> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map(|fd: OwnedFd| Root::from_fd(fd))
}

/// Makes the target of each mount. libcontainer does so as well, but refuses links that lead
/// nowhere yet, such as an image's `/etc/resolv.conf`.
pub(super) fn make_targets(root: &Root, mounts: &[Mount]) -> Result<(), Failure> {
    for mount in mounts {
        make_target(root, Path::new(&mount.target), mount.source.is_dir())
            .map_err(|why| Failure::Create(format!("make the target {}: {why}", mount.target)))?;
    }
    Ok(())
}

fn make_target(root: &Root, target: &Path, dir: bool) -> Result<(), String> {
    let mut path = target.to_path_buf();
    for _ in 0..LINKS {
        if root.resolve(&path).is_ok() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        make_dir(root, &parent)?;
        if let Ok(link) = root.readlink(&path) {
            path = flatten(&parent.join(link));
            continue;
        }
        if dir {
            return make_dir(root, &path);
        }
        let flags = OpenFlags::O_EXCL | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
        let made = root.create_file(&path, flags, &Permissions::from_mode(0o644));
        return made.map(drop).map_err(|e| chain(&e));
    }
    Err("too many levels of symbolic links".into())
}

/// Makes a directory and those above it; each may be a link that leads nowhere yet.
fn make_dir(root: &Root, path: &Path) -> Result<(), String> {
    let mode = Permissions::from_mode(0o755);
    let mut reached = PathBuf::from("/");
    for part in path.components().filter(|c| matches!(c, Component::Normal(_))) {
        reached.push(part);
        if root.resolve(&reached).is_ok() {
            continue;
        }
        if let Ok(link) = root.readlink(&reached) {
            let parent = reached.parent().unwrap_or(Path::new("/"));
            reached = flatten(&parent.join(link));
        }
        root.mkdir_all(&reached, &mode).map_err(|e| chain(&e))?;
    }
    Ok(())
}

/// Takes `.` and `..` out of a path by its text, stopping at the root as a container's kernel
/// does.
fn flatten(path: &Path) -> PathBuf {
    let mut flat = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => flat.push(name),
            Component::ParentDir => drop(flat.pop()),
            _ => {}
        }
    }
    flat
}

/// Makes the working directory where it is missing: in the root, or in the volume it lies in.
pub(super) fn make_cwd(root: &Root, spec: &ContainerSpec) -> Result<(), Failure> {
    let cwd = Path::new(&spec.cwd);
    let volume = spec
        .mounts
        .iter()
        .filter(|m| cwd.starts_with(&m.target) && m.source.is_dir())
        .max_by_key(|m| Path::new(&m.target).components().count());
    let made = match volume {
        Some(volume) if volume.read_only => Ok(()),
        Some(volume) => root_at(&volume.source)
            .map_err(|e| e.to_string())
            .and_then(|r| make_dir(&r, cwd.strip_prefix(&volume.target).unwrap_or(cwd))),
        None => make_dir(root, cwd),
    };
    made.map_err(|why| Failure::Start(format!("make the working directory {}: {why}", spec.cwd)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn targets_are_made_behind_links_but_never_outside() {
        let dir = std::env::temp_dir().join(format!("edge-places-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/etc")).unwrap();
        symlink("../run/resolve/stub.conf", dir.join("root/etc/resolv.conf")).unwrap();
        symlink("/../../outside", dir.join("root/etc/hosts")).unwrap();
        symlink("/nowhere/yet", dir.join("root/opt")).unwrap();
        symlink("loop", dir.join("root/loop")).unwrap();
        let root = root_at(&dir.join("root")).unwrap();
        for target in ["/etc/resolv.conf", "/etc/hosts", "/opt/a/b"] {
            make_target(&root, Path::new(target), false).unwrap();
        }
        assert!(make_target(&root, Path::new("/loop"), false).is_err());
        for made in ["run/resolve/stub.conf", "outside", "nowhere/yet/a/b"] {
            assert!(dir.join("root").join(made).is_file(), "{made}");
        }
        assert!(!dir.join("outside").exists());
        make_target(&root, Path::new("/new/dir"), true).unwrap();
        assert!(dir.join("root/new/dir").is_dir());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
