//! The executable that shims and helpers are started from. A container can reach the file behind
//! a process that enters it (`/proc/<pid>/exe`), and a hostile one would write to it
//! (CVE-2019-5736). So they run from a mount of our own binary that is read-only and belongs to
//! no namespace, which costs no memory; where the kernel has none, from a sealed copy in memory.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use super::error::RuntimeError;

/// Seals that make a file in memory immutable.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// An executable that nobody can write through a process started from it.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) fd: OwnedFd,
    pub(super) path: CString,
}

impl Sealed {
    /// Seals the executable at `path`.
    pub(super) fn new(path: &Path) -> Result<Sealed, RuntimeError> {
        let fd = mount_copy(path)
            .or_else(|_| memory_copy(path))
            .map_err(|e| RuntimeError::io("seal the executable", path, e))?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let path = CString::new(name).expect("invariant: a number has no NUL");
        Ok(Sealed { fd, path })
    }
}

/// A detached, read-only mount of the file alone.
fn mount_copy(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // A C `long` is narrower on 32-bit boards.
    #[allow(clippy::unnecessary_cast)]
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE as u64,
        userns_fd: 0,
    };
    // SAFETY: the structure is passed with its size and outlives the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { above_stdio(fd) }
}

/// A copy in memory that is sealed against every change.
fn memory_copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"edged".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let mut copy = unsafe { File::from_raw_fd(fd) };
    io::copy(&mut File::open(path)?, &mut copy)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS))?;
    above_stdio(copy.into())
}

/// Moves a descriptor out of the way of those that a child is given.
fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(super::spawn::FREE_FDS))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs a copy of `cat` from the seal, and answers how the kernel refuses to write to it.
    fn refusal(seal: impl Fn(&Path) -> io::Result<OwnedFd>) -> i32 {
        let dir = std::env::temp_dir().join(format!("edge-seal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("cat");
        std::fs::copy("/bin/cat", &file).unwrap();
        let fd = seal(&file).unwrap();
        let mut child = Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .arg0("cat")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        let held = File::open(&exe).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The exploit's second step: once nothing runs it, the file is no longer "busy".
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        let mut options = std::fs::OpenOptions::new();
        let written = options.write(true).open(again).and_then(|mut f| f.write_all(b"evil"));
        let refused = written.unwrap_err().raw_os_error();
        assert_eq!(std::fs::read("/bin/cat").unwrap(), std::fs::read(&file).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        refused.unwrap()
    }

    #[test]
    fn a_process_started_from_the_seal_cannot_be_written_through() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        assert_eq!(refusal(mount_copy), libc::EROFS);
        assert_eq!(refusal(memory_copy), libc::EPERM);
    }
}
