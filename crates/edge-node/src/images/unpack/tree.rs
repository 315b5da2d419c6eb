//! The directory tree of a layer being unpacked: walking, making and clearing, always from a handle
//! and never through a symbolic link that the kernel would follow. Links inside the layer are
//! followed by our own walk, which starts again at the layer's root where the kernel would go to
//! the board's.

use super::attributes::{Times, mark_opaque};
use super::names;
use super::{Layer, bad};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// As many links are followed in one path as Linux follows.
const LINKS_MAX: usize = 40;
/// No more handles than this are held while a tree is walked.
const HANDLES_MAX: usize = 32;

/// What stood at a name that is about to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Whiteout,
    Directory,
    Removed,
}

/// Why a directory is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// An entry goes there: it is made where missing, and has to be possible.
    Entry,
    /// A whiteout goes there: as for an entry, but where the layer has no directory it is moot,
    /// since what it hides is hidden already.
    Whiteout,
    /// Only if it is there.
    Look,
}

/// A handle and the real path from the layer's root that it stands for.
pub(super) type Place = (Rc<OwnedFd>, Vec<u8>);

/// Opens a layer's root.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, directory_flags(), Mode::empty())?)
}

fn directory_flags() -> OFlags {
    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC
}

/// Opens a directory's child directory; links are not followed.
pub(super) fn open_child(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, directory_flags(), Mode::empty())?)
}

