//! What a board is called and where it is reached, when nobody said.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// How often the board's address is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Any address that is not ours: connecting a datagram socket sends nothing, it only asks the
/// routing table which of our addresses would be used (RFC 5737, TEST-NET-1).
const ELSEWHERE: &str = "192.0.2.1:9";

/// The machine's hostname in lower case, as Kubernetes wants a node's name.
///
/// # Errors
/// When the kernel does not say, or has none.
pub(crate) fn hostname() -> io::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = name.trim().to_lowercase();
    if name.is_empty() || name == "(none)" {
        return Err(io::Error::other("the board has no hostname; give one with --name"));
    }
    Ok(name)
}

/// Where the name of a board that founded a cluster is kept, in its data directory: who joined has
/// it among what the join gave.
const NAME: &str = "name";

/// The name that the founder with this data directory had when it was last started.
pub(crate) fn remembered(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join(NAME)).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Keeps a founder's name: its pods, addresses and certificates hang on it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn remember(data_dir: &Path, name: &str) -> io::Result<()> {
    if remembered(data_dir).as_deref() == Some(name) {
        return Ok(());
    }
    let path = data_dir.join(NAME);
    let failed = |e: io::Error| io::Error::new(e.kind(), format!("write {}: {e}", path.display()));
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    edge_server::pki::write_atomically(&path, format!("{name}\n").as_bytes(), 0o644).map_err(failed)
}

/// The address of the interface with the default route; without a route, any address that is
/// not loopback; without one, loopback: a board with no network is still a cluster of one.
///
/// # Errors
/// When no datagram socket can be made at all.
pub(crate) fn node_ip() -> io::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    if socket.connect(ELSEWHERE).is_ok() {
        return Ok(socket.local_addr()?.ip());
    }
    Ok(first_interface_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// Waits until the board has another address than `ip`, and that for two looks; forever when the
/// address was chosen by somebody. A board that has lost its address waits for the next.
pub(crate) async fn moved(ip: IpAddr, fixed: bool) -> IpAddr {
    let mut before = ip;
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(now) = node_ip() else { continue };
        if !fixed && now != ip && now == before && !now.is_loopback() {
            return now;
        }
        before = now;
    }
}

/// Starts this program again in this process, with the same words; pods and their shims notice
/// nothing. It returns only when that fails.
pub(crate) fn start_again() -> io::Error {
    use std::os::unix::process::CommandExt;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "edged".into());
    std::process::Command::new("/proc/self/exe").arg0(name).args(words).exec()
}

fn first_interface_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    // Pods' bridge outlives edged: alone on a board, it is no way to this one.
    let theirs = addresses.filter(|a| !a.interface_name.starts_with("edge"));
    let v4 = theirs.filter_map(|a| a.address?.as_sockaddr_in().map(|s| s.ip()));
    v4.map(IpAddr::V4).find(|ip| !ip.is_loopback())
}
