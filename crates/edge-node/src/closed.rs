//! Why nobody can write to the system's own files.

use std::path::Path;

use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

/// The kernel's number for squashfs, which is what the card's system is in.
const SQUASHFS: FsType = FsType(0x7371_7368);

/// What a directory is in that can't be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// An image that is flashed as a whole.
    Image,
    /// A disk that was mounted so, or that an error turned read-only.
    Disk,
}

/// Whether a directory can't be written to by anybody, and why. One that can't be asked about can.
pub fn closed(dir: &Path) -> Option<Closed> {
    let read_only = statvfs(dir).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    why(read_only, statfs(dir).ok()?.filesystem_type())
}

fn why(read_only: bool, kind: FsType) -> Option<Closed> {
    match (read_only, kind) {
        (false, _) => None,
        (true, SQUASHFS) => Some(Closed::Image),
        (true, _) => Some(Closed::Disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC};

    #[test]
    fn a_disk_that_failed_is_no_image() {
        assert_eq!(why(true, SQUASHFS), Some(Closed::Image));
        assert_eq!(why(true, EXT4_SUPER_MAGIC), Some(Closed::Disk));
        assert_eq!(why(false, TMPFS_MAGIC), None);
        assert_eq!((closed(&std::env::temp_dir()), closed(Path::new("/nowhere"))), (None, None));
    }
}
