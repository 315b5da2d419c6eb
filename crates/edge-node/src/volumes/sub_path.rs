//! `subPath`: a part of a volume, opened beneath the volume's own handle, so that a link planted
//! by a container can't make us mount something of the board instead.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat, mkdirat};

fn beneath(root: &impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

/// Opens `sub` beneath `root`, making directories that are missing.
fn open_or_make(root: &File, sub: &Path) -> io::Result<OwnedFd> {
    match beneath(root, sub, OFlag::O_PATH) {
        Ok(found) => return Ok(found),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut at: OwnedFd = root.try_clone()?.into();
    for part in sub.components() {
        let Component::Normal(name) = part else { continue };
        match mkdirat(&at, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        at = beneath(&at, Path::new(name), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    }
    Ok(at)
}

/// Binds `sub` of the volume at `root` to a path of ours under `<pod dir>/subpaths`, which the
/// runtime may then mount without following anything that a container controls.
pub fn bind_sub_path(
    pod_dir: &Path,
    root: &Path,
    sub: &str,
    container: &str,
    index: usize,
) -> Result<PathBuf, String> {
    let path = Path::new(sub);
    if path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(format!("subPath \"{sub}\" must be relative and must not contain '..'"));
    }
    let text = |e: io::Error| match Errno::from_raw(e.raw_os_error().unwrap_or_default()) {
        Errno::EXDEV => format!("subPath \"{sub}\" leads out of the volume through a link"),
        _ => format!("failed to prepare subPath \"{sub}\": {e}"),
    };
    let root = File::open(root).map_err(text)?;
    let found = open_or_make(&root, path).map_err(text)?;
    let kind = fstat(&found).map_err(|e| text(e.into()))?;
    let is_dir = kind.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
    let target = pod_dir.join("subpaths").join(container).join(index.to_string());
    if target.exists() {
        // From an earlier start of the container; what it points at may have changed since.
        let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&target);
        let _ = fs::remove_dir(&target);
    }
    let made = match target.parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    };
    let made = made.and_then(|()| if is_dir { fs::create_dir(&target) } else { touch(&target) });
    made.map_err(text)?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.as_str()), &target, None::<&str>, flags, None::<&str>)
        .map_err(|e| text(e.into()))?;
    Ok(target)
}

fn touch(path: &Path) -> io::Result<()> {
    File::create(path).map(drop)
}
