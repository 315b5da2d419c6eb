//! Starts children from the sealed executable. The process that calls this has many threads and
//! may be large, so nothing here forks: `posix_spawn` shares memory until the child execs.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::{FcntlArg, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use super::seal::Sealed;

/// Descriptors below this are given to children by number, and used for nothing else.
pub(super) const FREE_FDS: RawFd = 10;

/// A process of ours, by a handle that no other process can come to stand for.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Starts `edged` with `args` and exactly these descriptors: `(ours, its number there)`.
pub(super) fn spawn(
    exe: &Sealed,
    args: &[OsString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<Child> {
    let mut actions = PosixSpawnFileActions::init()?;
    let mut moved = Vec::with_capacity(fds.len());
    for (fd, number) in fds {
        let high = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(FREE_FDS))?;
        // SAFETY: the kernel has just made this descriptor for us.
        moved.push(unsafe { OwnedFd::from_raw_fd(high) });
        actions.add_dup2(high, *number)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_flags(flags)?;
    let mut argv = vec![CString::from(c"edged")];
    for arg in args {
        argv.push(CString::new(arg.clone().into_vec())?);
    }
    // Nothing of ours is for containers; only a test's clock goes on to the shim.
    let skew = crate::clock::skew().map(|told| format!("{}={told}", crate::clock::SKEW));
    let environment: Vec<CString> = skew.map(CString::new).transpose()?.into_iter().collect();
    let path = OsStr::from_bytes(exe.path.to_bytes());
    let pid = posix_spawn(path, &actions, &attributes, &argv, &environment)?;
    Ok(Child { pid, pidfd: open_pidfd(pid.as_raw())? })
}

/// A descriptor that stands for a process and becomes readable when it ends.
pub(super) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to the process that a pidfd stands for.
pub(super) fn send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the information is absent, which the kernel takes as that of an ordinary kill.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
