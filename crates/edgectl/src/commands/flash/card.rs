//! The device being written, and read back from the card itself, not from memory.

use crate::fault::Fault;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fill;

/// The kernel gives a device that anybody uses to nobody who opens it so (`O_EXCL`).
#[cfg(target_os = "linux")]
const ALONE: i32 = rustix::fs::OFlags::EXCL.bits() as i32;

/// A device, or a file in its place.
pub(super) struct Card {
    path: PathBuf,
    file: File,
}

/// A card as it was written.
pub(super) struct Back {
    path: PathBuf,
    file: File,
    /// While this is open the kernel reads no partitions, and nobody mounts them.
    _held: File,
    buffer: Vec<u8>,
}

/// Whether this person may write a device: said before the image is read, which takes minutes.
pub(super) fn allowed(path: &Path) -> Result<(), Fault> {
    #[cfg(target_os = "linux")]
    if rustix::fs::access(path, rustix::fs::Access::WRITE_OK) == Err(rustix::io::Errno::ACCESS) {
        return Err(forbidden(path));
    }
    let _ = path;
    Ok(())
}

fn forbidden(path: &Path) -> Fault {
    Fault::text(format!("{}: you may not write it: use sudo", path.display()))
}

impl Card {
    /// Opens it for nobody else.
    pub(super) fn open(path: &Path, is_file: bool) -> Result<Card, Fault> {
        let mut options = OpenOptions::new();
        options.write(true);
        #[cfg(target_os = "linux")]
        if !is_file {
            use std::os::unix::fs::OpenOptionsExt;
            options.custom_flags(ALONE);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = is_file;
        let name = path.display();
        let file = options.open(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => forbidden(path),
            ErrorKind::ResourceBusy => Fault::text(format!("{name}: it is in use: unmount it")),
            ErrorKind::ReadOnlyFilesystem => Fault::text(format!("{name}: {PROTECTED}")),
            _ => Fault::io(format!("open {name}"), error),
        })?;
        Ok(Card { path: path.to_owned(), file })
    }

    /// Writes at a place.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let there = self.file.seek(SeekFrom::Start(at));
        let written = there.and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| self.worn("write", at, error))
    }

    /// Waits until all of it is on the card.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        self.file.sync_all().map_err(|error| self.worn("write", 0, error))
    }

    /// Has the kernel forget it, to read it from the card.
    pub(super) fn back(self) -> Result<Back, Fault> {
        let file = File::open(&self.path).map_err(|error| self.worn("read", 0, error))?;
        // Whatever stays in memory would be read from there, and prove nothing of the card.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(Back { path: self.path, file, _held: self.file, buffer: vec![0; super::CHUNK] })
    }

    fn worn(&self, what: &str, at: u64, error: std::io::Error) -> Fault {
        let place = super::megabytes(at);
        let what = format!("{what} {} at {place}", self.path.display());
        let hint = format!("{error}: it was taken out or is worn: flash it again, or another one");
        Fault::io(what, std::io::Error::new(error.kind(), hint))
    }
}

/// What to do about a card that can't be written.
pub(super) const PROTECTED: &str =
    "it is write-protected: mind the switch at the side of the card or its adapter";

impl Back {
    /// Whether the card has these bytes at a place.
    pub(super) fn compare(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let place = || format!("{} at {}", self.path.display(), super::megabytes(at));
        let there = self.file.seek(SeekFrom::Start(at));
        let have = there
            .and_then(|_| fill(&mut self.file, &mut self.buffer[..bytes.len()]))
            .map_err(|error| Fault::io(format!("read back {}", place()), error))?;
        if self.buffer[..have] == *bytes {
            return Ok(());
        }
        let what = "what was written is not what is read back: the card is bad, or not of the size \
                    that it says";
        Err(Fault::text(format!("{}: {what}", place())))
    }
}
