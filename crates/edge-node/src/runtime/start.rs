//! Starting a container: its directories and request, its shim, and the wait for the outcome.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::unistd::pipe2;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::cgroup::{self, Layout};
use super::error::RuntimeError;
use super::files::{self, Home, Record, Request};
use super::spawn::{self, Child};
use super::{Entry, Runtime, helper};
use crate::seams::{ContainerRecord, ContainerSpec, ContainerState, Started};
use crate::shim::{CommandLine, EXE_FD, LOCK_FD, REPORT_FD};

/// The kubelet's limit for an operation of the runtime.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest report of a start.
const REPORT: u64 = 64 * 1024;
/// Longest id, as the seam has it.
const ID: usize = 64;
/// A pod's `/dev/shm`, as containerd has it.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// A shim that has just been started.
struct Launched {
    child: Child,
    report: OwnedFd,
}

impl Runtime {
    /// [`Runtime::start`], on a task of its own so that nobody can leave it half done.
    pub(super) async fn start_task(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        check(&spec)?;
        let group = match spec.security.privileged {
            true => &self.inner.privileged,
            false => &self.inner.pods,
        };
        let entry =
            Entry { record: None, pod_uid: spec.pod_uid.clone(), cgroup: group.join(&spec.id) };
        self.reserve(&spec.id, &entry)?;
        let outcome = self.start_reserved(&spec, &entry).await;
        if outcome.is_err() {
            let (runtime, id) = (self.clone(), spec.id.clone());
            if let Err(e) = blocking(move || runtime.remove_now(&id, &entry)).await {
                tracing::warn!(id = spec.id, "clear away after a failed start: {e}");
            }
        }
        outcome
    }

    fn reserve(&self, id: &str, entry: &Entry) -> Result<(), RuntimeError> {
        let mut containers = self.containers();
        if containers.contains_key(id) {
            return Err(RuntimeError::Exists { id: id.to_owned() });
        }
        containers.insert(id.to_owned(), entry.clone());
        Ok(())
    }

    async fn start_reserved(
        &self,
        spec: &ContainerSpec,
        entry: &Entry,
    ) -> Result<Started, RuntimeError> {
        let id = &spec.id;
        let failed = |message: String| RuntimeError::Create { id: id.clone(), message };
        let _permit = self.inner.starts.acquire().await.map_err(|e| failed(e.to_string()))?;
        let (runtime, wanted, cgroup) = (self.clone(), spec.clone(), entry.cgroup.clone());
        let inner = self.inner.clone();
        drop(tokio::task::spawn_blocking(move || cgroup::hurry(&inner.layout)));
        let launched = blocking(move || runtime.launch(&wanted, &cgroup)).await?;
        let report = tokio::time::timeout(PATIENCE, read_report(launched.report)).await;
        let line = match report {
            Ok(Ok(line)) => line,
            Ok(Err(e)) => return Err(failed(format!("read the start's report: {e}"))),
            Err(_) => {
                let _ = spawn::send_signal(&launched.child.pidfd, libc::SIGKILL);
                return Err(failed(format!("not started within {} s", PATIENCE.as_secs())));
            }
        };
        let started = match line.strip_prefix("ok ").and_then(parse_started) {
            Some(started) => started,
            None if line.is_empty() => {
                return Err(failed("the start ended without a word; is memory short?".into()));
            }
            None => return Err(helper::parse_failure(id, &line)),
        };
        let state =
            ContainerState::Running { pid: started.pid, started_at_ms: started.started_at_ms };
        self.put(record_of(spec, state));
        self.watch(id.clone(), launched.child);
        Ok(started)
    }

    /// Writes what the helpers need, and starts the shim.
    fn launch(&self, spec: &ContainerSpec, cgroup: &Path) -> Result<Launched, RuntimeError> {
        let home = self.home(&spec.id);
        for dir in [&home.run, &home.data, &home.data.join("upper"), &home.data.join("work")] {
            files::make_private_dir(dir)?;
        }
        open_upper(&home)?;
        if let Some(parent) = spec.log_path.parent() {
            fs::create_dir_all(parent)
                .map_err(|e| RuntimeError::io("make directory", parent, e))?;
        }
        let inner = &self.inner;
        let request = Request {
            spec: spec.clone(),
            layout: inner.layout.clone(),
            cgroup: cgroup.into(),
            data: home.data.clone(),
            rootfs: inner.run_dir.join("rootfs"),
            shm: self.pod_shm(&spec.pod_uid)?,
            skeleton: inner.run_dir.join("cgroup"),
            device_filter: inner.device_filter,
        };
        write_json(&home.request(), &request)?;
        write_json(&home.record(), &self.disk_record(spec, cgroup))?;
        let arguments = CommandLine {
            run: &home.run,
            exit: &home.exit(),
            log: &spec.log_path,
            log_max_bytes: spec.log_max_bytes,
            log_max_files: spec.log_max_files,
            tty: spec.tty,
            stdin: spec.stdin,
            cgroup: &inner.layout.process_dir(cgroup),
            oom: inner.layout.oom_file(cgroup).as_deref(),
        }
        .arguments();
        self.spawn_shim(&home, &arguments)
            .map_err(|e| RuntimeError::io("start the shim in", &home.run, e))
    }

    fn spawn_shim(&self, home: &Home, args: &[std::ffi::OsString]) -> io::Result<Launched> {
        let lock = lock_file(home)?;
        let (report, written) = pipe2(OFlag::O_CLOEXEC)?;
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let fds = [
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (null.as_fd(), 2),
            (self.inner.exe.fd.as_fd(), EXE_FD),
            (written.as_fd(), REPORT_FD),
            (lock.as_fd(), LOCK_FD),
        ];
        let child = spawn::spawn(&self.inner.exe, args, &fds)?;
        Ok(Launched { child, report })
    }

