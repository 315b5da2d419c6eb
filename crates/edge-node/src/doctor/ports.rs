//! Who listens where, and which other programs run pods.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use edge_core::doctor::Taken;

use super::Wanted;
use super::files::Files;

/// States in which a socket holds its port: a listening TCP socket, an open UDP one.
const LISTENS: &str = "0A";
const OPEN: &str = "07";
/// Programs that run pods, by the names of their processes.
const RIVALS: [(&str, &str); 9] = [
    ("k3s", "k3s"),
    ("k3s-server", "k3s"),
    ("k3s-agent", "k3s-agent"),
    ("kubelet", "kubelet"),
    ("kubelite", "snap.microk8s.daemon-kubelite"),
    ("k0s", "k0scontroller"),
    ("rke2", "rke2-server"),
    ("cloudcore", "cloudcore"),
    ("edgecore", "edgecore"),
];
/// What our own processes are called.
const OURS: &str = "edged";
/// There while our end of tunnels is.
const OUR_TUNNELS: &str = "sys/class/net/edge-wg0";

struct Listener {
    address: Option<Ipv4Addr>,
    port: u16,
    inode: String,
}

/// A line of `/proc/net/tcp` and its kind.
fn listener(line: &str, state: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (host, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != state {
        return None;
    }
    let address = match host.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(host, 16).ok()?.to_ne_bytes())),
        _ if host.bytes().all(|b| b == b'0') => Some(Ipv4Addr::UNSPECIFIED),
        // An address of IPv6 does not stand in the way of one of IPv4.
        _ => None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listener { address, port, inode: (*fields.get(9)?).to_owned() })
}

/// Ports that others hold; `None` when the kernel's lists can't be read.
pub(super) fn taken(files: &Files<'_>, wanted: &[Wanted]) -> Option<Vec<Taken>> {
    let all = |names: [&str; 2], state: &str| {
        let mut found = Vec::new();
        for name in names {
            let text = files.text(&format!("proc/net/{name}")).unwrap_or_default();
            found.extend(text.lines().skip(1).filter_map(|line| listener(line, state)));
        }
        found
    };
    files.text("proc/net/tcp")?;
    let (tcp, udp) = (all(["tcp", "tcp6"], LISTENS), all(["udp", "udp6"], OPEN));
    let mut held = Vec::new();
    for want in wanted {
        let list = if want.udp { &udp } else { &tcp };
        let meets = |listener: &&Listener| {
            listener.port == want.port
                && listener.address.is_some_and(|address| {
                    address == want.address
                        || address.is_unspecified()
                        || (want.address.is_unspecified() && !address.is_loopback())
                })
        };
        held.extend(list.iter().find(meets).map(|listener| (want, listener)));
    }
    if held.is_empty() {
        return Some(Vec::new());
    }
    let owners = owners(files);
    let mut found = Vec::new();
    for (want, listener) in held {
        let owner = owners.get(&listener.inode);
        if owner.is_some_and(|(name, _)| name == OURS) {
            continue;
        }
        // A socket of the kernel's own: the end of tunnels, ours or somebody else's.
        let kernel = listener.inode == "0";
        if kernel && files.at(OUR_TUNNELS).exists() {
            continue;
        }
        found.push(Taken {
            port: want.port,
            protocol: if want.udp { "udp" } else { "tcp" },
            purpose: want.purpose,
            owner: match owner {
                Some((name, pid)) => Some(format!("{name} (pid {pid})")),
                None => kernel.then(|| "another link of WireGuard".to_owned()),
            },
        });
    }
    Some(found)
}

fn processes(files: &Files<'_>) -> Vec<String> {
    let is_process = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    files.names("proc").into_iter().filter(is_process).collect()
}

/// Who has each socket open: the process's name and number, by the socket's inode.
fn owners(files: &Files<'_>) -> BTreeMap<String, (String, String)> {
    let mut owners = BTreeMap::new();
    for pid in processes(files) {
        let Some(name) = files.line(&format!("proc/{pid}/comm")) else { continue };
        for fd in files.names(&format!("proc/{pid}/fd")) {
            let Ok(link) = std::fs::read_link(files.at(&format!("proc/{pid}/fd/{fd}"))) else {
                continue;
            };
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode {
                owners.entry(inode.to_owned()).or_insert_with(|| (name.clone(), pid.clone()));
            }
        }
    }
    owners
}

/// Other programs that run pods on this board, as their services are called.
pub(super) fn rivals(files: &Files<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes(files) {
        let name = files.line(&format!("proc/{pid}/comm")).unwrap_or_default();
        let service = RIVALS.iter().find(|(known, _)| *known == name).map(|(_, s)| *s);
        found.extend(service.map(str::to_owned));
    }
    found.sort();
    found.dedup();
    found
}
