//! The board's cgroups as they are mounted: version 1, hybrid (version 1 with an empty version 2
//! tree beside it) or version 2, and where a container's own group lies in them.

mod device;
mod hurry;
mod life;
mod limits;

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use super::error::RuntimeError;

pub(super) use device::restrict_devices;
pub(super) use hurry::hurry;
pub(super) use life::{kill_all, remove, stats};
pub(super) use limits::{NO_MEMORY, create};

/// Where systems mount their cgroups, and libcontainer looks for them.
const ROOT: &str = "/sys/fs/cgroup";
/// The controllers of version 1 that libcontainer puts a container into.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "pids",
    "perf_event",
    "blkio",
    "freezer",
];
/// Of those, the ones that programs in a container read.
const SHOWN: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio"];

/// One mounted tree of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    pub(super) controllers: Vec<String>,
}

/// How this board's cgroups are laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Layout {
    /// Version 1, a tree for each controller or group of them; hybrid counts as this.
    V1(Vec<Hierarchy>),
    /// Version 2, one tree.
    V2 {
        /// Where it is mounted.
        mount: PathBuf,
        /// What its root offers.
        controllers: Vec<String>,
    },
}

impl Layout {
    /// Looks at what is mounted.
    pub(super) fn detect() -> Result<Layout, RuntimeError> {
        let root = Path::new(ROOT);
        let kind = statfs(root).map_err(|e| RuntimeError::io("look at cgroups in", root, e))?;
        if kind.filesystem_type() == CGROUP2_SUPER_MAGIC {
            let path = root.join("cgroup.controllers");
            let text = fs::read_to_string(&path).map_err(|e| RuntimeError::io("read", &path, e))?;
            let controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
            return Ok(Layout::V2 { mount: root.into(), controllers });
        }
        let path = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(path).map_err(|e| RuntimeError::io("read", path, e))?;
        let hierarchies = parse_hierarchies(&mounts);
        if hierarchies.is_empty() {
            let message = format!(
                "no cgroups are mounted in {ROOT}: mount the cgroup2 file system there, or let \
                 systemd do it"
            );
            return Err(RuntimeError::Board { message });
        }
        Ok(Layout::V1(hierarchies))
    }

    /// True when limits of this kind can be set.
    pub(super) fn has(&self, controller: &str) -> bool {
        match self {
            Layout::V1(all) => all.iter().any(|h| h.controllers.iter().any(|c| c == controller)),
            Layout::V2 { controllers, .. } => controllers.iter().any(|c| c == controller),
        }
    }

    /// The directory of group `path` in the tree of this controller.
    pub(super) fn dir(&self, controller: &str, path: &Path) -> Option<PathBuf> {
        let inner = path.strip_prefix("/").unwrap_or(path);
        match self {
            Layout::V1(all) => all
                .iter()
                .find(|h| h.controllers.iter().any(|c| c == controller))
                .map(|h| h.mount.join(inner)),
            Layout::V2 { mount, .. } => Some(mount.join(inner)),
        }
    }

    /// The directory of group `path` in every tree.
    pub(super) fn dirs(&self, path: &Path) -> Vec<PathBuf> {
        let inner = path.strip_prefix("/").unwrap_or(path);
        match self {
            Layout::V1(all) => all.iter().map(|h| h.mount.join(inner)).collect(),
            Layout::V2 { mount, .. } => vec![mount.join(inner)],
        }
    }

    /// The directory of group `path` whose list of processes is the one to go by.
    pub(super) fn process_dir(&self, path: &Path) -> PathBuf {
        ["freezer", "pids", "memory", "cpu"]
            .iter()
            .find_map(|c| self.dir(c, path))
            .or_else(|| self.dirs(path).into_iter().next())
            .unwrap_or_default()
    }

    /// The file that counts kills for want of memory in group `path`.
    pub(super) fn oom_file(&self, path: &Path) -> Option<PathBuf> {
        let file = match self {
            Layout::V1(_) => "memory.oom_control",
            Layout::V2 { .. } => "memory.events",
        };
        self.has("memory").then(|| self.dir("memory", path))?.map(|d| d.join(file))
    }

