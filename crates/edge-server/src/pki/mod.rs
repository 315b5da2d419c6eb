//! The cluster's keys and certificates: one authority, short-lived leaves issued from it, and the
//! kubeconfig that lets the person at this board in. All of it lives under `<data-dir>/pki`.

mod authority;
mod disk;
mod error;
mod key;
mod kubeconfig;
mod leaf;
mod look;
mod renew;
mod secrets;

pub use authority::AgentCredentials;
pub(crate) use authority::{Authority, Leaf};
pub use disk::{read_if_present, write_atomically};
pub use error::PkiError;
pub use key::{BoardKey, KeyHash};
pub(crate) use key::{PublicKey, hex};
pub(crate) use kubeconfig::write_admin_kubeconfig;
pub use look::CertFacts;
pub(crate) use renew::Renewing;
pub use secrets::{ClusterSecrets, from_hex, to_hex};

use crate::config::{Config, ConfigError};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// Lies in the data directory once a store has begun there.
pub(crate) const BEGUN: &str = "pki/store-begun";

/// What a server is not itself without, in `pki`; all else is made of these.
const NEEDED: [&str; 4] = ["board.key", "ca.key", "cluster.id", "cluster.key"];

/// Checks, before anything is made, that a server which has begun still has its keys. Others in
/// their place would make it somebody else, with the cluster's state.
///
/// # Errors
/// Names the file that is missing, and what to do.
pub fn expect_whole(data_dir: &Path) -> Result<(), PkiError> {
    let there = |name: &str| {
        let path = data_dir.join(name);
        let looked = path.try_exists().map_err(|e| PkiError::io("read", &path, e));
        looked.map(|there| (there, path))
    };
    if !there(BEGUN)?.0 {
        return Ok(());
    }
    for name in NEEDED {
        let (there, path) = there(&format!("pki/{name}"))?;
        if !there {
            return Err(PkiError::Missing { path });
        }
    }
    Ok(())
}

/// Every name and address under which clients may reach this server.
pub(crate) fn serving_names(config: &Config) -> Result<BTreeSet<String>, ConfigError> {
    let mut names = BTreeSet::from([
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{}", config.cluster_domain),
    ]);
    names.insert(config.name.clone());
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        names.insert(host.trim().to_owned());
    }
    names.extend(config.node_ip.map(|ip| ip.to_string()));
    names.extend(config.reachable().map(|ip| ip.to_string()));
    let listen = config.listen.ip();
    if !listen.is_unspecified() {
        names.insert(listen.to_string());
    }
    names.extend(config.services()?.nth(1).map(|ip| ip.to_string()));
    names.retain(|name| usable_name(name));
    Ok(names)
}

/// Whether a certificate can carry this name: an address, or printable ASCII.
fn usable_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
        || (!name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
}

#[cfg(test)]
mod tests;
