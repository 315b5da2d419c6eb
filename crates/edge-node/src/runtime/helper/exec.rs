//! `edged runtime exec`: runs one command in a container and waits for its end. It lives for as
//! long as the command does, and the command dies with it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::create::{raise_oom_score, read_outcome};
use super::launcher::Launcher;
use super::{Failure, Report, caps, chain, oci, places, seccomp, users};
use crate::runtime::files::{self, Home, Request};
use crate::shim::EXE_FD;

/// A pipe that ends when the caller goes away.
pub(in crate::runtime) const LIFE_FD: i32 = 5;

/// The command, in a file that names the container's run directory as its home.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::runtime) struct ExecRequest {
    pub(in crate::runtime) run: PathBuf,
    pub(in crate::runtime) args: Vec<String>,
    pub(in crate::runtime) env: Vec<String>,
    /// Where to send the terminal, when there is to be one.
    pub(in crate::runtime) console: Option<PathBuf>,
}

/// Runs the command that the file asks for, and reports its start and its end.
pub(super) fn run(file: &Path, report: &mut Report) -> i32 {
    drop(super::adopt(EXE_FD));
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let children = mask
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
    let Ok(children) = children else { return 1 };
    match start(file) {
        Ok(pid) => {
            report.line(&format!("ok {pid} 0"));
            let code = wait(pid, &children);
            report.line(&format!("end {code}"));
            0
        }
        Err(failure) => {
            report.line(&failure.to_string());
            1
        }
    }
}

fn start(file: &Path) -> Result<Pid, Failure> {
    let failed = |words: String| Failure::Exec(126, words);
    let bytes = std::fs::read(file).map_err(|e| failed(format!("read {}: {e}", file.display())))?;
    let _ = std::fs::remove_file(file);
    let wanted: ExecRequest =
        serde_json::from_slice(&bytes).map_err(|e| failed(format!("parse the request: {e}")))?;
    let home = Home { run: wanted.run.clone(), data: PathBuf::new() };
    let request = home.read_request().map_err(|e| failed(e.to_string()))?;
    let process = process(&home, &request, &wanted)?;
    let process_file = file.with_extension("process");
    files::write_private(&process_file, process.to_string().as_bytes())?;
    let (outcome, launched) =
        pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(format!("make a pipe: {e}")))?;
    let security = &request.spec.security;
    let launcher = Launcher {
        outcome: launched.as_raw_fd(),
        capabilities: caps::wanted(security, request.device_filter),
        seccomp: seccomp::programs(security, request.device_filter)
            .map_err(|e| failed(format!("compile the seccomp filter: {e}")))?,
        dies_with_parent: true,
    };
    raise_oom_score(request.spec.oom_score_adj);
    let build = || -> Result<Pid, LibcontainerError> {
        let pid = ContainerBuilder::new(request.spec.id.clone(), SyscallType::default())
            .with_root_path(home.state())?
            .with_executor(launcher)
            .with_console_socket(wanted.console.clone())
            .as_tenant()
            .with_detach(true)
            .with_process(Some(&process_file))
            .build()?;
        Ok(Pid::from_raw(pid.as_raw()))
    };
    let built = build();
    let _ = std::fs::remove_file(&process_file);
    drop(launched);
    match (read_outcome(outcome, built.is_ok()), built) {
        (Some(words), _) => {
            let missing = words.contains("not found") || words.contains("no such file");
            Err(Failure::Exec(if missing { 127 } else { 126 }, words))
        }
        (None, Err(e)) => Err(failed(chain(&e))),
        (None, Ok(pid)) => Ok(pid),
    }
}

/// The whole process: by its arguments alone libcontainer would run it as root. The user is
/// worked out anew, in the root as the container has it now.
fn process(
    home: &Home,
    request: &Request,
    wanted: &ExecRequest,
) -> Result<serde_json::Value, Failure> {
    let gone = || Failure::Exec(126, "the container is not running".into());
    let init = home.read_init().ok_or_else(gone)?;
    let root = places::root_at(format!("/proc/{}/root", init.pid).as_ref()).map_err(|_| gone())?;
    if files::start_ticks(init.pid) != Some(init.ticks) {
        return Err(gone());
    }
    let user = users::resolve(&root, &request.spec)?;
    Ok(oci::process(&request.spec, &user, &wanted.args, &wanted.env, wanted.console.is_some()))
}

/// Waits for the command, and kills it when the caller goes away.
fn wait(pid: Pid, children: &SignalFd) -> i32 {
    // The command has its own copies; ours would keep its readers from seeing the end.
    for fd in 0..3 {
        // SAFETY: nothing in this process reads or writes its standard streams any more.
        unsafe { libc::close(fd) };
    }
    let life = super::adopt(LIFE_FD);
    loop {
        match waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) => {}
            Err(_) => return files::UNKNOWN,
        }
        let mut fds = vec![PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        fds.extend(life.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds.get(1).and_then(PollFd::any) == Some(true) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return 128 + Signal::SIGKILL as i32;
        }
        while let Ok(Some(_)) = children.read_signal() {}
    }
}