/// Opens the directory at a clean path; `None` if there is none.
pub(super) fn open_beneath(root: &OwnedFd, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let mut dir = open_child(root, b".")?;
    for part in names::components(path) {
        match open_child(&dir, part) {
            Ok(next) => dir = next,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(Some(dir))
}

/// Opens a regular file at a clean path for reading, never through a link.
pub(crate) fn open_file(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let (parent, name) = names::split(path).ok_or_else(missing)?;
    let dir = open_beneath(root, parent)?.ok_or_else(missing)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&dir, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(bad("it is no file"));
    }
    Ok(file)
}

/// Opens many directories in the order of their paths, each from the nearest one above it that is
/// still open: deep trees would otherwise take a walk from the root for each.
pub(super) struct Trail {
    root: Rc<OwnedFd>,
    open: VecDeque<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Trail {
    pub(super) fn new(root: Rc<OwnedFd>) -> Trail {
        Trail { root, open: VecDeque::new() }
    }

    /// The directory at a clean path; `None` if there is none.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<Option<Rc<OwnedFd>>> {
        let above = |upper: &[u8]| path.strip_prefix(upper).and_then(|r| r.strip_prefix(b"/"));
        while self.open.back().is_some_and(|(upper, _)| above(upper).is_none()) {
            self.open.pop_back();
        }
        let (from, rest) = match self.open.back() {
            Some((upper, dir)) => (dir.clone(), above(upper).unwrap_or(path)),
            None => (self.root.clone(), path),
        };
        let Some(dir) = open_beneath(&from, rest)?.map(Rc::new) else { return Ok(None) };
        if !path.is_empty() {
            self.open.push_back((path.to_vec(), dir.clone()));
        }
        if self.open.len() > HANDLES_MAX {
            self.open.pop_front();
        }
        Ok(Some(dir))
    }
}

/// What is at `name`, itself and not what it links to.
pub(super) fn stat(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

/// Overlayfs' whiteout: a character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Layer {
    /// The directory at `path`, made with its parents where missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<Place> {
        if let Some((cached, dir, real)) = &self.cache
            && cached == path
        {
            return Ok((dir.clone(), real.clone()));
        }
        let place = self.walk(path, Purpose::Entry)?;
        let place = place.ok_or_else(|| bad("its directory can't be made"))?;
        self.cache = Some((path.to_vec(), place.0.clone(), place.1.clone()));
        Ok(place)
    }

    /// The directory that a whiteout goes to, if it means anything there. Some tools write one for
    /// all that was in a directory as well as for the directory itself.
    pub(super) fn whiteout_directory(&mut self, path: &[u8]) -> io::Result<Option<Place>> {
        self.walk(path, Purpose::Whiteout)
    }

    /// The directory at `path`, if this layer has it.
    pub(super) fn existing(&mut self, path: &[u8]) -> io::Result<Option<Place>> {
        self.walk(path, Purpose::Look)
    }

    fn walk(&mut self, path: &[u8], purpose: Purpose) -> io::Result<Option<Place>> {
        let mut pending: VecDeque<Vec<u8>> = names::components(path).map(<[u8]>::to_vec).collect();
        let mut real = Vec::new();
        let mut dir = self.root.clone();
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == b".." {
                real = names::split(&real).map(|(parent, _)| parent.to_vec()).unwrap_or_default();
                let up = open_beneath(&self.root, &real)?;
                dir = Rc::new(up.ok_or_else(|| bad("a directory vanished"))?);
                continue;
            }
            let here = names::join(&real, &part);
            match stat(&dir, &part)? {
                Some(found) if is_directory(&found) => {}
                Some(found) if kind(&found) == FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(bad("too many symbolic links on the way"));
                    }
                    let target = rustix::fs::readlinkat(&dir, part.as_slice(), Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        real.clear();
                        dir = self.root.clone();
                    }
                    for part in names::components(target.as_bytes()).rev() {
                        if part != b"." {
                            pending.push_front(part.to_vec());
                        }
                    }
                    continue;
                }
                Some(found) if is_whiteout(&found) => {
                    if purpose != Purpose::Entry {
                        return Ok(None);
                    }
                    self.clear(&dir, &part, &here, false)?;
                    self.make(&dir, &part, &here)?;
                    mark_opaque(&dir, &part)?;
                }
                Some(_) if purpose == Purpose::Entry => {
                    return Err(bad(format!("\"{}\" is no directory", here.escape_ascii())));
                }
                None if purpose != Purpose::Look => self.make(&dir, &part, &here)?,
                _ => return Ok(None),
            }
            dir = Rc::new(open_child(&dir, &part)?);
            real = here;
        }
        Ok(Some((dir, real)))
    }

    /// Makes a directory that the layer doesn't mention, like the one beneath if there is one.
    fn make(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8]) -> io::Result<()> {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        let times = match self.lowers.find(full)? {
            Some(lower) if lower.is_directory() => {
                self.outcome.borrowed = true;
                lower.copy_attributes(dir, name)?
            }
            _ => {
                rustix::fs::chmodat(dir, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                Times::now()
            }
        };
        self.directories.insert(full.to_vec(), times);
        Ok(())
    }

    /// Makes room at `name`, which may keep a directory if one is to be there.
    pub(super) fn clear(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        full: &[u8],
        keep_directory: bool,
    ) -> io::Result<Before> {
        let Some(found) = stat(dir, name)? else { return Ok(Before::Nothing) };
        if is_whiteout(&found) {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            return Ok(Before::Whiteout);
        }
        if is_directory(&found) && keep_directory {
            return Ok(Before::Directory);
        }
        // What goes may be what the notes refer to.
        if let Some(notes) = &self.notes {
            notes.spoil();
        }
        if is_directory(&found) {
            remove_directory(dir, name)?;
            let inside = |path: &Vec<u8>| {
                path.strip_prefix(full).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            };
            self.directories.retain(|path, _| !inside(path));
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
        self.cache = None;
        Ok(Before::Removed)
    }
}

/// Removes a directory and all in it, without recursion and without following links. What is
/// nested very deeply is moved up first, so that no tree is too deep to be removed.
pub(crate) fn remove_directory(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let mut stack = vec![(open_child(&dir, name)?, name.to_vec())];
    let mut moved = 0u64;
    while let Some((current, _)) = stack.last() {
        let mut deeper = None;
        for item in Dir::read_from(current)? {
            let item = item?;
            let child = item.file_name().to_bytes();
            if matches!(child, b"." | b"..") {
                continue;
            }
            match rustix::fs::unlinkat(current, child, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR | Errno::PERM) if stack.len() >= HANDLES_MAX => {
                    moved += 1;
                    let up = format!(".wh..wh.moved-{moved}");
                    rustix::fs::renameat(current, child, &stack[0].0, up)?;
                }
                Err(Errno::ISDIR | Errno::PERM) => {
                    deeper = Some((open_child(current, child)?, child.to_vec()));
                    break;
                }
                Err(e) => return Err(e.into()),
            }
        }
        if let Some(next) = deeper {
            stack.push(next);
            continue;
        }
        let Some((_, name)) = stack.pop() else { break };
        match stack.last() {
            Some((parent, _)) => {
                rustix::fs::unlinkat(parent, name.as_slice(), AtFlags::REMOVEDIR)?;
            }
            None => rustix::fs::unlinkat(&dir, name.as_slice(), AtFlags::REMOVEDIR)?,
        }
    }
    Ok(())
}
