//! Moving a process between cgroups waits until every CPU has passed a quiet moment (some 20 ms),
//! unless somebody did just that a moment before. A start moves the container's process at about
//! its middle; so the wait is begun at its beginning, beside everything else that it does.

use std::fs;
use std::path::{Path, PathBuf};

use super::Layout;

/// Begins the wait, by moving this process to where it is; returns when it is over.
pub(in crate::runtime) fn hurry(layout: &Layout) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if let Some(dir) = own_dir(layout, &own) {
        // A group that this process may not write to is no harm: the start just takes longer.
        let _ = fs::write(dir.join("cgroup.procs"), std::process::id().to_string());
    }
}

/// The directory of this process's own group, in any one of the trees.
fn own_dir(layout: &Layout, own: &str) -> Option<PathBuf> {
    let controller = match layout {
        Layout::V1(all) => all.first()?.controllers.first()?.as_str(),
        Layout::V2 { .. } => "",
    };
    let mut lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (_, path) = lines.find(|(names, _)| names.split(',').any(|n| n == controller))?;
    // A path that leads out of the root of a cgroup namespace cannot be found from here.
    let dir = (!path.contains("..")).then(|| layout.dir(controller, Path::new(path)))??;
    dir.is_dir().then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_where_this_process_is() {
        let layout = Layout::detect().unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        if let Some(dir) = own_dir(&layout, &own) {
            let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
            assert!(listed.lines().any(|l| l == std::process::id().to_string()), "{dir:?}");
        }
        let outside = "0::/../other\n1:cpu:/../other\n";
        assert_eq!(own_dir(&layout, outside), None);
        hurry(&layout);
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), own, "nothing has moved");
    }
}
