//! Takes off a board what edged put on it outside its data directory: containers and their
//! shims, cgroups, pods' namespaces, links, rules, and mounts. Nothing else is touched.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::mounts;
use crate::net::{Net, NetConfig, NetError};
use crate::runtime::{Runtime, RuntimeConfig, RuntimeError};

/// What is mounted beneath these in the data directory is edged's.
const OF_PODS: [&str; 2] = ["pods", "containers"];

/// Which board to clean: what its agent ran with.
#[derive(Debug, Clone)]
pub struct CleanupConfig {
    /// As the agent's.
    pub data_dir: PathBuf,
    /// As the agent's.
    pub run_dir: PathBuf,
    /// As the agent's.
    pub cgroup_parent: String,
    /// As the agent's.
    pub pod_cidr: String,
    /// As the agent's.
    pub cluster_cidr: String,
    /// As the agent's.
    pub service_cidr: String,
    /// As the agent's.
    pub node_ip: IpAddr,
}

/// What could not be taken away.
#[derive(Debug)]
pub enum CleanupError {
    /// A container, a shim or a cgroup.
    Runtime(RuntimeError),
    /// A namespace, a link or a rule.
    Net(NetError),
    /// A mount.
    Mount {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl fmt::Display for CleanupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleanupError::Runtime(error) => error.fmt(f),
            CleanupError::Net(error) => error.fmt(f),
            CleanupError::Mount { path, source } => {
                write!(f, "unmount {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for CleanupError {}

/// Cleans the board. No agent may run on it.
///
/// # Errors
/// The first thing that could not be taken away; everything else has been tried as well.
pub async fn board(config: &CleanupConfig) -> Result<(), CleanupError> {
    let containers = containers(config).await;
    let network = network(config).await;
    let [pods, containers_data] = OF_PODS.map(|name| config.data_dir.join(name));
    let unmounted = unmount(&[&pods, &containers_data, &config.run_dir]);
    containers.map_err(CleanupError::Runtime)?;
    network.map_err(CleanupError::Net)?;
    unmounted
}

async fn containers(config: &CleanupConfig) -> Result<(), RuntimeError> {
    let (runtime, _exits) = Runtime::new(RuntimeConfig {
        run_dir: config.run_dir.clone(),
        data_dir: config.data_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        exe: None,
    })?;
    for container in runtime.list()? {
        runtime.kill(&container.id).await?;
        runtime.remove(&container.id).await?;
    }
    runtime.cleanup().await
}

async fn network(config: &CleanupConfig) -> Result<(), NetError> {
    let net = Net::open(NetConfig {
        run_dir: config.run_dir.clone(),
        data_dir: config.data_dir.clone(),
        pod_cidr: config.pod_cidr.clone(),
        cluster_cidr: config.cluster_cidr.clone(),
        service_cidr: config.service_cidr.clone(),
        node_ip: config.node_ip,
        encrypt_pods: false,
        wireguard_port: 0,
        without_nf_tables: false,
    })?;
    for uid in net.list_pods() {
        net.remove_pod(&uid).await?;
    }
    net.cleanup().await
}

/// Mount points beneath a directory, as their paths are from the root without links.
///
/// # Errors
/// When the directory can't be found, or the kernel's table can't be read.
pub fn mounts_beneath(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = mounts::table()?;
    Ok(beneath(&table, &[&dir.canonicalize()?]))
}

/// Mount points beneath the data directory that are not edged's.
///
/// # Errors
/// As of [`mounts_beneath`].
pub fn others_mounts(data_dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    Ok(others(&mounts::table()?, &data_dir.canonicalize()?))
}

/// Whether something is mounted on a directory, and not only above it.
pub fn is_mount_point(dir: &Path) -> bool {
    let (Ok(table), Ok(dir)) = (mounts::table(), dir.canonicalize()) else { return false };
    mounts::parse(&table).any(|mount| mount.point == dir)
}

fn others(mountinfo: &str, data_dir: &Path) -> Vec<PathBuf> {
    let ours = OF_PODS.map(|name| data_dir.join(name));
    let of_pods = |point: &PathBuf| ours.iter().any(|dir| point.starts_with(dir));
    let all = beneath(mountinfo, &[data_dir]).into_iter();
    all.filter(|point| !of_pods(point)).collect()
}

/// Unmounts all that is mounted beneath the directories, the innermost first.
fn unmount(dirs: &[&Path]) -> Result<(), CleanupError> {
    let table = mounts::table().unwrap_or_default();
    let mut result = Ok(());
    for path in beneath(&table, dirs).into_iter().rev() {
        let flags = nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW;
        if let Err(error) = nix::mount::umount2(&path, flags) {
            result = result.and(Err(CleanupError::Mount { path, source: error.into() }));
        }
    }
    result
}

/// Mount points beneath `dirs`, in the order in which they were mounted. Never one of `dirs`
/// itself: that is a disk or a tmpfs of the board's owner.
fn beneath(mountinfo: &str, dirs: &[&Path]) -> Vec<PathBuf> {
    let points = mounts::parse(mountinfo).map(|mount| mount.point);
    let inside = |point: &Path| dirs.iter().any(|dir| point != *dir && point.starts_with(dir));
    points.filter(|point| inside(point)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beneath_our_directories_is_ours() {
        let table = "22 1 0:20 / / rw - ext4 x rw\n\
                     29 22 0:9 / /run/edged rw - tmpfs t rw\n\
                     30 22 0:3 / /run/edged/pods/u/net rw - nsfs nsfs rw\n\
                     31 22 0:3 / /run/edged2 rw - tmpfs t rw\n\
                     32 22 0:3 / /run/edged/a\\040b rw - tmpfs t rw\n";
        let found = beneath(table, &[Path::new("/run/edged")]);
        assert_eq!(found, [Path::new("/run/edged/pods/u/net"), Path::new("/run/edged/a b")]);
        let theirs = others(table, Path::new("/run/edged"));
        assert_eq!(theirs, [Path::new("/run/edged/a b")], "edged's own are not");
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(Path::new("/proc/self")));
    }
}
