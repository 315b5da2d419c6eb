//! `edged runtime …`: the short-lived, single-threaded process that calls libcontainer, which
//! forks and runs ordinary code in the child and so must never be called where threads are. It
//! also looks into the container's root, which is mounted in its own mount namespace only.

mod caps;
mod create;
mod exec;
mod launcher;
mod oci;
mod overlay;
mod places;
mod seccomp;
mod syscalls;
mod trace;
mod users;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::error::RuntimeError;
use crate::shim::{REPORT_FD, close_from};

/// Exit status for a wrong command line (`EX_USAGE`).
const USAGE: i32 = 64;

pub(super) use exec::{ExecRequest, LIFE_FD};

/// Why a container or a command in it did not start, as it goes to `edged`.
pub(super) enum Failure {
    /// The container asks for what cannot be.
    Config(String),
    /// It could not be made.
    Create(String),
    /// Its command could not be started.
    Start(String),
    /// A command's status for a shell, and why it was not run.
    Exec(i32, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(m) => write!(f, "config {m}"),
            Failure::Create(m) => write!(f, "create {m}"),
            Failure::Start(m) => write!(f, "start {m}"),
            Failure::Exec(code, m) => write!(f, "exec {code} {m}"),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        match error {
            RuntimeError::Config { message, .. } => Failure::Config(message),
            other => Failure::Create(other.to_string()),
        }
    }
}

/// Reads back what [`Failure`] wrote.
pub(super) fn parse_failure(id: &str, text: &str) -> RuntimeError {
    let id = id.to_owned();
    let (word, rest) = text.split_once(' ').unwrap_or(("", text));
    let message = rest.to_owned();
    match word {
        "config" => RuntimeError::Config { id, message },
        "start" => RuntimeError::Start { id, message },
        "exec" => {
            let (code, message) = rest.split_once(' ').unwrap_or(("126", rest));
            let code = code.parse().unwrap_or(126);
            RuntimeError::Exec { id, message: message.to_owned(), code }
        }
        "create" => RuntimeError::Create { id, message },
        _ => RuntimeError::Create { id, message: text.to_owned() },
    }
}

/// Joins an error and its causes into one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// Runs `edged runtime create|exec`; `args` are those after `edged runtime`. Called first thing in
/// `main`, before there are threads. Returns the exit status.
pub fn main(args: &[OsString]) -> i32 {
    let [verb, run] = args else { return USAGE };
    close_from(LIFE_FD + 1);
    // SAFETY: whoever starts this program gives it this descriptor for its own.
    let mut report = Report(unsafe { std::fs::File::from_raw_fd(REPORT_FD) });
    if fcntl(report.0.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        return USAGE;
    }
    match verb.to_str() {
        Some("create") => create::run(Path::new(run), &mut report),
        Some("exec") => exec::run(Path::new(run), &mut report),
        _ => USAGE,
    }
}

/// The pipe to `edged`.
struct Report(std::fs::File);

impl Report {
    fn line(&mut self, line: &str) {
        // When nobody listens any more, nobody needs to know.
        let _ = self.0.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes());
    }
}

/// Takes over a descriptor by number, closed on exec.
fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl fails for a descriptor that is not open; an open one was given to us.
    let flags = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: it is open, and this is the only place that takes it over.
    (flags >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
