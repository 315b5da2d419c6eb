//! `--lan-pool`: addresses of the LAN that Services may have, and what they must not meet.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use edge_core::controllers::load_balancer::LanPool;
use edge_core::podnet::Range;

use super::{ConfigError, File};

/// The flag, also a key of the file.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct LanFlags {
    /// Addresses of the LAN for Services of type LoadBalancer, as 192.168.1.240-192.168.1.250 or
    /// 192.168.1.240/28; of servers, the same for all; may be given several times [default: none]
    #[arg(long, env = "EDGED_LAN_POOL", value_name = "ADDRESSES", value_delimiter = ',')]
    pub lan_pool: Vec<String>,
}

/// The settled pool.
pub(super) fn settle(
    flags: &LanFlags,
    file: &File,
    (cluster, services): (&str, &str),
    node_ip: IpAddr,
) -> Result<LanPool, ConfigError> {
    let given = if flags.lan_pool.is_empty() { &file.lan_pool } else { &flags.lan_pool };
    let pool = LanPool::parse(given.iter().map(String::as_str));
    let pool = pool.map_err(|error| ConfigError(format!("lan-pool: {error}")))?;
    for (key, cidr) in [("cluster-cidr", cluster), ("service-cidr", services)] {
        if Range::parse(cidr).is_some_and(|range| pool.overlaps(&range)) {
            let why =
                format!("lan-pool: {pool} overlaps {key} {cidr}; choose addresses of the LAN");
            return Err(ConfigError(why));
        }
    }
    let own: Option<Ipv4Addr> = match node_ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    if let Some(ip) = own.filter(|ip| pool.contains(*ip)) {
        let why = format!("lan-pool: {pool} contains this board's own address {ip}; leave it out");
        return Err(ConfigError(why));
    }
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_meets_something_is_refused_with_its_name() {
        let settled = |text: &str| {
            let flags = LanFlags { lan_pool: vec![text.to_owned()] };
            let cidrs = ("10.42.0.0/16", "10.43.0.0/16");
            let node_ip = "192.0.2.7".parse().unwrap();
            settle(&flags, &File::default(), cidrs, node_ip).map_err(|error| error.to_string())
        };
        assert!(settled("192.0.2.240-192.0.2.250").is_ok());
        for (text, words) in [
            ("10.42.1.0/28", "overlaps cluster-cidr 10.42.0.0/16"),
            ("10.43.0.9", "overlaps service-cidr 10.43.0.0/16"),
            ("192.0.2.1-192.0.2.9", "this board's own address 192.0.2.7"),
            ("192.0.2.1-", "write addresses of the LAN"),
        ] {
            let error = settled(text).unwrap_err();
            assert!(error.starts_with("lan-pool: ") && error.contains(words), "{error}");
        }
    }
}