    fn disk_record(&self, spec: &ContainerSpec, cgroup: &Path) -> Record {
        Record {
            id: spec.id.clone(),
            pod_uid: spec.pod_uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            spec_hash: spec.spec_hash.clone(),
            image: spec.image.clone(),
            image_id: spec.image_id.clone(),
            boot_id: self.inner.boot_id.clone(),
            cgroup: cgroup.into(),
            created_ms: files::now_ms(),
        }
    }

    /// The memory that a pod's containers share as `/dev/shm`; made by the first of them.
    fn pod_shm(&self, pod_uid: &str) -> Result<std::path::PathBuf, RuntimeError> {
        let dir = self.inner.run_dir.join("shm").join(pod_uid);
        // Under the lock, so that two containers of a pod don't both mount it.
        let _containers = self.containers();
        if dir.exists() {
            return Ok(dir);
        }
        files::make_private_dir(&dir)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        mount(Some("shm"), &dir, Some("tmpfs"), flags, Some(SHM_OPTIONS)).map_err(|e| {
            let _ = fs::remove_dir(&dir);
            RuntimeError::io("mount shared memory on", &dir, e)
        })?;
        Ok(dir)
    }
}

/// What the board can tell about a specification before anything is made.
fn check(spec: &ContainerSpec) -> Result<(), RuntimeError> {
    let id = spec.id.clone();
    let wrong = |message: String| Err(RuntimeError::Config { id: id.clone(), message });
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if spec.id.is_empty() || spec.id.len() > ID || !spec.id.bytes().all(plain) {
        return wrong(format!("the id {:?} is not of the form [a-z0-9-]{{1,{ID}}}", spec.id));
    }
    let uid = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if spec.pod_uid.is_empty() || !spec.pod_uid.bytes().all(uid) {
        return wrong(format!("the pod's uid {:?} is no uid", spec.pod_uid));
    }
    if spec.args.first().is_none_or(String::is_empty) {
        return wrong("no command specified".into());
    }
    if !spec.cwd.starts_with('/') {
        return wrong(format!("the working directory {:?} is not absolute", spec.cwd));
    }
    if !spec.log_path.is_absolute() {
        return wrong(format!("the log file {} is not absolute", spec.log_path.display()));
    }
    if spec.security.run_as_non_root {
        let pod = format!("{}_{}({})", spec.pod_name, spec.pod_namespace, spec.pod_uid);
        let user = spec.image_user.split(':').next().unwrap_or("");
        if spec.security.run_as_user == Some(0) {
            return wrong(format!(
                "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {})",
                spec.name
            ));
        }
        let by_name = !user.is_empty() && user.parse::<u32>().is_err();
        if spec.security.run_as_user.is_none() && by_name {
            return wrong(format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot \
                 verify user is non-root (pod: \"{pod}\", container: {})",
                spec.name
            ));
        }
    }
    if let Some(missing) = spec.mounts.iter().find(|m| !m.source.exists()) {
        return wrong(format!(
            "the volume at {} has no {}",
            missing.target,
            missing.source.display()
        ));
    }
    Ok(())
}

/// The directory that becomes the container's `/` must be open to its users.
fn open_upper(home: &Home) -> Result<(), RuntimeError> {
    use std::os::unix::fs::PermissionsExt;
    let upper = home.data.join("upper");
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
        .map_err(|e| RuntimeError::io("open to all", &upper, e))
}

/// Empty directories for the cgroup hierarchies, the same for all containers.
pub(super) fn make_skeleton(run_dir: &Path, layout: &Layout) -> Result<(), RuntimeError> {
    let skeleton = run_dir.join("cgroup");
    let names = layout.shown(Path::new("/")).into_iter().map(|(name, _)| skeleton.join(name));
    for dir in std::iter::once(skeleton.clone()).chain(names) {
        fs::create_dir_all(&dir).map_err(|e| RuntimeError::io("make directory", &dir, e))?;
    }
    Ok(())
}

/// A lock that whoever has the descriptor open holds: the shim, for its life.
fn lock_file(home: &Home) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(home.lock())?;
    // SAFETY: no memory is passed.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), RuntimeError> {
    let bytes = serde_json::to_vec(value).map_err(|e| RuntimeError::io("serialise", path, e))?;
    files::write_private(path, &bytes)
}

/// The first line of the report: it is the whole outcome.
async fn read_report(fd: OwnedFd) -> io::Result<String> {
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut bytes = Vec::new();
    pipe::Receiver::from_owned_fd(fd)?.take(REPORT).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).lines().next().unwrap_or("").to_owned())
}

fn parse_started(text: &str) -> Option<Started> {
    let (pid, started) = text.split_once(' ')?;
    Some(Started { pid: pid.parse().ok()?, started_at_ms: started.trim().parse().ok()? })
}

pub(super) fn record_of(spec: &ContainerSpec, state: ContainerState) -> ContainerRecord {
    ContainerRecord {
        id: spec.id.clone(),
        pod_uid: spec.pod_uid.clone(),
        name: spec.name.clone(),
        attempt: spec.attempt,
        spec_hash: spec.spec_hash.clone(),
        image: spec.image.clone(),
        image_id: spec.image_id.clone(),
        state,
    }
}

/// Runs what may block on a disk where it blocks nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(RuntimeError::Board { message: format!("a runtime operation was interrupted: {e}") })
    })
}
