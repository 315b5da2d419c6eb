//! `edged shim`: the process that stays beside each container for as long as it lives. It owns
//! the container's streams, writes its log, reaps its init and records its end, so that `edged`
//! itself may be killed, restarted or upgraded at any time. It is one thread with no runtime and
//! next to no heap, since every container on the board pays for one.

mod log;
mod start;
mod trim;
mod watch;

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(crate) use start::{CONSOLE_SOCKET, SHIM_PID};
pub(crate) use watch::{EXIT_FILE, INIT_FILE, close_from};

/// Where the sealed executable stands, for the shim to start `edged runtime` from.
pub(crate) const EXE_FD: RawFd = 3;
/// The pipe on which the start's outcome is reported; passed on to `edged runtime`.
pub(crate) const REPORT_FD: RawFd = 4;
/// The lock that is held for as long as the shim lives; never passed on.
pub(crate) const LOCK_FD: RawFd = 5;

/// Arguments after `edged shim`, in this order.
const ARGUMENTS: usize = 7;
/// Exit status for a wrong command line (`EX_USAGE`).
const USAGE: i32 = 64;

/// What `edged` tells a shim on its command line.
struct Task {
    /// Directory of the container's volatile state; its last component is the container's id.
    run: PathBuf,
    /// File that records the end.
    exit: PathBuf,
    /// Log file.
    log: PathBuf,
    /// The log is rotated when it passes this size.
    log_max_bytes: u64,
    /// Log files that are kept, the live one included.
    log_max_files: u32,
    /// The container has a terminal.
    tty: bool,
    /// Standard input is kept open.
    stdin: bool,
    /// A directory of the container's cgroup that lists its processes.
    cgroup: PathBuf,
    /// File with the `oom_kill` count, when the board counts.
    oom: Option<PathBuf>,
}

impl Task {
    fn parse(args: &[OsString]) -> Option<Task> {
        let [run, exit, log, limits, flags, cgroup, oom] = args else { return None };
        let (bytes, files) = limits.to_str()?.split_once('x')?;
        let flags = flags.as_bytes();
        Some(Task {
            run: run.into(),
            exit: exit.into(),
            log: log.into(),
            log_max_bytes: bytes.parse().ok()?,
            log_max_files: files.parse().ok()?,
            tty: flags.contains(&b't'),
            stdin: flags.contains(&b'i'),
            cgroup: cgroup.into(),
            oom: (oom != "-").then(|| oom.into()),
        })
    }
}

/// The command line that starts a shim, in the order that [`main`] reads it.
pub(crate) struct CommandLine<'a> {
    pub(crate) run: &'a std::path::Path,
    pub(crate) exit: &'a std::path::Path,
    pub(crate) log: &'a std::path::Path,
    pub(crate) log_max_bytes: u64,
    pub(crate) log_max_files: u32,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) cgroup: &'a std::path::Path,
    pub(crate) oom: Option<&'a std::path::Path>,
}

impl CommandLine<'_> {
    /// Arguments that follow the executable's name.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let flags =
            format!("{}{}-", if self.tty { "t" } else { "" }, if self.stdin { "i" } else { "" });
        vec![
            "shim".into(),
            self.run.into(),
            self.exit.into(),
            self.log.into(),
            format!("{}x{}", self.log_max_bytes, self.log_max_files).into(),
            flags.into(),
            self.cgroup.into(),
            self.oom.map_or_else(|| "-".into(), Into::into),
        ]
    }
}

/// Runs as the shim of one container; `args` are those after `edged shim`. Called first thing in
/// `main`, before threads, loggers or anything else that allocates. Returns the exit status.
pub fn main(args: &[OsString]) -> i32 {
    if args.len() != ARGUMENTS {
        return USAGE;
    }
    match Task::parse(args) {
        Some(task) => watch::run(&task),
        None => USAGE,
    }
}
