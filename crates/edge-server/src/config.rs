//! What a server is started with, and the few facts derived from it once, so that no other
//! module parses an address range again.

use crate::join::Cluster;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of one API server, as the command line and the configuration file give them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this board; the holder of the leader's Lease.
    pub name: String,
    /// Directory for the store, the keys and the administrator's kubeconfig.
    pub data_dir: PathBuf,
    /// Address to serve HTTPS on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Address at which other boards and pods reach this one.
    pub node_ip: Option<IpAddr>,
    /// Range that pod addresses come from.
    pub cluster_cidr: String,
    /// Range that Services' virtual addresses come from.
    pub service_cidr: String,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
    /// Port that agents serve on when a Node does not say otherwise.
    pub agent_port: u16,
    /// The cluster that this server takes part in.
    pub cluster: Cluster,
    /// What is made of boards that fall silent.
    pub nodes: NodeSettings,
}

/// What is made of boards that fall silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// When silence means something.
    pub liveness: edge_core::liveness::Settings,
    /// Seconds that pods stay on a board that is not ready or cannot be reached, where they do
    /// not say so themselves. Kubernetes' own default is 300.
    pub default_toleration_seconds: i64,
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the setting.
    pub setting: &'static str,
    /// The value as given.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} cannot be used: {}", self.setting, self.value, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Bits of one board's part of the pods' addresses.
const BLOCK_PREFIX: u8 = 24;

/// An IPv4 range in which addresses are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    size: u32,
    prefix: u8,
}

impl Range {
    /// Reads `10.43.0.0/16`; the setting's name appears in the error.
    pub fn parse(setting: &'static str, text: &str) -> Result<Range, ConfigError> {
        let bad = |reason: &str| ConfigError {
            setting,
            value: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (address, prefix) =
            text.split_once('/').ok_or(bad("write it as ADDRESS/PREFIX, as in 10.43.0.0/16"))?;
        let address: Ipv4Addr =
            address.parse().map_err(|_| bad("the address is not an IPv4 address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| bad("the prefix is not a number"))?;
        if !(8..=28).contains(&prefix) {
            return Err(bad("the prefix must be between 8 and 28"));
        }
        let size = 1u32 << (32 - prefix);
        let base = u32::from(address);
        if base & (size - 1) != 0 {
            return Err(bad("the address has bits set behind the prefix"));
        }
        Ok(Range { base, size, prefix })
    }

    /// The n-th address, counted from the range's base.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        (n < self.size).then(|| Ipv4Addr::from(self.base + n))
    }

    /// How many addresses the range spans, base and broadcast included.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bits of the parts that boards get: 254 pods each, or the whole of a smaller range.
    fn block_prefix(&self) -> u8 {
        self.prefix.max(BLOCK_PREFIX)
    }

    /// How many boards can have a part of the range.
    pub fn blocks(&self) -> u32 {
        1 << (self.block_prefix() - self.prefix)
    }

    /// The n-th board's part, as `10.42.3.0/24`.
    pub fn block(&self, n: u32) -> String {
        let prefix = self.block_prefix();
        let base = self.base + n * (1 << (32 - prefix));
        format!("{}/{prefix}", Ipv4Addr::from(base))
    }

    /// Which part this is, if it is one.
    pub fn block_of(&self, cidr: &str) -> Option<u32> {
        let (address, _) = cidr.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let n = u32::from(address).checked_sub(self.base)? >> (32 - self.block_prefix());
        (n < self.blocks() && self.block(n) == cidr).then_some(n)
    }

    /// Whether `address` may be handed out: inside, and neither base nor broadcast.
    pub fn usable(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size - 1
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl Config {
    /// The range of pods' addresses.
    pub fn pods(&self) -> Result<Range, ConfigError> {
        Range::parse("--cluster-cidr", &self.cluster_cidr)
    }

    /// The range of Services' addresses.
    pub fn services(&self) -> Result<Range, ConfigError> {
        Range::parse("--service-cidr", &self.service_cidr)
    }

    /// The address that clients outside this board should use for it.
    pub fn advertised(&self) -> IpAddr {
        match self.node_ip {
            Some(ip) => ip,
            None if self.listen.ip().is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            None => self.listen.ip(),
        }
    }
}

impl Config {
    /// The address at which pods and other boards reach this server, if there is one.
    pub fn reachable(&self) -> Option<IpAddr> {
        let listen = self.listen.ip();
        let told = self.node_ip.or((!listen.is_unspecified()).then_some(listen));
        told.or_else(outgoing).filter(|ip| !ip.is_loopback())
    }
}

/// The address this board would use to reach others. Connecting a UDP socket sends nothing.
fn outgoing() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_parts_for_boards() {
        let range = Range::parse("--cluster-cidr", "10.42.0.0/16").unwrap();
        assert_eq!(range.blocks(), 256);
        assert_eq!(
            (range.block(0).as_str(), range.block(3).as_str()),
            ("10.42.0.0/24", "10.42.3.0/24")
        );
        for (cidr, n) in [
            ("10.42.0.0/24", Some(0)),
            ("10.42.255.0/24", Some(255)),
            ("10.42.3.1/24", None),
            ("10.42.3.0/25", None),
            ("10.43.0.0/24", None),
            ("10.41.0.0/24", None),
            ("", None),
        ] {
            assert_eq!(range.block_of(cidr), n, "{cidr}");
        }
        let small = Range::parse("--cluster-cidr", "10.42.7.0/26").unwrap();
        assert_eq!((small.blocks(), small.block(0).as_str()), (1, "10.42.7.0/26"));
        assert_eq!(small.block_of("10.42.7.0/26"), Some(0));
    }

    #[test]
    fn ranges_are_read_and_refused() {
        let range = Range::parse("--service-cidr", "10.43.0.0/16").unwrap();
        assert_eq!(range.nth(1), Some(Ipv4Addr::new(10, 43, 0, 1)));
        assert_eq!(range.nth(65536), None);
        assert!(range.usable(Ipv4Addr::new(10, 43, 255, 254)));
        assert!(!range.usable(Ipv4Addr::new(10, 43, 255, 255)));
        assert!(!range.usable(Ipv4Addr::new(10, 43, 0, 0)));
        assert!(!range.usable(Ipv4Addr::new(10, 42, 0, 1)));
        assert_eq!(range.to_string(), "10.43.0.0/16");
        for bad in ["10.43.0.0", "x/16", "10.43.0.0/64", "10.43.0.1/16", "fd00::/64"] {
            let error = Range::parse("--service-cidr", bad).unwrap_err().to_string();
            assert!(error.contains("--service-cidr") && error.contains(bad), "{error}");
        }
    }
}
