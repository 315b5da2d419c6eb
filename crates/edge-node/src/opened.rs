//! Writing where a partition is mounted for reading only, as boot partitions often are: it is
//! opened for that long.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

/// Does what writes to this file or into this directory, and again with its partition opened, if it
/// was for reading only. Never the board's root: that is so on purpose, or since its disk failed.
///
/// # Errors
/// What the writing came to, or why the partition does not open and what a person could type.
pub fn opened<T>(path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {}
        other => return other,
    }
    let top = mounted_at(path)?;
    let shown = top.display();
    let refused = |why: &dyn std::fmt::Display| {
        let what = format!(
            "{shown} is mounted for reading only{why}; if its disk is well (dmesg), \
             `mount -o remount,rw {shown}`, and try again"
        );
        Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, what))
    };
    if top == Path::new("/") {
        return refused(&"");
    }
    let flags = flags(&top)?;
    let remount = |flags: MsFlags| {
        let none = None::<&str>;
        mount(none, &top, none, MsFlags::MS_REMOUNT | flags, none)
    };
    if let Err(errno) = remount(flags - MsFlags::MS_RDONLY) {
        return refused(&format!(" and does not open ({})", errno.desc()));
    }
    let done = act();
    // A file system that can't do that for a directory has done it for its files.
    let _ = File::open(&top).and_then(|dir| dir.sync_all());
    remount(flags)?;
    done
}

/// Where the file system of a path is mounted.
fn mounted_at(path: &Path) -> io::Result<PathBuf> {
    let mut top = path.canonicalize()?;
    let device = top.metadata()?.dev();
    while let Some(parent) = top.parent() {
        if parent.metadata()?.dev() != device {
            break;
        }
        top = parent.to_owned();
    }
    Ok(top)
}

/// How the directory is mounted.
fn flags(dir: &Path) -> io::Result<MsFlags> {
    let has = statvfs(dir)?.flags();
    let table = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_SYNCHRONOUS, MsFlags::MS_SYNCHRONOUS),
    ];
    let set = table.into_iter().filter(|(is, _)| has.contains(*is)).map(|(_, flag)| flag);
    Ok(set.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_systems_top() {
        assert_eq!(mounted_at(Path::new("/proc/self/status")).unwrap(), Path::new("/proc"));
        assert_eq!(mounted_at(Path::new("/")).unwrap(), Path::new("/"));
    }

    #[test]
    fn what_does_not_write_opens_nothing() {
        assert_eq!(opened(Path::new("/nowhere"), || Ok(7)).unwrap(), 7);
        let other = || Err::<(), _>(ErrorKind::StorageFull.into());
        assert_eq!(opened(Path::new("/"), other).unwrap_err().kind(), ErrorKind::StorageFull);
        let closed = || Err::<(), _>(ErrorKind::ReadOnlyFilesystem.into());
        let said = opened(Path::new("/"), closed).unwrap_err().to_string();
        assert!(said.contains("`mount -o remount,rw /`"), "{said}");
    }
}
