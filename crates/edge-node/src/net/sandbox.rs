//! A pod's namespaces: made by a thread that lives for this alone, since a thread that has
//! left the board's network must never serve anything else, and pinned by bind mounts, so
//! that they outlive edged and every container of the pod.

use super::error::NetError;
use super::link::{Links, Route, mac_of};
use crate::seams::SandboxPaths;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use std::net::Ipv4Addr;
use std::path::Path;

/// What `statfs` says of a pinned namespace.
const NSFS: u64 = 0x6e73_6673;
/// The longest host name that Kubernetes sets.
const HOSTNAME_BYTES: usize = 63;
const PINS: [&str; 3] = ["net", "ipc", "uts"];
/// Mounts that may be stacked on one pin before we give up.
const STACKED: usize = 16;

/// The pins below a pod's directory.
pub(super) fn paths(directory: &Path, host_network: bool) -> SandboxPaths {
    let own = |name: &str| (!host_network).then(|| directory.join(name));
    SandboxPaths { net: own("net"), ipc: directory.join("ipc"), uts: own("uts") }
}

/// True when every namespace of the pod is still pinned.
pub(super) fn alive(paths: &SandboxPaths) -> bool {
    let pinned = |path: &Path| {
        statfs(path).is_ok_and(|found| found.filesystem_type().0 as u64 & 0xffff_ffff == NSFS)
    };
    let optional = |path: &Option<std::path::PathBuf>| path.as_deref().is_none_or(pinned);
    pinned(&paths.ipc) && optional(&paths.net) && optional(&paths.uts)
}

/// Moves the calling thread into new namespaces and pins them below `directory`. The thread
/// must end soon after.
pub(super) fn enter(directory: &Path, hostname: &str, host_network: bool) -> Result<(), NetError> {
    let mut flags = CloneFlags::CLONE_NEWIPC;
    if !host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    unshare(flags).map_err(NetError::kernel("make namespaces for the pod", hostname))?;
    for pin in PINS {
        if host_network && pin != "ipc" {
            continue;
        }
        let path = directory.join(pin);
        std::fs::write(&path, b"").map_err(NetError::file("create", &path))?;
        let source = Path::new("/proc/thread-self/ns").join(pin);
        mount(Some(&source), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(NetError::kernel("pin the namespace", path.display().to_string()))?;
    }
    if host_network {
        return Ok(());
    }
    let mut end = hostname.len().min(HOSTNAME_BYTES);
    while !hostname.is_char_boundary(end) {
        end -= 1;
    }
    let hostname = hostname[..end].trim_end_matches(['-', '.']);
    nix::unistd::sethostname(hostname).map_err(NetError::kernel("set the host name", hostname))
}

/// Removes the pins below a directory, as far as there are any.
pub(super) fn unpin(directory: &Path) -> Result<(), NetError> {
    for pin in PINS {
        let path = directory.join(pin);
        for _ in 0..STACKED {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => {
                    let object = path.display().to_string();
                    return Err(NetError::kernel("unpin the namespace", object)(errno));
                }
            }
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(NetError::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Settings of a pod's network namespace, for the thread that is in it. All traffic of the
/// pod goes through the board, also to neighbours, so a redirect would only mislead it.
pub(super) const POD_SETTINGS: [(&str, &str); 5] = [
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Addresses and routes within the pod, once its `eth0` is there. The pod's address stands
/// alone: everything else, its neighbours as well, is behind the gateway, where the
/// board's rules see it.
pub(super) fn address(links: &mut Links, ip: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), NetError> {
    let eth0 = links.find("eth0")?.ok_or_else(|| NetError::Kernel {
        operation: "find in the pod's namespace",
        object: "eth0".to_owned(),
        errno: Errno::ENODEV,
    })?;
    links.raise(eth0.index, None)?;
    links.add_address(eth0.index, ip, 32)?;
    let mut route =
        Route { to: gateway, length: 32, link: eth0.index, gateway: None, source: None };
    links.set_route(&route)?;
    // Never asked for on the wire, so that no neighbour can answer in the gateway's place.
    links.add_neighbour(eth0.index, gateway, mac_of(gateway))?;
    route.to = Ipv4Addr::UNSPECIFIED;
    route.length = 0;
    route.gateway = Some(gateway);
    links.set_route(&route)
}
