//! The cluster's DNS as this board has it: the server for its pods, and how pods are told of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use edge_core::dns::{ClusterDns, Name, Zone};

use super::AgentConfig;
use crate::dns::{DnsConfig, Files, PORT};
use crate::net::Net;

/// What pods are told; none in a cluster whose range of Services has no room for a server.
pub(crate) fn cluster(config: &AgentConfig, net: &Net) -> Option<ClusterDns> {
    let server = net.dns_address()?.to_string();
    Some(ClusterDns { server, domain: config.cluster_domain.clone() })
}

/// How the board's server is set up.
pub(crate) fn server(config: &AgentConfig, pod_cidr: &str, net: &Net) -> Option<DnsConfig> {
    let server = net.dns_address()?;
    let zone = Zone {
        domain: Name::new(&config.cluster_domain)?.lower(),
        server,
        services: range(&config.service_cidr)?,
        pods: range(&config.cluster_cidr)?,
    };
    Some(DnsConfig {
        zone,
        listen: SocketAddr::new(IpAddr::V4(server), PORT),
        pods: range(pod_cidr)?,
        own: vec![config.node_ip],
        files: files(config),
    })
}

/// Whom the board asks.
pub(crate) fn files(config: &AgentConfig) -> Files {
    Files { own: config.resolv_conf.clone(), ..Files::default() }
}

fn range(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (base, length) = text.split_once('/')?;
    Some((base.parse().ok()?, length.parse().ok()?))
}
