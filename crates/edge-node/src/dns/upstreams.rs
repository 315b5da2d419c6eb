//! Whom the board itself asks, read again when its files change, and never ourselves.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use edge_core::dns::{Resolver, Zone};

/// The files are looked at no more often than this.
const LOOK: Duration = Duration::from_secs(1);
/// Servers that are asked at most.
const SERVERS: usize = 4;

/// Where the board says whom it asks.
#[derive(Debug, Clone)]
pub struct Files {
    /// What all programs read.
    pub own: PathBuf,
    /// What systemd keeps behind its stub, for when `own` names nothing but loopback.
    pub behind: PathBuf,
    /// The port to ask at.
    pub port: u16,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            own: "/etc/resolv.conf".into(),
            behind: "/run/systemd/resolve/resolv.conf".into(),
            port: super::PORT,
        }
    }
}

impl Files {
    /// What they say now. A pod can't reach a stub that listens on the board's loopback, and we
    /// need none.
    pub fn read(&self) -> Resolver {
        let read = |path| std::fs::read_to_string(path).map(|text| Resolver::parse(&text));
        let own = read(&self.own).unwrap_or_default();
        let local = |ip: &String| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if own.nameservers.iter().all(local)
            && let Ok(behind) = read(&self.behind)
            && !behind.nameservers.is_empty()
        {
            return behind;
        }
        own
    }

    fn stamp(&self) -> Stamp {
        let of = |path: &Path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        [of(&self.own), of(&self.behind)]
    }
}

type Stamp = [Option<(SystemTime, u64)>; 2];

/// The servers to ask, in order.
#[derive(Debug)]
pub(super) struct Upstreams {
    files: Files,
    zone: Zone,
    looked: Option<Instant>,
    stamp: Stamp,
    servers: Vec<SocketAddr>,
}

impl Upstreams {
    pub(super) fn new(files: Files, zone: Zone) -> Upstreams {
        Upstreams { files, zone, looked: None, stamp: Stamp::default(), servers: Vec::new() }
    }

    /// The servers now, and whether they are others than before.
    pub(super) fn servers(&mut self, now: Instant) -> (Vec<SocketAddr>, bool) {
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return (self.servers.clone(), false);
        }
        let first = self.looked.replace(now).is_none();
        let stamp = self.files.stamp();
        if !first && stamp == self.stamp {
            return (self.servers.clone(), false);
        }
        self.stamp = stamp;
        let found = self.read();
        let changed = found != self.servers;
        self.servers = found;
        (self.servers.clone(), changed)
    }

    fn read(&self) -> Vec<SocketAddr> {
        let read = self.files.read();
        // A scope (`fe80::1%eth0`) is more than an address can say here.
        let all = read.nameservers.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        let others = all.filter(|ip| !self.is_cluster(*ip) && !ip.is_unspecified());
        let mut found: Vec<SocketAddr> = Vec::new();
        for ip in others {
            let server = SocketAddr::new(ip, self.files.port);
            if !found.contains(&server) && found.len() < SERVERS {
                found.push(server);
            }
        }
        found
    }

    /// Addresses of Services lead back to us, or nowhere.
    fn is_cluster(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        let (base, length) = self.zone.services;
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        ip == self.zone.server || u32::from(ip) & mask == u32::from(base) & mask
    }
}
