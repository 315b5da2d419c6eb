//! Makes a container's group and writes its limits, in the words of either version.

use std::fs;
use std::path::Path;

use super::Layout;
use crate::runtime::error::RuntimeError;
use crate::seams::Limits;

/// The period in which a CPU limit is measured out, in microseconds, as the kubelet has it.
const PERIOD: u64 = 100_000;
/// Least quota that the kernel takes.
const LEAST_QUOTA: u64 = 1_000;
/// Least shares that the kernel takes, which stand for no request.
const LEAST_SHARES: u64 = 2;

/// What Raspberry Pi OS needs for a memory cgroup, where limits cannot be set without.
pub(crate) const NO_MEMORY: &str = "this board's kernel runs without the memory cgroup, so memory \
    limits cannot be set; add \"cgroup_enable=memory cgroup_memory=1\" to the line in \
    /boot/firmware/cmdline.txt (/boot/cmdline.txt on older systems) and reboot";

/// Makes the group `path` and sets its limits. Doing it again changes nothing.
pub(in crate::runtime) fn create(
    layout: &Layout,
    path: &Path,
    limits: &Limits,
) -> Result<(), RuntimeError> {
    for dir in layout.dirs(path) {
        fs::create_dir_all(&dir).map_err(|e| RuntimeError::io("make cgroup", &dir, e))?;
    }
    match layout {
        Layout::V1(_) => set_v1(layout, path, limits),
        Layout::V2 { .. } => set_v2(layout, path, limits),
    }
}

fn set_v1(layout: &Layout, path: &Path, limits: &Limits) -> Result<(), RuntimeError> {
    if let Some(bytes) = limits.memory_bytes {
        let dir = require(layout, "memory", path)?;
        write(&dir, "memory.limit_in_bytes", bytes)?;
        // Memory and swap together may be as much as memory alone: a container does not swap.
        write_if_there(&dir, "memory.memsw.limit_in_bytes", bytes)?;
    }
    if let Some(dir) = layout.dir("cpu", path) {
        write(&dir, "cpu.shares", shares(limits.cpu_request_milli))?;
    }
    if let Some(milli) = limits.cpu_limit_milli {
        let dir = require(layout, "cpu", path)?;
        write(&dir, "cpu.cfs_period_us", PERIOD)?;
        write(&dir, "cpu.cfs_quota_us", quota(milli))?;
    }
    if let Some(most) = limits.pids {
        write(&require(layout, "pids", path)?, "pids.max", most)?;
    }
    Ok(())
}

fn set_v2(layout: &Layout, path: &Path, limits: &Limits) -> Result<(), RuntimeError> {
    if let Some(bytes) = limits.memory_bytes {
        let dir = require(layout, "memory", path)?;
        write(&dir, "memory.max", bytes)?;
        write_if_there(&dir, "memory.swap.max", 0)?;
        // The kubelet's default since 1.28: a container is killed whole or not at all.
        write_if_there(&dir, "memory.oom.group", 1)?;
    }
    if let Some(dir) = layout.has("cpu").then(|| layout.dir("cpu", path)).flatten() {
        write(&dir, "cpu.weight", weight(shares(limits.cpu_request_milli)))?;
    }
    if let Some(milli) = limits.cpu_limit_milli {
        let text = format!("{} {PERIOD}", quota(milli));
        write(&require(layout, "cpu", path)?, "cpu.max", text)?;
    }
    if let Some(most) = limits.pids {
        write(&require(layout, "pids", path)?, "pids.max", most)?;
    }
    Ok(())
}

fn require(
    layout: &Layout,
    controller: &str,
    path: &Path,
) -> Result<std::path::PathBuf, RuntimeError> {
    match layout.dir(controller, path) {
        Some(dir) if layout.has(controller) => Ok(dir),
        _ if controller == "memory" => Err(RuntimeError::Board { message: NO_MEMORY.into() }),
        _ => Err(RuntimeError::Board {
            message: format!(
                "this board's kernel offers no {controller} cgroup, so {controller} limits cannot \
                 be set; enable it, or take the limit out of the pod"
            ),
        }),
    }
}

fn write(dir: &Path, file: &str, value: impl ToString) -> Result<(), RuntimeError> {
    let path = dir.join(file);
    fs::write(&path, value.to_string()).map_err(|e| RuntimeError::io("set", &path, e))
}

fn write_if_there(dir: &Path, file: &str, value: u64) -> Result<(), RuntimeError> {
    if dir.join(file).exists() { write(dir, file, value) } else { Ok(()) }
}

fn shares(milli: u64) -> u64 {
    (milli * 1_024 / 1_000).clamp(LEAST_SHARES, 262_144)
}

/// The kubelet's mapping of 2…262144 shares to a weight of 1…10000.
fn weight(shares: u64) -> u64 {
    1 + (shares - LEAST_SHARES) * 9_999 / 262_142
}

fn quota(milli: u64) -> u64 {
    (milli * PERIOD / 1_000).max(LEAST_QUOTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_limits_map_as_the_kubelet_maps_them() {
        assert_eq!([0, 1, 100, 1_000].map(shares), [2, 2, 102, 1_024]);
        assert_eq!([2, 102, 1_024, 262_144].map(weight), [1, 4, 39, 10_000]);
        assert_eq!([1, 250, 2_000].map(quota), [1_000, 25_000, 200_000]);
    }

    #[test]
    fn a_memory_limit_without_the_memory_cgroup_says_how_to_enable_it() {
        let layout = Layout::V2 { mount: "/sys/fs/cgroup".into(), controllers: vec![] };
        let limits = Limits { memory_bytes: Some(1), ..Limits::default() };
        let error = set_v2(&layout, Path::new("/none"), &limits).unwrap_err();
        assert!(error.to_string().contains("cgroup_enable=memory"), "{error}");
    }
}
