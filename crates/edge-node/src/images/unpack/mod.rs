//! Unpacks one layer's tar stream into a directory of its own, in the form that overlayfs mounts:
//! whiteouts become 0/0 character devices, opaque directories get `trusted.overlay.opaque`.
//! Every path is walked from a handle on that directory, one component at a time, so nothing that
//! a layer contains can lead a write outside it.

mod attributes;
mod lower;
mod names;
mod tree;

#[cfg(test)]
mod tests;

use super::error::{ImageError, unsmuggle};
use super::recipe::Notes;
use super::tarstream::{Entry, Kind, TarReader};
use attributes::{Times, mark_opaque};
use lower::Lowers;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tree::Before;

pub(crate) use tree::{open_file, open_root, remove_directory};

/// No file in an image may be larger: boards have cards of that size.
const FILE_MAX: u64 = 32 << 30;
/// A layer with more entries is taken for an attack on the file system's inodes.
const ENTRIES_MAX: u64 = 2_000_000;
/// So many skipped device nodes are told by name.
const SKIPPED_TOLD: usize = 8;
const COPY_BUFFER: usize = 128 * 1024;

/// How much a layer may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all files together, holes included.
    pub(crate) bytes: u64,
}

impl Limits {
    /// What the disk under `dir` can take, less a reserve.
    pub(crate) fn of_disk(dir: &Path) -> io::Result<Limits> {
        const RESERVE_MAX: u64 = 256 << 20;
        let stat = rustix::fs::statvfs(dir)?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Limits { bytes: available.saturating_sub(RESERVE_MAX.min(total / 20)) })
    }
}

/// What unpacking came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Bytes of file data written.
    pub(crate) bytes: u64,
    /// Entries, all kinds.
    pub(crate) entries: u64,
    /// Device nodes that were left out, the first few by name.
    pub(crate) skipped: Vec<String>,
    /// True when something came from a layer beneath, so the tree is right only on top of it.
    pub(crate) borrowed: bool,
}

/// Unpacks the whole of `tar` into the empty directory `into`, whose lower layers are `lowers`,
/// top first. `what` names the layer in errors.
pub(crate) fn unpack<R: Read>(
    what: &str,
    tar: &mut TarReader<R>,
    into: &Path,
    lowers: &[PathBuf],
    limits: Limits,
    notes: Option<&Notes>,
) -> Result<Outcome, ImageError> {
    let open = |path: &Path| tree::open_root(path);
    let root = open(into).map_err(|e| ImageError::file("open", into, &e))?;
    let mut handles = Vec::new();
    for lower in lowers {
        handles.push(open(lower).map_err(|e| ImageError::file("open", lower, &e))?);
    }
    let mut layer = Layer {
        root: Rc::new(root),
        lowers: Lowers::new(handles),
        cache: None,
        directories: BTreeMap::new(),
        outcome: Outcome::default(),
        limits,
        used: 0,
        buffer: vec![0; COPY_BUFFER],
        notes: notes.cloned(),
    };
    layer.start().map_err(|e| fault(what, b"./", e))?;
    loop {
        let entry = match tar.next() {
            Ok(None) => break,
            Ok(Some(entry)) => entry,
            Err(error) => return Err(fault(what, b"", error)),
        };
        layer.entry(&entry, tar).map_err(|e| fault(what, &entry.path, e))?;
    }
    layer.finish().map_err(|e| fault(what, b"./", e))?;
    Ok(layer.outcome)
}

/// Tells a bad layer from a full disk from a failing one.
fn fault(what: &str, path: &[u8], error: io::Error) -> ImageError {
    let named = |detail: String| match path {
        b"" => detail,
        path => format!("entry \"{}\": {detail}", path.escape_ascii()),
    };
    unsmuggle(error, |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ImageError::io(format!("unpack {what}"), error)
        }
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidFilename => ImageError::malformed(what, named(error.to_string())),
        _ => {
            ImageError::Io { operation: format!("unpack {what}"), detail: named(error.to_string()) }
        }
    })
}

