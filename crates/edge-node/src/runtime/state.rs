//! A container's states: the watch for its end, and taking it away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::wait::{WaitPidFlag, waitpid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cgroup;
use super::error::RuntimeError;
use super::files::{self, Home, UNKNOWN};
use super::spawn::Child;
use super::{Entry, Runtime};
use crate::seams::{ContainerRecord, ContainerState, Exit};

/// How long a killed container's shim may take to write the rest of the log and the end.
const SHIM_END: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// How often to look at a shim that the kernel can't tell of, for want of descriptors.
const LOOK: Duration = Duration::from_secs(1);

impl Runtime {
    /// Waits for the end of a container's shim on a task of its own, and tells of it.
    pub(super) fn watch(&self, id: String, child: Child) {
        let runtime = self.clone();
        tokio::spawn(async move {
            let Child { pid, pidfd } = child;
            // SAFETY: the descriptor is owned, and stays as it is until the AsyncFd is dropped.
            match unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) } {
                Ok(fd) => drop(fd.readable().await.map(drop)),
                Err(e) => {
                    tracing::warn!(id, "watch a container: {e}; looking every second instead");
                    while shim_lives(&runtime.home(&id)) {
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
            // A shim of an earlier process is not our child: then there is nothing to reap.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            // Nobody listens any more: another Runtime has these containers now, and their files.
            if runtime.inner.exits.is_closed() {
                return;
            }
            let (ended, name) = (runtime.clone(), id.clone());
            let exit = super::start::blocking(move || ended.end_of(&name)).await;
            match exit {
                Ok(Some(exit)) => drop(runtime.inner.exits.send(exit).await),
                Ok(None) => {}
                Err(e) => tracing::error!(id, "record a container's end: {e}"),
            }
        });
    }

    /// The end of a container whose shim has gone. A shim that was killed recorded none: then its
    /// container cannot be kept, having lost its streams, and its end is unknown.
    pub(super) fn end_of(&self, id: &str) -> Result<Option<Exit>, RuntimeError> {
        let _one = self.inner.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Ok(entry) = self.entry(id) else { return Ok(None) };
        if let Some(ContainerState::Exited(exit)) = entry.record.as_ref().map(|r| &r.state) {
            return Ok(Some(exit.clone()));
        }
        let home = self.home(id);
        let exit = match home.read_exit(id) {
            Some(exit) => exit,
            None if entry.record.is_none() => return Ok(None),
            None => {
                cgroup::kill_all(&self.inner.layout, &entry.cgroup)?;
                let exit = unknown_end(id, &home, files::now_ms());
                if let Err(e) = home.write_exit(&exit) {
                    tracing::warn!(id, "{e}; the end is known until the next restart only");
                }
                exit
            }
        };
        if let Some(record) = self.containers().get_mut(id).and_then(|e| e.record.as_mut()) {
            record.state = ContainerState::Exited(exit.clone());
        }
        Ok(Some(exit))
    }

    /// Leaves no note of a container's end on the disk: it was the board's, which goes off, and the
    /// next boot is to take it for that.
    ///
    /// # Errors
    /// Names the file that can't be removed.
    pub fn forget_end(&self, id: &str) -> Result<(), RuntimeError> {
        let path = self.home(id).exit();
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::io("remove", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// Notes a container's state in memory.
    pub(super) fn put(&self, record: ContainerRecord) {
        if let Some(entry) = self.containers().get_mut(&record.id) {
            entry.record = Some(record);
        }
    }

    /// [`Runtime::remove`], blocking.
    pub(super) fn remove_now(&self, id: &str, entry: &Entry) -> Result<(), RuntimeError> {
        let home = self.home(id);
        let inner = &self.inner;
        cgroup::kill_all(&inner.layout, &entry.cgroup)?;
        wait_for_shim(&home);
        // Whoever else sees the end from now on finds it noted, and looks for no file.
        self.end_of(id)?;
        // The helper of a failed start may have made a process since.
        cgroup::kill_all(&inner.layout, &entry.cgroup)?;
        cgroup::remove(&inner.layout, &entry.cgroup)?;
        home.delete()?;
        let mut containers = self.containers();
        containers.remove(id);
        self.drop_shm(&containers, &entry.pod_uid)
    }

    /// Unmounts a pod's shared memory when no container of the pod is left.
    pub(super) fn drop_shm(
        &self,
        containers: &BTreeMap<String, Entry>,
        pod: &str,
    ) -> Result<(), RuntimeError> {
        let dir = self.inner.run_dir.join("shm").join(pod);
        if pod.is_empty() || containers.values().any(|e| e.pod_uid == pod) || !dir.exists() {
            return Ok(());
        }
        let _ = umount2(&dir, MntFlags::MNT_DETACH);
        fs::remove_dir(&dir).map_err(|e| RuntimeError::io("remove", &dir, e))
    }
}

/// The end of a container that nobody saw.
pub(super) fn unknown_end(id: &str, home: &Home, finished_at_ms: i64) -> Exit {
    let created = || home.read_record().map_or(0, |r| r.created_ms);
    let started_at_ms = home.read_init().map_or_else(created, |i| i.started_ms);
    Exit {
        id: id.to_owned(),
        code: UNKNOWN,
        signal: None,
        started_at_ms,
        finished_at_ms: finished_at_ms.max(started_at_ms),
        oom_killed: false,
    }
}

/// True while a container's shim lives.
pub(super) fn shim_lives(home: &Home) -> bool {
    let Ok(file) = fs::OpenOptions::new().write(true).open(home.lock()) else { return false };
    // SAFETY: no memory is passed. A lock that is got is let go with the file.
    let held = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0;
    held && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Waits until the shim has written all it knows; one that hangs is killed.
fn wait_for_shim(home: &Home) {
    let since = Instant::now();
    while shim_lives(home) && since.elapsed() < SHIM_END {
        std::thread::sleep(PAUSE);
    }
    if shim_lives(home)
        && let Some(pid) = home.read_shim()
    {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}
