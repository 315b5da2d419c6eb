//! `edged runtime create`: mounts the root, makes the cgroup, works out who the container runs
//! as, and has libcontainer make and start it. Its init is left to the shim.

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::pipe2;

use super::launcher::Launcher;
use super::trace::Trace;
use super::{Failure, Report, caps, chain, oci, overlay, places, seccomp, users};
use crate::runtime::cgroup;
use crate::runtime::error::RuntimeError;
use crate::runtime::files::{self, Home, Init, Request};
use crate::seams::ContainerSpec;
use crate::shim::EXE_FD;

/// Runs the command for the container whose run directory this is; 0 when it started.
pub(super) fn run(run: &Path, report: &mut Report) -> i32 {
    drop(super::adopt(EXE_FD));
    match create(run) {
        Ok(init) => {
            report.line(&format!("ok {} {}", init.pid, init.started_ms));
            0
        }
        Err(failure) => {
            report.line(&failure.to_string());
            1
        }
    }
}

fn create(run: &Path) -> Result<Init, Failure> {
    let mut home = Home { run: run.into(), data: PathBuf::new() };
    let request = home.read_request()?;
    home.data.clone_from(&request.data);
    let spec = &request.spec;
    own_mounts()?;
    let layers = open_layers(spec)?;
    overlay::mount(&request, layers)?;
    cgroup::create(&request.layout, &request.cgroup, &spec.limits)?;
    let root = places::root_at(&request.rootfs)
        .map_err(|e| RuntimeError::io("open", &request.rootfs, e))?;
    let user = users::resolve(&root, spec)?;
    places::make_targets(&root, &spec.mounts)?;
    places::make_cwd(&root, spec)?;
    let config = oci::config(&request, &user);
    let path = run.join("config.json");
    files::write_private(&path, config.to_string().as_bytes())?;
    raise_oom_score(spec.oom_score_adj);
    start(&home, &request)
}

/// Hands over to libcontainer.
fn start(home: &Home, request: &Request) -> Result<Init, Failure> {
    let spec = &request.spec;
    let (outcome, launched) =
        pipe2(OFlag::O_CLOEXEC).map_err(|e| Failure::Create(format!("make a pipe: {e}")))?;
    let launcher = Launcher {
        outcome: launched.as_raw_fd(),
        capabilities: caps::wanted(&spec.security, request.device_filter),
        seccomp: seccomp::programs(&spec.security, request.device_filter)
            .map_err(|e| Failure::Create(format!("compile the seccomp filter: {e}")))?,
        dies_with_parent: false,
    };
    let build = || -> Result<i32, LibcontainerError> {
        let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
            .with_root_path(home.state())?
            .with_executor(launcher);
        if spec.tty {
            builder = builder.with_console_socket(Some(home.console()));
        }
        let mut container =
            builder.as_init(&home.run).with_systemd(false).with_detach(true).build()?;
        container.start()?;
        Ok(container.pid().map_or(0, |p| p.as_raw()))
    };
    let trace = Trace::start().map_err(|e| Failure::Create(format!("make a pipe: {e}")))?;
    let built = build();
    drop(launched);
    // The launcher's own words come first: they are those of a container's user.
    let words = read_outcome(outcome, built.is_ok());
    match (words, built) {
        (Some(words), _) => Err(Failure::Start(words)),
        (None, Err(e)) => {
            let cause = trace.first().map(|c| format!(" ({c})")).unwrap_or_default();
            Err(Failure::Create(format!("{}{cause}", chain(&e))))
        }
        (None, Ok(pid)) => {
            let ticks = files::start_ticks(pid).unwrap_or(0);
            let init = Init { pid, started_ms: files::now_ms(), ticks };
            files::write_private(&home.init(), init.format().as_bytes())?;
            Ok(init)
        }
    }
}

/// What the launcher wrote. Its end of the pipe closes when the command runs, so for a container
/// that was made this also waits for that moment.
pub(super) fn read_outcome(pipe: OwnedFd, wait: bool) -> Option<String> {
    use nix::fcntl::{FcntlArg, fcntl};
    if !wait {
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    }
    let mut words = Vec::new();
    let _ = fs::File::from(pipe).read_to_end(&mut words);
    (!words.is_empty()).then(|| String::from_utf8_lossy(&words).into_owned())
}

/// Leaves the board's mount namespace, so that all that is mounted for this container goes away
/// with its last process, whatever happens to anybody else.
fn own_mounts() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        })
        .map_err(|e| Failure::Create(format!("make a mount namespace: {e}")))
}

/// Opens the layers; in our own mount namespace, since an overlay takes no others.
fn open_layers(spec: &ContainerSpec) -> Result<Vec<OwnedFd>, Failure> {
    use nix::fcntl::open;
    use nix::sys::stat::Mode;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    spec.layers
        .iter()
        .map(|path| {
            open(path, flags, Mode::empty())
                .map_err(|e| RuntimeError::io("open image layer", path, e).into())
        })
        .collect()
}

/// Raising the score is always allowed; lowering it needs a capability that may be absent.
pub(super) fn raise_oom_score(score: i32) {
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
}
