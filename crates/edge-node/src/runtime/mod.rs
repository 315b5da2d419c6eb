//! The container runtime of one board. Each container has a shim (`edged shim`, see
//! [`crate::shim`]) that outlives this process; libcontainer is called in short-lived processes
//! (`edged runtime …`) only. What is kept here in memory is what the disk says, kept up to date
//! by the ends that the shims record.

pub(crate) mod calls;
mod cgroup;
mod error;
mod exec;
mod files;
mod helper;
mod restore;
mod seal;
mod spawn;
mod start;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, mpsc};

use cgroup::Layout;
use files::Home;
use seal::Sealed;

pub(crate) use calls::clock_is_synchronised;
pub use error::{RuntimeError, START_FAILED};
pub use exec::{ExecSession, ExecSpec};
pub use helper::main;
pub use stream::Stream;

use crate::seams::{ContainerRecord, ContainerSpec, ContainerState, Exit, Started};

/// Ends that may wait to be taken up; a shim's record keeps those that don't fit.
const EXITS: usize = 256;
/// Containers that are started at once: more would only take more memory for as long.
const STARTS: usize = 8;

/// Where a runtime keeps its state.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Volatile state, best in memory: gone after a boot.
    pub run_dir: PathBuf,
    /// State that survives a boot, and the containers' own files.
    pub data_dir: PathBuf,
    /// The cgroup to make containers' groups in, from the root of each hierarchy: `/edged`.
    pub cgroup_parent: String,
    /// The executable whose `shim` and `runtime` commands to use; `None` is this one.
    pub exe: Option<PathBuf>,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Working set: memory in use without file pages that can be dropped at once.
    pub memory_bytes: u64,
    /// CPU time so far.
    pub cpu_nanos: u64,
}

/// What the board's kernel offers to containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `v1` (also for hybrid) or `v2`.
    pub cgroup_version: &'static str,
    /// What to do when memory limits can't be set; `None` when they can.
    pub memory_problem: Option<&'static str>,
    /// False when containers can't be kept from devices but by taking `CAP_MKNOD` from them.
    pub device_filter: bool,
}

/// Runs containers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    run_dir: PathBuf,
    data_dir: PathBuf,
    exe: Sealed,
    layout: Layout,
    /// Group of ordinary containers, whose devices are filtered.
    pods: PathBuf,
    /// Group of privileged ones.
    privileged: PathBuf,
    device_filter: bool,
    boot_id: String,
    exits: mpsc::Sender<Exit>,
    starts: Semaphore,
    containers: Mutex<BTreeMap<String, Entry>>,
    /// Held while the end of a container is found out.
    ending: Mutex<()>,
}

/// A container as this process knows it.
#[derive(Debug, Clone)]
struct Entry {
    /// `None` while it is being started.
    record: Option<ContainerRecord>,
    pod_uid: String,
    cgroup: PathBuf,
}

impl Runtime {
    /// Opens the runtime: finds the cgroups, seals the executable, takes up the containers of an
    /// earlier process and clears away what is left of unfinished starts. The ends of containers
    /// come out of the receiver, also of those that were taken up; once it is closed, this one
    /// watches and writes nothing more. Needs a tokio runtime.
    pub fn new(config: RuntimeConfig) -> Result<(Runtime, mpsc::Receiver<Exit>), RuntimeError> {
        for dir in [&config.run_dir, &config.data_dir] {
            files::make_private_dir(&dir.join("containers"))?;
        }
        files::make_private_dir(&config.run_dir.join("rootfs"))?;
        let exe = config.exe.unwrap_or_else(|| "/proc/self/exe".into());
        let layout = Layout::detect()?;
        let parent = PathBuf::from("/").join(config.cgroup_parent.trim_matches('/'));
        let (pods, privileged) = (parent.join("pods"), parent.join("privileged"));
        layout.prepare(&[pods.clone(), privileged.clone()])?;
        let device_filter = cgroup::restrict_devices(&layout, &pods)?;
        if !device_filter {
            tracing::warn!(
                "this kernel cannot filter containers' devices: they run without CAP_MKNOD"
            );
        }
        start::make_skeleton(&config.run_dir, &layout)?;
        let (exits, receiver) = mpsc::channel(EXITS);
        let inner = Inner {
            exe: Sealed::new(&exe)?,
            run_dir: config.run_dir,
            data_dir: config.data_dir,
            layout,
            pods,
            privileged,
            device_filter,
            boot_id: files::boot_id()?,
            exits,
            starts: Semaphore::new(STARTS),
            containers: Mutex::new(BTreeMap::new()),
            ending: Mutex::new(()),
        };
        let runtime = Runtime { inner: Arc::new(inner) };
        runtime.restore()?;
        Ok((runtime, receiver))
    }