    /// Makes the groups that containers' groups are made in, with all controllers on.
    pub(super) fn prepare(&self, groups: &[PathBuf]) -> Result<(), RuntimeError> {
        for group in groups {
            for dir in self.dirs(group) {
                fs::create_dir_all(&dir).map_err(|e| RuntimeError::io("make cgroup", &dir, e))?;
            }
            if let Layout::V2 { mount, controllers } = self {
                enable(mount, group, controllers);
            }
        }
        Ok(())
    }

    /// The container's view of version 1: `(name below /sys/fs/cgroup, directory)`. Empty for
    /// version 2, where the file system itself is mounted.
    pub(super) fn shown(&self, path: &Path) -> Vec<(String, PathBuf)> {
        let Layout::V1(all) = self else { return Vec::new() };
        let inner = path.strip_prefix("/").unwrap_or(path);
        let mut shown = Vec::new();
        for h in all.iter().filter(|h| h.controllers.iter().any(|c| SHOWN.contains(&&**c))) {
            let name = h.mount.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for controller in h.controllers.iter().filter(|c| **c != name) {
                shown.push((controller.clone(), h.mount.join(inner)));
            }
            shown.push((name, h.mount.join(inner)));
        }
        shown
    }
}

/// Hands every controller down to the children of each group from the root to `group`. Those
/// that cannot be enabled are reported when a limit needs them.
fn enable(mount: &Path, group: &Path, controllers: &[String]) {
    let mut dir = mount.to_path_buf();
    let inner = group.strip_prefix("/").unwrap_or(group);
    for part in std::iter::once(Path::new("")).chain(inner.iter().map(Path::new)) {
        dir.push(part);
        for controller in controllers {
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// The trees of version 1 in `/proc/self/mountinfo`, each controller once.
fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut after = after.split(' ');
        if after.next() != Some("cgroup") {
            continue;
        }
        let (Some(mount), Some(options)) = (before.split(' ').nth(4), after.nth(1)) else {
            continue;
        };
        let controllers: Vec<String> = options
            .split(',')
            .filter(|o| CONTROLLERS.contains(o))
            .filter(|o| !found.iter().any(|h| h.controllers.iter().any(|c| c == o)))
            .map(str::to_owned)
            .collect();
        if !controllers.is_empty() {
            found.push(Hierarchy { mount: mount.into(), controllers });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw shared:11 master:2 - cgroup cgroup rw,memory
35 30 0:30 / /mnt/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn the_trees_of_a_hybrid_board_are_found_once_each() {
        let layout = Layout::V1(parse_hierarchies(HYBRID));
        let group = Path::new("/edged/pods/a");
        let dirs = layout.dirs(group);
        assert_eq!(
            dirs,
            ["/sys/fs/cgroup/cpu,cpuacct/edged/pods/a", "/sys/fs/cgroup/memory/edged/pods/a"]
                .map(PathBuf::from)
        );
        assert!(layout.has("memory") && layout.has("cpu") && !layout.has("pids"));
        assert_eq!(
            layout.oom_file(group),
            Some("/sys/fs/cgroup/memory/edged/pods/a/memory.oom_control".into())
        );
        let names: Vec<String> = layout.shown(group).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["cpu", "cpuacct", "cpu,cpuacct", "memory"]);
    }

    #[test]
    fn version_2_has_one_directory_and_says_what_it_lacks() {
        let layout = Layout::V2 { mount: "/sys/fs/cgroup".into(), controllers: vec!["cpu".into()] };
        assert_eq!(layout.process_dir(Path::new("/e/a")), Path::new("/sys/fs/cgroup/e/a"));
        assert_eq!(layout.oom_file(Path::new("/e/a")), None);
        assert!(layout.shown(Path::new("/e/a")).is_empty());
    }
}
