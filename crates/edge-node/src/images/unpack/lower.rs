//! Looks into the layers beneath the one being unpacked, as overlayfs would show them: for the
//! attributes of a directory that the layer uses but doesn't mention, and for hard links to files
//! that it didn't bring.

use super::attributes::{Times, is_opaque, own, permitted, proc_path, set_xattr};
use super::tree::{is_directory, is_whiteout, kind, open_child, stat};
use super::{bad, create_file, names};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const XATTR_LIST_MAX: usize = 64 * 1024;

/// The layers beneath, top first.
pub(super) struct Lowers(Vec<OwnedFd>);

/// Something found in a layer beneath.
pub(super) struct Found {
    dir: OwnedFd,
    name: Vec<u8>,
    stat: Stat,
}

enum Look {
    Found(Found),
    /// Nothing here; look further down.
    Below,
    /// Nothing here, and what is further down is hidden.
    Nowhere,
}

impl Lowers {
    pub(super) fn new(handles: Vec<OwnedFd>) -> Lowers {
        Lowers(handles)
    }

    /// What overlayfs would show at a clean path. Links on the way are not followed.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Found>> {
        for lower in &self.0 {
            match look(lower, path)? {
                Look::Found(found) => return Ok(Some(found)),
                Look::Nowhere => return Ok(None),
                Look::Below => {}
            }
        }
        Ok(None)
    }

    /// Gives `root` the attributes of the root beneath; its times are returned for later.
    pub(super) fn copy_root(&self, root: &OwnedFd) -> io::Result<Option<Times>> {
        let mode = Mode::from_raw_mode(0o755);
        let Some(lower) = self.0.first() else {
            rustix::fs::chmodat(root, ".", mode, AtFlags::empty())?;
            return Ok(None);
        };
        let stat = rustix::fs::fstat(lower)?;
        let found = Found { dir: open_child(lower, b".")?, name: b".".to_vec(), stat };
        found.copy_attributes(root, b".").map(Some)
    }
}

fn look(lower: &OwnedFd, path: &[u8]) -> io::Result<Look> {
    let Some((parent, name)) = names::split(path) else { return Ok(Look::Nowhere) };
    let mut dir = open_child(lower, b".")?;
    let mut opaque = false;
    let missing = |opaque: bool| if opaque { Look::Nowhere } else { Look::Below };
    for part in names::components(parent) {
        match stat(&dir, part)? {
            None => return Ok(missing(opaque)),
            Some(found) if is_directory(&found) => {}
            Some(_) => return Ok(Look::Nowhere),
        }
        opaque |= is_opaque(&dir, part);
        dir = open_child(&dir, part)?;
    }
    Ok(match stat(&dir, name)? {
        None => missing(opaque),
        Some(found) if is_whiteout(&found) => Look::Nowhere,
        Some(stat) => Look::Found(Found { dir, name: name.to_vec(), stat }),
    })
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        is_directory(&self.stat)
    }

    /// Bytes that a copy takes.
    pub(super) fn size(&self) -> u64 {
        match kind(&self.stat) {
            FileType::RegularFile => u64::try_from(self.stat.st_size).unwrap_or(u64::MAX),
            _ => 0,
        }
    }

    /// Gives owner, mode and extended attributes to `name`; the times come back, for directories
    /// to be set later.
    pub(super) fn copy_attributes(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<Times> {
        own(dir, name, self.stat.st_uid, self.stat.st_gid)?;
        if kind(&self.stat) != FileType::Symlink {
            let mode = Mode::from_raw_mode(self.stat.st_mode & 0o7777);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
        }
        for (key, value) in xattrs(&self.dir, &self.name)? {
            set_xattr(dir, name, &key, &value)?;
        }
        Ok(Times::of_stat(&self.stat))
    }

    /// Copies the file, as overlayfs does before a write.
    pub(super) fn copy_to(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match kind(&self.stat) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source =
                    rustix::fs::openat(&self.dir, self.name.as_slice(), flags, Mode::empty())?;
                let mut target = create_file(dir, name)?;
                io::copy(&mut File::from(source), &mut target)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&self.dir, self.name.as_slice(), Vec::new())?;
                rustix::fs::symlinkat(link.as_c_str(), dir, name)?;
            }
            _ => return Err(bad("a hard link to something that is no file")),
        }
        self.copy_attributes(dir, name)?.set(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The attributes that an image may carry, of what is at `name`.
fn xattrs(dir: impl AsFd, name: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = proc_path(&dir, name);
    let mut list = vec![0u8; XATTR_LIST_MAX];
    let Ok(length) = rustix::fs::llistxattr(path.as_slice(), list.as_mut_slice()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for key in list[..length].split(|b| *b == 0).filter(|key| permitted(key)) {
        let mut value = vec![0u8; XATTR_LIST_MAX];
        let length = rustix::fs::lgetxattr(path.as_slice(), key, value.as_mut_slice())?;
        value.truncate(length);
        found.push((key.to_vec(), value));
    }
    Ok(found)
}
