//! Files in memory that forget what was not synced, for the store's log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use edge_store::{Disk, DiskFile};

use super::chance::Chance;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What overwrote what since the last sync: offset and what stood there.
    undo: Vec<(usize, Vec<u8>)>,
}

#[derive(Default)]
struct Files {
    files: BTreeMap<PathBuf, Content>,
    /// After so many more operations the power is gone: nothing changes any more.
    left: Option<u64>,
}

impl Files {
    fn powered(&mut self) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

/// A board's disk, as far as the log sees it.
#[derive(Default)]
pub(super) struct Memory(Mutex<Files>);

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Memory {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("invariant: one thread")
    }

    /// The power goes after some more operations; what was begun meanwhile is half done.
    pub(super) fn power_fails(&self, after: u64) {
        self.files().left = Some(after);
    }

    /// Only the process had ended: the kernel has everything that was written, and no disk need
    /// have it yet.
    pub(super) fn process_returns(&self) {
        self.files().left = None;
    }

    /// The power is back. Of what was not synced, some is there and the last of it torn.
    pub(super) fn power_returns(&self, chance: &mut Chance) {
        let mut files = self.files();
        files.left = None;
        for content in files.files.values_mut() {
            let undo = std::mem::take(&mut content.undo);
            let kept = chance.range(0, undo.len() as u64) as usize;
            for (position, (offset, before)) in undo.into_iter().enumerate().rev() {
                if position > kept {
                    content.bytes[offset..offset + before.len()].copy_from_slice(&before);
                } else if position == kept {
                    let torn = chance.range(0, before.len() as u64) as usize;
                    let end = offset + before.len();
                    content.bytes[offset + torn..end].copy_from_slice(&before[torn..]);
                }
            }
        }
    }
}

impl Disk for Memory {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut files = self.files();
        if !files.powered() {
            return Ok(bytes.len());
        }
        let content = files.files.get_mut(file.path()).ok_or_else(absent)?;
        let offset = offset as usize;
        let end = offset + bytes.len();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.undo.push((offset, content.bytes[offset..end].to_vec()));
        content.bytes[offset..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        let mut files = self.files();
        if files.powered()
            && let Some(content) = files.files.get_mut(file.path())
        {
            content.undo.clear();
        }
        Ok(())
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        let mut files = self.files();
        if files.powered() {
            let content = files.files.get_mut(file.path()).ok_or_else(absent)?;
            content.bytes.resize(length as usize, 0);
        }
        Ok(())
    }

    fn open(&self, path: &Path, fresh: bool) -> io::Result<DiskFile> {
        let mut files = self.files();
        if fresh && files.powered() {
            files.files.insert(path.to_owned(), Content::default());
        }
        match files.files.contains_key(path) || fresh {
            true => Ok(DiskFile::named(path)),
            false => Err(absent()),
        }
    }

    fn read_at(&self, file: &DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let files = self.files();
        let content = files.files.get(file.path()).ok_or_else(absent)?;
        let rest = content.bytes.get(offset as usize..).unwrap_or(&[]);
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let files = self.files();
        Ok(files.files.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files().files.contains_key(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files();
        if files.powered() {
            let content = files.files.remove(from).ok_or_else(absent)?;
            files.files.insert(to.to_owned(), content);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut files = self.files();
        if files.powered() {
            files.files.remove(path).ok_or_else(absent)?;
        }
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}