fn bad(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

struct Layer {
    root: Rc<OwnedFd>,
    lowers: Lowers,
    /// The directory used last: its path as entries write it, its handle, its real path.
    cache: Option<(Vec<u8>, Rc<OwnedFd>, Vec<u8>)>,
    /// Times of directories, set when all entries are in place. Real paths.
    directories: BTreeMap<Vec<u8>, Times>,
    outcome: Outcome,
    limits: Limits,
    used: u64,
    buffer: Vec<u8>,
    /// Told which file holds which part of the stream.
    notes: Option<Notes>,
}

impl Layer {
    /// The root looks like the root beneath unless the layer says otherwise.
    fn start(&mut self) -> io::Result<()> {
        if let Some(times) = self.lowers.copy_root(&self.root)? {
            self.directories.insert(Vec::new(), times);
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> io::Result<()> {
        self.outcome.entries += 1;
        if self.outcome.entries > ENTRIES_MAX {
            return Err(bad(format!("more than {ENTRIES_MAX} entries in one layer")));
        }
        let path = names::clean(&entry.path)?;
        let Some((parent, name)) = names::split(&path) else {
            if entry.kind != Kind::Directory {
                return Err(bad("the root of a layer must be a directory"));
            }
            attributes::set_root(&self.root, entry)?;
            self.directories.insert(Vec::new(), Times::of(entry));
            return Ok(());
        };
        if path.starts_with(names::AUFS) && path != names::OPAQUE {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(names::WHITEOUT) {
            return self.whiteout(parent, name, hidden);
        }
        match entry.kind {
            Kind::HardLink => self.hard_link(parent, name, &entry.link),
            Kind::CharDevice | Kind::BlockDevice if !harmless(entry) => {
                if self.outcome.skipped.len() < SKIPPED_TOLD {
                    self.outcome.skipped.push(entry.path.escape_ascii().to_string());
                }
                Ok(())
            }
            _ => self.create(parent, name, entry, tar),
        }
    }

    fn create<R: Read>(
        &mut self,
        parent: &[u8],
        name: &[u8],
        entry: &Entry,
        tar: &mut TarReader<R>,
    ) -> io::Result<()> {
        let (dir, real) = self.directory(parent)?;
        let full = names::join(&real, name);
        let before = self.clear(&dir, name, &full, entry.kind == Kind::Directory)?;
        let private = Mode::from_raw_mode(0o600);
        match entry.kind {
            Kind::Directory => {
                if before != Before::Directory {
                    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))?;
                }
                if before == Before::Whiteout {
                    mark_opaque(&dir, name)?;
                }
                self.directories.insert(full, Times::of(entry));
            }
            Kind::File => self.file((&dir, name, &full), entry, tar)?,
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(bad("a symbolic link without a target"));
                }
                rustix::fs::symlinkat(entry.link.as_slice(), &dir, name)?;
            }
            Kind::Fifo => rustix::fs::mknodat(&dir, name, FileType::Fifo, private, 0)?,
            Kind::CharDevice => {
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                let node = FileType::CharacterDevice;
                rustix::fs::mknodat(&dir, name, node, private, device)?;
            }
            Kind::BlockDevice | Kind::HardLink => return Err(bad("not expected here")),
        }
        attributes::set(&dir, name, entry)
    }

    fn file<R: Read>(
        &mut self,
        (dir, name, full): (&OwnedFd, &[u8], &[u8]),
        entry: &Entry,
        tar: &mut TarReader<R>,
    ) -> io::Result<()> {
        self.charge(entry.size)?;
        let mut file = create_file(dir, name)?;
        let mut left = match &entry.runs {
            None => vec![(0, entry.size)],
            Some(runs) => runs.clone(),
        };
        left.reverse();
        while let Some((offset, mut length)) = left.pop() {
            if entry.runs.is_some() {
                file.seek(SeekFrom::Start(offset))?;
            }
            if let Some(notes) = &self.notes {
                notes.content(full, offset, length);
            }
            while length > 0 {
                let want = usize::try_from(length).unwrap_or(COPY_BUFFER).min(COPY_BUFFER);
                let n = tar.read(&mut self.buffer[..want])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                file.write_all(&self.buffer[..n])?;
                length -= n as u64;
                self.outcome.bytes += n as u64;
            }
        }
        if entry.runs.is_some() {
            file.set_len(entry.size)?;
        }
        Ok(())
    }

    /// Refuses what would fill the disk, before it does.
    fn charge(&mut self, size: u64) -> io::Result<()> {
        if size > FILE_MAX {
            return Err(bad(format!("a file of {size} bytes, the limit is {FILE_MAX}")));
        }
        self.used = self.used.saturating_add(size);
        if self.used > self.limits.bytes {
            let (used, free) = (self.used, self.limits.bytes);
            return Err(super::error::smuggle(ImageError::Full {
                what: "unpack a layer".into(),
                detail: format!("it needs at least {used} bytes, the disk has {free} to give"),
            }));
        }
        Ok(())
    }

    /// Hides `hidden` of the layers beneath, or everything beneath in the parent directory.
    fn whiteout(&mut self, parent: &[u8], name: &[u8], hidden: &[u8]) -> io::Result<()> {
        if name != names::OPAQUE && matches!(hidden, b"" | b"." | b"..") {
            return Err(bad("a whiteout that names no file"));
        }
        let Some((dir, real)) = self.whiteout_directory(parent)? else { return Ok(()) };
        if name == names::OPAQUE {
            self.directories.entry(real).or_insert_with(Times::now);
            return mark_opaque(&dir, b".");
        }
        match tree::stat(&dir, hidden)? {
            // The layer itself has such a directory: only what lies beneath it is hidden.
            Some(stat) if tree::is_directory(&stat) => mark_opaque(&dir, hidden),
            Some(_) => Ok(()),
            None => {
                let mode = Mode::empty();
                rustix::fs::mknodat(&dir, hidden, FileType::CharacterDevice, mode, 0)?;
                Ok(())
            }
        }
    }

    /// Links to a file of this layer, or to a copy of one of a layer beneath.
    fn hard_link(&mut self, parent: &[u8], name: &[u8], link: &[u8]) -> io::Result<()> {
        let target = names::clean(link)
            .map_err(|e| bad(format!("hard link to \"{}\": {e}", link.escape_ascii())))?;
        let Some((target_parent, target_name)) = names::split(&target) else {
            return Err(bad("a hard link to the layer's root"));
        };
        let missing =
            || bad(format!("hard link to \"{}\", which is not there", target.escape_ascii()));
        let found = match self.existing(target_parent)? {
            None => None,
            Some((dir, real)) => match tree::stat(&dir, target_name)? {
                Some(stat) if tree::is_whiteout(&stat) => return Err(missing()),
                Some(stat) => Some((dir, real, stat)),
                None => None,
            },
        };
        let (from, from_real) = match found {
            Some((_, _, stat)) if tree::is_directory(&stat) => {
                return Err(bad("a hard link to a directory"));
            }
            Some((dir, real, _)) => (dir, real),
            None => {
                let Some(lower) = self.lowers.find(&target)? else { return Err(missing()) };
                self.charge(lower.size())?;
                let (dir, real) = self.directory(target_parent)?;
                lower.copy_to(&dir, target_name)?;
                self.outcome.bytes += lower.size();
                self.outcome.borrowed = true;
                (dir, real)
            }
        };
        let (dir, real) = self.directory(parent)?;
        if real == from_real && name == target_name {
            return Err(bad("a hard link to itself"));
        }
        self.clear(&dir, name, &names::join(&real, name), false)?;
        rustix::fs::linkat(&from, target_name, &dir, name, AtFlags::empty())?;
        Ok(())
    }

    /// Directories get their times last, since every entry in them changes the times.
    fn finish(&mut self) -> io::Result<()> {
        let mut trail = tree::Trail::new(self.root.clone());
        for (path, times) in std::mem::take(&mut self.directories) {
            if let Some(dir) = trail.open(&path)? {
                times.set(&dir, b".", AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// A new file that only we can open, until its attributes are set.
fn create_file(dir: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?))
}

/// The nodes that every container may use. All others are left out: real images don't need them,
/// hostile ones do, and a 0/0 node would be taken for a whiteout.
fn harmless(entry: &Entry) -> bool {
    const MEMORY: u32 = 1;
    const TERMINALS: u32 = 5;
    entry.kind == Kind::CharDevice
        && matches!(entry.device, (MEMORY, 3 | 5 | 7 | 8 | 9) | (TERMINALS, 0..=2))
}

/// A path in an archive, cleaned as paths in layers are, as text.
pub(crate) fn clean_name(path: &[u8]) -> io::Result<String> {
    let clean = names::clean(path)?;
    String::from_utf8(clean).map_err(|_| bad("a name that is no UTF-8"))
}
