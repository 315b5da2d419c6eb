//! Which names boards may have, and which part of the pods' addresses a new board gets.

use crate::config::Range;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Bits of the part of the pods' addresses that one board hands out: /24, 254 pods.
pub const POD_CIDR_BITS: u8 = 24;

/// Why a board cannot have this name. A board's certificate carries its name, so the names under
/// which the API itself is reached are not for boards.
pub(super) fn unusable(name: &str) -> Option<String> {
    if let Some(why) = edge_api::names::dns1123_subdomain(name).into_iter().next() {
        return Some(format!("board name {name:?}: {why}"));
    }
    let reserved = name == "localhost" || name == "kubernetes" || name.starts_with("kubernetes.");
    if reserved || name.parse::<IpAddr>().is_ok() {
        return Some(format!("board name {name:?} is reserved: give another with --name"));
    }
    None
}

/// The first part of the cluster's range that nobody has. The very first is the founder's.
pub(super) fn free_part(cluster: &str, taken: &BTreeSet<String>) -> Option<String> {
    let range = Range::parse("--cluster-cidr", cluster).ok()?;
    let base = u32::from(range.nth(0)?);
    let part = 1u32 << (32 - POD_CIDR_BITS);
    let found = (1..range.size() / part).map(|n| {
        let address = Ipv4Addr::from(base + n * part);
        format!("{address}/{POD_CIDR_BITS}")
    });
    found.into_iter().find(|cidr| !taken.contains(cidr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_api_are_not_for_boards() {
        for name in ["localhost", "kubernetes", "kubernetes.default.svc", "10.0.0.5", "Big", ""] {
            assert!(unusable(name).is_some(), "{name}");
        }
        assert_eq!(unusable("pi-4"), None);
        assert_eq!(unusable("pi.shop.example"), None);
    }

    #[test]
    fn parts_are_handed_out_in_order() {
        let mut taken = BTreeSet::new();
        let mut next = || {
            let part = free_part("10.42.0.0/22", &taken)?;
            taken.insert(part.clone());
            Some(part)
        };
        assert_eq!(next().as_deref(), Some("10.42.1.0/24"));
        assert_eq!(next().as_deref(), Some("10.42.2.0/24"));
        assert_eq!(next().as_deref(), Some("10.42.3.0/24"));
        assert_eq!(next(), None);
        assert_eq!(free_part("10.42.0.0/24", &BTreeSet::new()), None);
    }
}
