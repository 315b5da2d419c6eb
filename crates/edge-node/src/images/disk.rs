//! The files of the image store, and the rule that nothing half-written is ever used: work is done
//! under `ingest/`, made durable, and put in its place by one rename. Whatever a crash leaves in
//! `ingest/` is removed at the next start.

use super::error::ImageError;
use super::unpack::remove_directory;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Layers and documents are root's alone: they hold set-uid programs of strangers.
const PRIVATE: u32 = 0o700;

/// Makes a directory and its parents, private.
pub(super) fn make_directory(path: &Path) -> Result<(), ImageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path)
        .map_err(|e| ImageError::file("create", path, &e))
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| ImageError::file("sync", path, &e))
}

/// Makes a whole file system durable: one call instead of one for each of a layer's files.
pub(super) fn sync_file_system(path: &Path) -> Result<(), ImageError> {
    File::open(path)
        .and_then(|dir| Ok(rustix::fs::syncfs(&dir)?))
        .map_err(|e| ImageError::file("sync", path, &e))
}

/// Removes a file or a whole directory; nothing there is fine.
pub(super) fn remove(path: &Path) -> Result<(), ImageError> {
    let failed = |e: io::Error| ImageError::file("remove", path, &e);
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if !kind.is_dir() {
        return fs::remove_file(path).map_err(failed);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let parent = File::open(parent).map_err(failed)?;
    remove_directory(&parent, name.as_encoded_bytes()).map_err(failed)
}

/// The names in a directory.
pub(super) fn names(path: &Path) -> Result<Vec<String>, ImageError> {
    let failed = |e: io::Error| ImageError::file("list", path, &e);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The room for unfinished work.
#[derive(Debug)]
pub(super) struct Ingest {
    dir: PathBuf,
    next: AtomicU64,
}

impl Ingest {
    /// Opens the room and removes what an earlier run left there.
    pub(super) fn open(dir: PathBuf) -> Result<Ingest, ImageError> {
        make_directory(&dir)?;
        for name in names(&dir)? {
            remove(&dir.join(name))?;
        }
        Ok(Ingest { dir, next: AtomicU64::new(1) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn name(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{kind}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// A path for a file that goes away with the value.
    pub(super) fn file(&self) -> Temporary {
        Temporary(self.name("file"))
    }

    /// A new directory that goes away with the value, unless it is moved first.
    pub(super) fn directory(&self) -> Result<Temporary, ImageError> {
        let temporary = Temporary(self.name("dir"));
        make_directory(&temporary.0)?;
        Ok(temporary)
    }

    /// Takes something out of use in one step; it is gone when the value is.
    pub(super) fn discard(&self, path: &Path) -> Result<Temporary, ImageError> {
        let temporary = Temporary(self.name("gone"));
        match fs::rename(path, &temporary.0) {
            Ok(()) => Ok(temporary),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(temporary),
            Err(e) => Err(ImageError::file("discard", path, &e)),
        }
    }

    /// Writes a file so that a crash leaves either the old content or the new.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let temporary = self.file();
        File::create(&temporary.0)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary.0, path))
            .map_err(|e| ImageError::file("write", path, &e))?;
        match path.parent() {
            Some(parent) => sync_directory(parent),
            None => Ok(()),
        }
    }
}

/// A path under `ingest/` that is removed when the value goes.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(%error, "unfinished work stays until the next start");
        }
    }
}

/// A downloaded or extracted blob, shared by the images that need it.
pub(super) type Blob = Arc<Temporary>;

/// Takes the store for this process; a second one is told so. What is given lets the lock itself go
/// when it is dropped: the descriptor may live on for a moment in a child between fork and exec.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, ImageError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|e| ImageError::file("create", &path, &e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => ImageError::Io {
            operation: format!("open the image store {}", dir.display()),
            detail: "another process has it open: use another --data-dir, or stop that one".into(),
        },
        _ => ImageError::file("lock", &path, &errno.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_holder_though_a_child_has_its_descriptor() {
        let dir = std::env::temp_dir().join(format!("edge-images-lock-{}", std::process::id()));
        make_directory(&dir).unwrap();
        let held = lock(&dir).unwrap();
        // The same open file, as a fork leaves it.
        let _childs = held.try_clone().unwrap();
        assert!(lock(&dir).is_err());
        drop(held);
        lock(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
