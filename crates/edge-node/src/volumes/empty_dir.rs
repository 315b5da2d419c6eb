//! `emptyDir`: a directory on the board's disk, or a tmpfs of a bounded size.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use edge_api::k8s::api::core::v1::EmptyDirVolumeSource;
use edge_api::quantity::Quantity;

use super::{make_dir, mount_tmpfs};

/// Without a size limit a memory volume may fill this part of the board's memory.
const DEFAULT_PART_OF_MEMORY: u64 = 2;

pub(super) fn set_up(
    source: &EmptyDirVolumeSource,
    dir: &Path,
    group: Option<u32>,
) -> Result<(), String> {
    let fresh = !dir.exists();
    if fresh {
        make_dir(dir, 0o777).map_err(|e| format!("create {}: {e}", dir.display()))?;
    }
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            let size = limit(source)?;
            mount_tmpfs(dir, size).map_err(|e| format!("mount tmpfs at {}: {e}", dir.display()))?;
        }
        other => {
            return Err(format!(
                "emptyDir medium \"{other}\" is not supported on this board; use \"\" or \"Memory\""
            ));
        }
    }
    if let Some(group) = group.filter(|_| fresh) {
        chown(dir, None, Some(group))
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o2777)))
            .map_err(|e| format!("give {} to group {group}: {e}", dir.display()))?;
    }
    Ok(())
}

fn limit(source: &EmptyDirVolumeSource) -> Result<Option<u64>, String> {
    if let Some(limit) = &source.size_limit {
        let bytes = Quantity::parse(&limit.0).map_err(|e| format!("sizeLimit: {e}"))?.value();
        if bytes > 0 {
            return Ok(u64::try_from(bytes).ok());
        }
    }
    let info = nix::sys::sysinfo::sysinfo().ok();
    Ok(info.map(|info| info.ram_total() / DEFAULT_PART_OF_MEMORY))
}
