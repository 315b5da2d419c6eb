//! The few system calls that make the log durable, as a seam where tests let a disk fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// What the log asks of a disk.
pub trait Disk: Send + Sync {
    /// Writes some of `bytes` at `offset` and says how many.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written to the file durable.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Gives the file `length` bytes of zeroes that have their room on the disk.
    fn allocate(&self, file: &File, length: u64) -> io::Result<()>;
}

/// The system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        let size = length.try_into().map_err(io::Error::other)?;
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
