//! A group after its making: what it uses, killing all in it, and taking it away.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Layout;
use crate::runtime::Stats;
use crate::runtime::error::RuntimeError;

/// Rounds of killing before it is called a failure, and the pause between them.
const KILL_ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);
/// Rounds after which the group is frozen, so that it cannot fork faster than it is killed.
const PATIENCE: u32 = 5;
/// Tries to take away a group that the kernel calls busy while its last process goes.
const REMOVE_ROUNDS: u32 = 100;

/// Kills every process of group `path`, and returns when none is left.
pub(in crate::runtime) fn kill_all(layout: &Layout, path: &Path) -> Result<(), RuntimeError> {
    let dir = layout.process_dir(path);
    let _ = fs::write(dir.join("cgroup.kill"), b"1");
    let freezer = match layout {
        Layout::V1(_) => layout.dir("freezer", path).map(|d| d.join("freezer.state")),
        Layout::V2 { .. } => None,
    };
    for round in 0..KILL_ROUNDS {
        let frozen = round >= PATIENCE && freezer.is_some();
        if let Some(state) = freezer.as_ref().filter(|_| frozen) {
            let _ = fs::write(state, b"FROZEN");
        }
        let any = kill_below(&dir);
        if let Some(state) = freezer.as_ref().filter(|_| frozen) {
            let _ = fs::write(state, b"THAWED");
        }
        if !any {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let left = std::io::Error::from_raw_os_error(libc::EBUSY);
    Err(RuntimeError::io("kill all processes of cgroup", &dir, left))
}

/// Sends SIGKILL to all of the group and the groups in it; false when there are none.
fn kill_below(dir: &Path) -> bool {
    let mut any = false;
    for child in subgroups(dir) {
        any |= kill_below(&child);
    }
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in list.lines().filter_map(|l| l.parse::<i32>().ok()) {
        any = true;
        // A pid of 0 is a process that our pid namespace does not show; to signal it would be
        // to signal ourselves.
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    any
}

fn subgroups(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Takes group `path` away from every tree; no error when it is gone already.
pub(in crate::runtime) fn remove(layout: &Layout, path: &Path) -> Result<(), RuntimeError> {
    for dir in layout.dirs(path) {
        remove_below(&dir).map_err(|e| RuntimeError::io("remove cgroup", &dir, e))?;
    }
    Ok(())
}

fn remove_below(dir: &Path) -> std::io::Result<()> {
    for child in subgroups(dir) {
        remove_below(&child)?;
    }
    for _ in 0..REMOVE_ROUNDS {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(PAUSE),
            Err(e) => return Err(e),
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::EBUSY))
}

/// What group `path` uses now: its working set and its CPU time so far.
pub(in crate::runtime) fn stats(layout: &Layout, path: &Path) -> Option<Stats> {
    let (usage, inactive) = match layout {
        Layout::V1(_) => ("memory.usage_in_bytes", "total_inactive_file "),
        Layout::V2 { .. } => ("memory.current", "inactive_file "),
    };
    let memory = layout.dir("memory", path).and_then(|dir| {
        let used = number(&fs::read_to_string(dir.join(usage)).ok()?)?;
        let stat = fs::read_to_string(dir.join("memory.stat")).ok()?;
        Some(used.saturating_sub(field(&stat, inactive).unwrap_or(0)))
    });
    let cpu = match layout {
        Layout::V1(_) => layout
            .dir("cpuacct", path)
            .and_then(|dir| number(&fs::read_to_string(dir.join("cpuacct.usage")).ok()?)),
        Layout::V2 { .. } => layout.dir("cpu", path).and_then(|dir| {
            let stat = fs::read_to_string(dir.join("cpu.stat")).ok()?;
            Some(field(&stat, "usage_usec ")? * 1_000)
        }),
    };
    if memory.is_none() && cpu.is_none() {
        return None;
    }
    Some(Stats { memory_bytes: memory.unwrap_or(0), cpu_nanos: cpu.unwrap_or(0) })
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)).and_then(number)
}
