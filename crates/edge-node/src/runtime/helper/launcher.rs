//! The container's last step before its own command: what libcontainer's executor would do, with
//! our seccomp filter, capabilities given up after it, ordinary signals, and words for a command
//! that cannot be run.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::caps;
use super::seccomp::{self, Program};

/// What begins every message, as runc has it.
const PREFIX: &str = "unable to start container process: ";

/// Starts the command of a container, or one in it.
#[derive(Clone)]
pub(super) struct Launcher {
    /// Takes words when the command can't be run, and closes when it runs.
    pub(super) outcome: RawFd,
    pub(super) capabilities: u64,
    pub(super) seccomp: Vec<Program>,
    /// The command is killed when the process that started it ends.
    pub(super) dies_with_parent: bool,
}

impl Launcher {
    fn say(&self, words: &str) {
        let text = format!("{PREFIX}{words}");
        // SAFETY: the pointer and length are those of the text. The descriptor is the pipe's,
        // which stays open until the command runs.
        unsafe { libc::write(self.outcome, text.as_ptr().cast(), text.len()) };
    }

    /// Runs the command; returns only with what went wrong.
    fn launch(&self, spec: &Spec) -> Result<(), String> {
        let process = spec.process().as_ref().ok_or("no process in the specification")?;
        let args = process.args().clone().unwrap_or_default();
        let env = process.env().clone().unwrap_or_default();
        let path = find(args.first().map_or("", |a| a), &env)?;
        let c = |s: &str| CString::new(s).map_err(|_| format!("exec: {s:?}: has a NUL byte"));
        let file = c(&path.to_string_lossy())?;
        let argv = args.iter().map(|a| c(a)).collect::<Result<Vec<_>, _>>()?;
        let envp = last_of_each(&env).into_iter().map(c).collect::<Result<Vec<_>, _>>()?;
        reset_signals();
        for program in &self.seccomp {
            seccomp::install(program).map_err(|e| format!("install the seccomp filter: {e}"))?;
        }
        #[cfg(target_arch = "arm")]
        set_wide_ids(process.user().uid(), process.user().gid())?;
        caps::keep(self.capabilities).map_err(|e| format!("give up capabilities: {e}"))?;
        if self.dies_with_parent {
            // SAFETY: no memory is passed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
        }
        let error = nix::unistd::execve(&file, &argv, &envp).err().unwrap_or(Errno::UnknownErrno);
        Err(format!("exec {}: {}", path.display(), words_for(error)))
    }
}

impl Executor for Launcher {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match self.launch(spec) {
            Ok(()) => Ok(()),
            Err(words) => {
                self.say(&words);
                Err(ExecutorError::Other(words))
            }
        }
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let args = process.and_then(|p| p.args().clone()).unwrap_or_default();
        let env = process.and_then(|p| p.env().clone()).unwrap_or_default();
        match find(args.first().map_or("", |a| a), &env) {
            Ok(_) => Ok(()),
            Err(words) => {
                self.say(&words);
                Err(ExecutorValidationError::ArgValidationError(words))
            }
        }
    }

    /// The environment is passed to execve; this process's own is not touched.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// libcontainer's own step uses the calls of 32-bit arm that cut ids to 16 bits.
#[cfg(target_arch = "arm")]
fn set_wide_ids(uid: u32, gid: u32) -> Result<(), String> {
    // SAFETY: no memory is passed; this process has one thread.
    let done = unsafe { libc::setresgid(gid, gid, gid) | libc::setresuid(uid, uid, uid) };
    if done == 0 { Ok(()) } else { Err(format!("become user {uid}:{gid}")) }
}

/// The file that a command names, as Go's `exec.LookPath` finds it.
fn find(command: &str, env: &[String]) -> Result<PathBuf, String> {
    if command.is_empty() {
        return Err("exec: no command".into());
    }
    if command.contains('/') {
        return match executable(&PathBuf::from(command)) {
            Ok(()) => Ok(command.into()),
            Err(Errno::EACCES) => Err(format!("exec: {command:?}: permission denied")),
            Err(Errno::EISDIR) => Err(format!("exec: {command:?}: is a directory")),
            Err(e) => Err(format!("exec: {command:?}: stat {command}: {}", words_for(e))),
        };
    }
    let search = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("");
    let mut denied = false;
    for dir in search.split(':') {
        let path = PathBuf::from(if dir.is_empty() { "." } else { dir }).join(command);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(e) => denied |= e == Errno::EACCES,
        }
    }
    let why = if denied { "permission denied" } else { "executable file not found in $PATH" };
    Err(format!("exec: {command:?}: {why}"))
}

fn executable(path: &PathBuf) -> Result<(), Errno> {
    let data = fs::metadata(path)
        .map_err(|e| e.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))?;
    match (data.is_dir(), data.permissions().mode() & 0o111) {
        (true, _) => Err(Errno::EISDIR),
        (false, 0) => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// Errors in Go's words, which people know from runc.
fn words_for(error: Errno) -> String {
    match error {
        Errno::ENOENT => "no such file or directory".into(),
        Errno::EACCES => "permission denied".into(),
        Errno::ENOEXEC => "exec format error".into(),
        Errno::ENOTDIR => "not a directory".into(),
        Errno::ELOOP => "too many levels of symbolic links".into(),
        Errno::E2BIG => "argument list too long".into(),
        other => other.desc().to_ascii_lowercase(),
    }
}

/// Of entries that name the same variable the last counts, at the place of the first.
fn last_of_each(env: &[String]) -> Vec<&str> {
    let name = |e: &str| e.split('=').next().unwrap_or("").to_owned();
    let mut kept: Vec<&str> = Vec::with_capacity(env.len());
    for entry in env {
        match kept.iter_mut().find(|k| name(k) == name(entry)) {
            Some(earlier) => *earlier = entry,
            None => kept.push(entry),
        }
    }
    kept
}

/// Rust ignores SIGPIPE, and ignored signals stay ignored across exec.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: the default action installs no handler; numbers that cannot be set only fail.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_is_told_in_runcs_words() {
        let env = vec!["PATH=/nowhere:/bin".to_owned()];
        let words = |command: &str| find(command, &env).unwrap_err();
        assert_eq!(words("foo"), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(words("/foo"), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(words("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(words("/etc"), "exec: \"/etc\": is a directory");
        assert_eq!(find("sh", &env).unwrap(), PathBuf::from("/bin/sh"));
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let env = ["A=1", "B=2", "A=3", "C"].map(str::to_owned);
        assert_eq!(last_of_each(&env), ["A=3", "B=2", "C"]);
    }
}
