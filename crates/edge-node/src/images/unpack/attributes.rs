//! Owner, mode, times and extended attributes of what a layer contains. Attributes that steer
//! overlayfs or the kernel's own bookkeeping are ours to set, never a layer's.

use super::super::tarstream::{Entry, Kind};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Tells overlayfs to hide what the layers beneath have in a directory.
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// A modification time, which is set as the access time as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    seconds: i64,
    nanos: u32,
}

/// `UTIME_NOW` and the like live above all nanoseconds.
const UTIME_NOW: u32 = 0x3fff_ffff;

impl Times {
    pub(super) fn of(entry: &Entry) -> Times {
        Times { seconds: entry.mtime.0, nanos: entry.mtime.1 }
    }

    pub(super) fn now() -> Times {
        Times { seconds: 0, nanos: UTIME_NOW }
    }

    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Times {
        Times { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
    }

    pub(super) fn set(self, dir: &OwnedFd, name: &[u8], flags: AtFlags) -> io::Result<()> {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(dir, name, &times, flags)?)
    }
}

/// Sets everything that `entry` says, on what has just been made at `name`. A change of owner
/// takes set-uid bits and capabilities away, so it comes first.
pub(super) fn set(dir: &OwnedFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    own(dir, name, entry.uid, entry.gid)?;
    if entry.kind != Kind::Symlink {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    for (key, value) in &entry.xattrs {
        set_xattr(dir, name, key, value)?;
    }
    if entry.kind != Kind::Directory {
        Times::of(entry).set(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// As [`set`], for the layer's root.
pub(super) fn set_root(root: &OwnedFd, entry: &Entry) -> io::Result<()> {
    own(root, b".", entry.uid, entry.gid)?;
    rustix::fs::chmodat(root, ".", Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    entry.xattrs.iter().try_for_each(|(key, value)| set_xattr(root, b".", key, value))
}

pub(super) fn own(dir: &OwnedFd, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match rustix::fs::chownat(dir, name, owner.0, owner.1, flags) {
        // Only root gives files away; without root the tree is for looking at.
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        result => Ok(result?),
    }
}

/// The path to `name` for calls that take no directory handle. It can't lead elsewhere: the first
/// part is the handle itself, and the calls don't follow the last part.
pub(super) fn proc_path(dir: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

pub(super) fn mark_opaque(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let path = proc_path(dir, name);
    rustix::fs::lsetxattr(path.as_slice(), OPAQUE_XATTR, b"y", XattrFlags::empty())?;
    Ok(())
}

pub(super) fn is_opaque(dir: impl AsFd, name: &[u8]) -> bool {
    let mut value = [0u8; 2];
    let path = proc_path(dir, name);
    matches!(rustix::fs::lgetxattr(path.as_slice(), OPAQUE_XATTR, &mut value), Ok(1))
        && value[0] == b'y'
}

/// Attributes that images may carry: what programs set, capabilities, access lists.
pub(super) fn permitted(key: &[u8]) -> bool {
    (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."))
        || key == b"security.capability"
        || key.starts_with(b"system.posix_acl_")
}

pub(super) fn set_xattr(dir: &OwnedFd, name: &[u8], key: &[u8], value: &[u8]) -> io::Result<()> {
    if !permitted(key) {
        return Ok(());
    }
    let path = proc_path(dir, name);
    match rustix::fs::lsetxattr(path.as_slice(), key, value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        // The file system has none, or not on this kind of file: podman goes on as well.
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(e) => {
            let text = format!("extended attribute {}: {e}", key.escape_ascii());
            Err(io::Error::new(io::Error::from(e).kind(), text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::Times;
    use rustix::fs::AtFlags;

    /// 32-bit boards as well: docs/adr/0035-building-for-arm.md.
    #[test]
    fn time_goes_on_after_2038() {
        assert_eq!(size_of::<libc::time_t>(), 8);
        let seconds = 2_524_608_000;
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let path = std::env::temp_dir().join(format!("later-{}", std::process::id()));
        let file = File::create(&path).expect("a file");
        let modified = || path.metadata().expect("a file").modified().expect("a time");
        file.set_modified(later).expect("it is set");
        assert_eq!(modified(), later);
        let dir = File::open(std::env::temp_dir()).expect("a directory").into();
        let name = path.file_name().expect("a name").as_encoded_bytes();
        let times = Times { seconds: 1 + i64::try_from(seconds).expect("a time"), nanos: 0 };
        times.set(&dir, name, AtFlags::empty()).expect("it is set");
        assert_eq!(modified(), later + Duration::from_secs(1));
        std::fs::remove_file(&path).expect("it goes");
    }
}
