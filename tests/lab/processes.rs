//! What a board is made of in the machine: processes, mounts and cgroups, found from outside,
//! so that a board can lose its power at once and nothing of it is left at the end.

use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the kernel may take to end killed processes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to recognise what belongs to a board.
pub(crate) struct Marks {
    /// Its directory, which stands in the arguments of its `edged` and shims.
    pub(crate) dir: PathBuf,
    /// The name of its cgroup.
    pub(crate) cgroup: String,
    /// Its network namespace, where that exists.
    pub(crate) namespace: Option<String>,
}

impl Marks {
    /// All its processes, those that make others first: `edged`, shims, then what runs in pods.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let net = self.namespace.as_ref().and_then(|path| std::fs::metadata(path).ok());
        let net = net.map(|meta| (meta.st_dev(), meta.st_ino()));
        let dir = format!("{}/", self.dir.display());
        let group = format!("/{}", self.cgroup);
        let mut found: Vec<(u8, i32)> = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let path = entry.path();
            let text = |part: &str| {
                let bytes = std::fs::read(path.join(part)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let arguments = text("cmdline");
            let rank = if pid == i32::try_from(std::process::id()).unwrap_or(0) || is_dead(&path) {
                continue;
            } else if arguments.contains(&dir) {
                u8::from(arguments.contains(" shim "))
            } else if text("cgroup").lines().any(|line| in_group(line, &group)) {
                2
            } else {
                // The thread that asks may itself stand in the namespace; it was passed above.
                let here = std::fs::metadata(path.join("ns/net")).ok();
                let here = here.map(|meta| (meta.st_dev(), meta.st_ino()));
                if net.is_none() || here != net {
                    continue;
                }
                0
            };
            found.push((rank, pid));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, pid)| Pid::from_raw(pid)).collect()
    }

    /// Kills all its processes and waits until none is left.
    pub(crate) fn kill(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{left:?} of {} do not die", self.dir.display());
            for pid in left {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Mount points beneath its directory, the innermost first.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut points: Vec<PathBuf> = points.filter(|p| p.starts_with(&self.dir)).collect();
        points.reverse();
        points
    }

    /// Takes its mounts away.
    pub(crate) fn unmount(&self) {
        for point in self.mounts() {
            let _ = umount2(&point, MntFlags::MNT_DETACH);
        }
    }

    /// Its cgroups, in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
        let tops = hierarchies.map(|entry| entry.path()).chain([root.to_path_buf()]);
        tops.map(|top| top.join(&self.cgroup)).filter(|path| path.is_dir()).collect()
    }

    /// Removes its cgroups, which have to be without processes.
    pub(crate) fn remove_cgroups(&self) {
        for top in self.cgroups() {
            let end = Instant::now() + PATIENCE;
            // A cgroup is busy until the kernel has buried its last process.
            while !remove_tree(&top) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// What is left of it in the kernel, in words; nothing after a clean teardown.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(self.processes().iter().map(|pid| format!("process {pid}")));
        left.extend(self.mounts().iter().map(|path| format!("mount {}", path.display())));
        left.extend(self.cgroups().iter().map(|path| format!("cgroup {}", path.display())));
        left
    }
}

fn in_group(line: &str, group: &str) -> bool {
    let path = line.splitn(3, ':').nth(2).unwrap_or_default();
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A process that has ended and waits for its parent to look.
fn is_dead(path: &Path) -> bool {
    let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn remove_tree(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return true };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path());
    }
    std::fs::remove_dir(path).is_ok() || !path.exists()
}