    /// What the board offers.
    pub fn facts(&self) -> Facts {
        let layout = &self.inner.layout;
        Facts {
            cgroup_version: match layout {
                Layout::V1(_) => "v1",
                Layout::V2 { .. } => "v2",
            },
            memory_problem: (!layout.has("memory")).then_some(cgroup::NO_MEMORY),
            device_filter: self.inner.device_filter,
        }
    }

    /// Makes and starts a container, and returns when its command runs. A failure leaves nothing
    /// behind but the log. Dropping the future does not stop the start.
    pub async fn start(&self, spec: &ContainerSpec) -> Result<Started, RuntimeError> {
        let (runtime, spec) = (self.clone(), spec.clone());
        let id = spec.id.clone();
        let task = tokio::spawn(async move { runtime.start_task(spec).await });
        task.await.unwrap_or_else(|e| {
            Err(RuntimeError::Create { id, message: format!("the start was interrupted: {e}") })
        })
    }

    /// All containers that were started and not removed, by id.
    pub fn list(&self) -> Result<Vec<ContainerRecord>, RuntimeError> {
        Ok(self.containers().values().filter_map(|e| e.record.clone()).collect())
    }

    /// Sends a signal to a container's first process.
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let not_running = || RuntimeError::NotRunning { id: id.to_owned() };
        self.running(id)?;
        let init = self.home(id).read_init().ok_or_else(not_running)?;
        let pidfd = spawn::open_pidfd(init.pid).map_err(|_| not_running())?;
        // The descriptor stands for whoever had the pid when it was opened.
        if files::start_ticks(init.pid) != Some(init.ticks) {
            return Err(not_running());
        }
        spawn::send_signal(&pidfd, signal).map_err(|e| match e.raw_os_error() {
            Some(libc::ESRCH) => not_running(),
            _ => RuntimeError::io("signal container", id.as_ref(), e),
        })
    }

    /// Kills every process of a container, and returns when there is none. Its end comes out of
    /// the receiver as any other.
    pub async fn kill(&self, id: &str) -> Result<(), RuntimeError> {
        let cgroup = self.entry(id)?.cgroup;
        let inner = self.inner.clone();
        start::blocking(move || cgroup::kill_all(&inner.layout, &cgroup)).await
    }

    /// Takes a container away: its processes, mounts, cgroup and files, but not its log. One that
    /// does not exist is no error.
    pub async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let Ok(entry) = self.entry(id) else { return Ok(()) };
        let (runtime, id) = (self.clone(), id.to_owned());
        start::blocking(move || runtime.remove_now(&id, &entry)).await
    }

    /// Takes away everything: all containers, and the groups that theirs were made in.
    pub async fn cleanup(&self) -> Result<(), RuntimeError> {
        let ids: Vec<String> = self.containers().keys().cloned().collect();
        for id in ids {
            self.remove(&id).await?;
        }
        let inner = self.inner.clone();
        start::blocking(move || {
            for group in [&inner.pods, &inner.privileged] {
                cgroup::remove(&inner.layout, group)?;
            }
            cgroup::remove(&inner.layout, inner.pods.parent().unwrap_or(&inner.pods))
        })
        .await
    }

    /// What a container uses now; `None` when it is not running.
    pub fn stats(&self, id: &str) -> Option<Stats> {
        self.running(id).ok()?;
        cgroup::stats(&self.inner.layout, &self.entry(id).ok()?.cgroup)
    }

    fn home(&self, id: &str) -> Home {
        Home::new(&self.inner.run_dir, &self.inner.data_dir, id)
    }

    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.inner.containers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn entry(&self, id: &str) -> Result<Entry, RuntimeError> {
        let entry = self.containers().get(id).cloned();
        entry.ok_or_else(|| RuntimeError::NotFound { id: id.to_owned() })
    }

    /// An error unless the container runs.
    fn running(&self, id: &str) -> Result<(), RuntimeError> {
        match self.entry(id)?.record.map(|r| r.state) {
            Some(ContainerState::Running { .. }) => Ok(()),
            _ => Err(RuntimeError::NotRunning { id: id.to_owned() }),
        }
    }
}
