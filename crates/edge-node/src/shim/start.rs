//! How a shim begins: it cuts loose from `edged`, makes the container's streams, and starts the
//! short-lived `edged runtime create`, which makes the container and leaves its init to the shim.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::unistd::{ForkResult, Pid, chdir, fork, pipe2, setsid};

use super::{EXE_FD, REPORT_FD, Task};

/// Name of the socket in the run directory to which libcontainer sends the terminal.
pub(crate) const CONSOLE_SOCKET: &str = "console.sock";
/// The shim's own pid, for a restarted `edged` to find it.
pub(crate) const SHIM_PID: &str = "shim.pid";

/// What the shim holds of the container's streams.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Kept open so that the container's standard input blocks rather than ends.
    pub(super) stdin: Option<OwnedFd>,
    /// Listens for the terminal.
    pub(super) console: Option<OwnedFd>,
}

/// The ends that go to the container.
#[derive(Default)]
struct Given {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes this process its own session, the reaper of orphans, and deaf to ordinary signals.
pub(super) fn detach(task: &Task) -> Result<(), Errno> {
    // SAFETY: prctl with these operations reads no memory but the given name.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong);
        libc::prctl(libc::PR_SET_NAME, c"edged-shim".as_ptr());
    }
    // Fails when the process leads its group already, which serves as well.
    let _ = setsid();
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { sigaction(signal, &ignore)? };
    }
    // Lowering it needs CAP_SYS_RESOURCE; without it the shim is as killable as edged.
    let _ = std::fs::write("/proc/self/oom_score_adj", b"-998");
    let pid = std::process::id().to_string();
    let _ = std::fs::write(task.run.join(SHIM_PID), pid.as_bytes());
    Ok(())
}

/// Makes the streams and starts `edged runtime create`.
pub(super) fn launch(task: &Task) -> Result<(Pid, Streams), Errno> {
    let mut streams = Streams::default();
    let mut given = Given::default();
    if task.tty {
        streams.console = Some(listen_for_console(&task.run)?);
    } else {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (streams.stdout, given.stdout) = (Some(read), Some(write));
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (streams.stderr, given.stderr) = (Some(read), Some(write));
        if task.stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (given.stdin, streams.stdin) = (Some(read), Some(write));
        }
    }
    let exe = CString::new(format!("/proc/self/fd/{EXE_FD}")).map_err(|_| Errno::EINVAL)?;
    let run = CString::new(task.run.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let argv = [
        c"edged".as_ptr(),
        c"runtime".as_ptr(),
        c"create".as_ptr(),
        run.as_ptr(),
        std::ptr::null(),
    ];
    let skew = crate::clock::skew().map(|told| format!("{}={told}", crate::clock::SKEW));
    let skew = skew.and_then(|text| CString::new(text).ok());
    let envp = [skew.as_ref().map_or(std::ptr::null(), |text| text.as_ptr()), std::ptr::null()];
    // SAFETY: this process has one thread, so the child may do as it likes before it execs; it
    // only moves file descriptors and resets signals. All pointers outlive the call.
    let child = match unsafe { fork()? } {
        ForkResult::Parent { child } => child,
        // SAFETY: as above.
        ForkResult::Child => unsafe {
            place(&given.stdin, 0);
            place(&given.stdout, 1);
            place(&given.stderr, 2);
            reset_signals();
            libc::fcntl(REPORT_FD, libc::F_SETFD, 0);
            libc::execve(exe.as_ptr(), argv.as_ptr(), envp.as_ptr());
            libc::_exit(127)
        },
    };
    Ok((child, streams))
}

/// Puts a stream where the program expects it.
///
/// SAFETY: only for the child of a fork: it overwrites the process's standard streams.
unsafe fn place(from: &Option<OwnedFd>, to: RawFd) {
    if let Some(fd) = from {
        // SAFETY: both are valid descriptors; the caller owns the process's streams.
        unsafe { libc::dup2(fd.as_raw_fd(), to) };
    }
}

/// What the container's processes must not inherit from a shim: its ignored and blocked signals.
fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        // SAFETY: the default action installs no handler.
        let _ = unsafe { sigaction(signal, &default) };
    }
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// A socket's name may have 107 bytes only, so it is bound from within its directory.
fn listen_for_console(run: &Path) -> Result<OwnedFd, Errno> {
    chdir(run)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let _ = std::fs::remove_file(CONSOLE_SOCKET);
    let bound = bind(fd.as_raw_fd(), &UnixAddr::new(CONSOLE_SOCKET)?)
        .and_then(|()| listen(&fd, Backlog::new(1)?));
    chdir("/")?;
    bound.map(|()| fd)
}
