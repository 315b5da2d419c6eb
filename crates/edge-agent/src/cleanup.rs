//! `edged cleanup`: stops what runs on this board and takes away what edged made outside its
//! data directory: containers, namespaces, links, rules, mounts, cgroups.

use std::path::Path;

use edge_node::cleanup;

use crate::config::Config;
use crate::wire::{self, WireError, failed};

/// Removes everything of ours that lives in the kernel, and with `data` the data directory.
///
/// # Errors
/// Names what could not be removed; the rest has been tried all the same.
pub(crate) fn run(config: &Config, data: bool) -> Result<(), WireError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(failed("cleanup", "needs root: use sudo"));
    }
    let cleaned = wire::runtime()?.block_on(cleanup::board(&cleanup::CleanupConfig {
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        pod_cidr: wire::pod_cidr(&config.cluster_cidr),
        cluster_cidr: config.cluster_cidr.clone(),
        service_cidr: config.service_cidr.clone(),
        node_ip: config.node_ip,
    }));
    cleaned.map_err(|e| failed("cleanup", e))?;
    if data {
        remove(&config.data_dir)?;
    }
    remove(&config.run_dir)
}

fn remove(dir: &Path) -> Result<(), WireError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(&format!("remove {}", dir.display()), error))
        }
        _ => Ok(()),
    }
}
