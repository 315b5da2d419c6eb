//! Every file operation of the log, as a seam: tests let a disk fail, and the simulator keeps one
//! in memory. What is not overridden goes to the system's files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

/// An open file of the log. A disk that is not the system's knows it by its path.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    file: Option<File>,
}

impl DiskFile {
    /// A file that a disk keeps elsewhere than the system does.
    pub fn named(path: &Path) -> DiskFile {
        DiskFile { path: path.to_owned(), file: None }
    }

    /// Its path, also after it was renamed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn renamed(mut self, path: &Path) -> DiskFile {
        self.path = path.to_owned();
        self
    }

    fn real(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// What the log asks of a disk.
pub trait Disk: Send + Sync {
    /// Writes some of `bytes` at `offset` and says how many.
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written to the file durable.
    fn sync(&self, file: &DiskFile) -> io::Result<()>;

    /// Gives the file `length` bytes of zeroes that have their room on the disk.
    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()>;

    /// Opens a file to read and write; with `fresh`, makes it or empties it first.
    fn open(&self, path: &Path, fresh: bool) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(fresh).truncate(fresh).open(path)?;
        // Read ahead, the log would lie in the page cache in large pieces, and each small write
        // would make the whole of one dirty. Where the system takes no advice, it costs nothing.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
        Ok(DiskFile { path: path.to_owned(), file: Some(file) })
    }

    /// Reads some bytes at `offset` and says how many; 0 at the file's end.
    fn read_at(&self, file: &DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        file.real()?.read_at(bytes, offset)
    }

    /// Makes a directory and those above it, unless they are there.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    /// The paths of a directory's files.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    /// Renames a file over another.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.real()?.write_at(bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        file.real()?.sync_data()
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        let size = length.try_into().map_err(io::Error::other)?;
        let file = file.real()?;
        loop {
            return match fallocate(file, FallocateFlags::empty(), 0, size) {
                Ok(()) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => write_zeroes(file, length),
                Err(errno) => Err(errno.into()),
            };
        }
    }
}

/// For file systems that can't reserve room.
fn write_zeroes(file: &File, length: u64) -> io::Result<()> {
    let zeroes = [0; 64 * 1024];
    let mut offset = 0;
    while offset < length {
        let count = (length - offset).min(zeroes.len() as u64);
        file.write_all_at(&zeroes[..count as usize], offset)?;
        offset += count;
    }
    Ok(())
}
