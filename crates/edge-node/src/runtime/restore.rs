//! What a new process finds of an earlier one: containers that run on under their shims, ones
//! that have ended, ones that went down with the board, and remains of unfinished starts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::error::RuntimeError;
use super::files::{self, Home, Record};
use super::spawn::{Child, open_pidfd};
use super::state::{shim_lives, unknown_end};
use super::{Entry, Runtime};
use crate::seams::{ContainerRecord, ContainerState};

/// How long a start that was under way may take to come to its end.
const SETTLE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

impl Runtime {
    /// Takes up every container in the data directory.
    pub(super) fn restore(&self) -> Result<(), RuntimeError> {
        let data = self.inner.data_dir.join("containers");
        let run = self.inner.run_dir.join("containers");
        let ids: BTreeSet<String> = names(&data).chain(names(&run)).collect();
        for id in ids {
            self.restore_one(&id)?;
        }
        for pod in names(&self.inner.run_dir.join("shm")) {
            self.drop_shm(&self.containers(), &pod)?;
        }
        Ok(())
    }

    fn restore_one(&self, id: &str) -> Result<(), RuntimeError> {
        let home = self.home(id);
        let record = home.read_record();
        let cgroup = record.as_ref().map_or_else(|| self.inner.pods.join(id), |r| r.cgroup.clone());
        let pod_uid = record.as_ref().map(|r| r.pod_uid.clone()).unwrap_or_default();
        let entry = Entry { record: None, pod_uid, cgroup };
        self.containers().insert(id.to_owned(), entry.clone());
        settle(&home);
        let Some(record) = record else { return self.remove_now(id, &entry) };
        if let Some(exit) = home.read_exit(id) {
            self.put(container(&record, ContainerState::Exited(exit)));
            return Ok(());
        }
        if record.boot_id != self.inner.boot_id {
            let exit = unknown_end(id, &home, files::boot_ms());
            home.write_exit(&exit)?;
            let _ = fs::remove_dir_all(&home.run);
            self.put(container(&record, ContainerState::Exited(exit)));
            return Ok(());
        }
        let Some(init) = home.read_init() else { return self.remove_now(id, &entry) };
        let state = ContainerState::Running { pid: init.pid, started_at_ms: init.started_ms };
        self.put(container(&record, state));
        match shim(&home) {
            Some(child) => self.watch(id.to_owned(), child),
            // It ended between two looks, or was killed: then the container is ended here.
            None => drop(self.end_of(id)?),
        }
        Ok(())
    }
}

/// Waits for a start that the earlier process did not live to see the end of.
fn settle(home: &Home) {
    let since = Instant::now();
    while shim_lives(home) && !home.init().exists() && since.elapsed() < SETTLE {
        std::thread::sleep(PAUSE);
    }
}

/// The live shim of a container.
fn shim(home: &Home) -> Option<Child> {
    let pid = home.read_shim()?;
    let pidfd = open_pidfd(pid).ok()?;
    // Only if the shim lives still, the descriptor stands for it and not for a successor.
    shim_lives(home).then(|| Child { pid: Pid::from_raw(pid), pidfd })
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| e.file_name().into_string().ok())
}

fn container(record: &Record, state: ContainerState) -> ContainerRecord {
    ContainerRecord {
        id: record.id.clone(),
        pod_uid: record.pod_uid.clone(),
        name: record.name.clone(),
        attempt: record.attempt,
        spec_hash: record.spec_hash.clone(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        state,
    }
}
