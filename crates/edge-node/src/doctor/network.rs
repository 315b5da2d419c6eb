//! Routes, other networks, rules of others and Wi-Fi.

use std::net::Ipv4Addr;
use std::path::Path;

use edge_core::doctor::{Facts, Forwarding, Network, Wifi, forward};
use edge_core::podnet::Range;

use super::files::Files;
use crate::net::{NetError, survey};
use crate::runtime::calls;

/// Routes that are of no use, and those through another board or router.
const REJECTS: u32 = 0x200;
const GATEWAY: u32 = 0x2;
/// Links of ours: the bridge, the tunnels, pods' pairs.
const OURS: [&str; 4] = ["lo", "edge0", "edge-wg0", "edv"];

pub(super) fn gather(files: &Files<'_>, facts: &mut Facts) {
    if let Some(table) = files.text("proc/net/route") {
        let routes: Vec<Route> = table.lines().skip(1).filter_map(Route::read).collect();
        let six = files.text("proc/net/ipv6_route").unwrap_or_default();
        let default = |route: &Route| route.range.length() == 0 && route.flags & REJECTS == 0;
        facts.default_route = Some(routes.iter().any(default) || six.lines().any(leads_out));
        let other = |route: &&Route| {
            route.range.length() > 0
                && route.flags & GATEWAY == 0
                && !OURS.iter().any(|ours| match *ours {
                    "edv" => route.link.starts_with(ours),
                    name => route.link == name,
                })
        };
        let networks = routes.iter().filter(other);
        facts.networks =
            networks.map(|r| Network { link: r.link.clone(), range: r.range }).collect();
    }
    let setting = "proc/sys/net/ipv4/ip_forward";
    facts.forwarding = files.line(setting).map(|value| Forwarding {
        on: value == "1",
        settable: nix::unistd::access(&files.at(setting), nix::unistd::AccessFlags::W_OK).is_ok()
            || !nix::unistd::geteuid().is_root(),
    });
    let tables = files.text("proc/net/ip_tables_names").unwrap_or_default();
    facts.legacy_rules = tables.lines().any(|table| table == "filter");
    // Not where there is none: to be asked for it makes the kernel load it.
    if facts.legacy_rules && files.0 == Path::new("/") {
        facts.legacy = calls::legacy_filter().ok().and_then(|(info, all)| forward(&info, &all));
    }
    facts.resolvers = Some(resolvers(&files.text("etc/resolv.conf").unwrap_or_default()));
    match survey::chains() {
        Ok(chains) => facts.chains = Some(chains),
        // Without nf_tables, nobody has rules of it.
        Err(NetError::NoNfTables { .. }) => facts.chains = Some(Vec::new()),
        Err(_) => {
            let words = "the firewall's rules (run this as root)".to_owned();
            facts.unseen.push(("firewall-forward", words));
        }
    }
    wifi(files, facts);
}

/// Whom `resolv.conf` names.
fn resolvers(text: &str) -> Vec<String> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") {
            servers.extend(words.next().map(str::to_owned));
        }
    }
    servers
}

/// A line of `/proc/net/route`.
struct Route {
    link: String,
    range: Range,
    flags: u32,
}

impl Route {
    fn read(line: &str) -> Option<Route> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let base = Ipv4Addr::from(number(1)?.to_ne_bytes());
        let length = u8::try_from(number(7)?.count_ones()).ok()?;
        let (link, flags) = (fields.first()?.to_string(), number(3)?);
        Some(Route { link, range: Range::new(base, length)?, flags })
    }
}

/// Whether a line of `/proc/net/ipv6_route` is a way for everything.
fn leads_out(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let everything = fields.first().is_some_and(|to| to.bytes().all(|b| b == b'0'))
        && fields.get(1) == Some(&"00");
    let flags = fields.get(8).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
    everything && flags & REJECTS == 0 && fields.last() != Some(&"lo")
}

fn wifi(files: &Files<'_>, facts: &mut Facts) {
    let is_wifi = |link: &String| {
        ["phy80211", "wireless"]
            .iter()
            .any(|sign| files.at(&format!("sys/class/net/{link}/{sign}")).exists())
    };
    let links: Vec<String> = files.names("sys/class/net").into_iter().filter(is_wifi).collect();
    if links.is_empty() {
        return;
    }
    let mut kernel = (files.0 == Path::new("/")).then(survey::Wifi::open).and_then(Result::ok);
    for link in links {
        let number = files.number(&format!("sys/class/net/{link}/ifindex"));
        let power_save = number.and_then(|number| kernel.as_mut()?.power_save(number));
        facts.wifi.push(Wifi { link, power_save });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_as_the_kernel_lists_them() {
        if cfg!(target_endian = "big") {
            return;
        }
        let line = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        let default = Route::read(line).unwrap();
        assert_eq!((default.range.length(), default.flags), (0, 3));
        let line = "cni0\t00002A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(Route::read(line).unwrap().range.to_string(), "10.42.0.0/24");
        let zero = "0".repeat(32);
        let six = |flags: &str, link: &str| {
            format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 {flags}  {link}")
        };
        assert!(leads_out(&six("00000003", "eth0")) && !leads_out(&six("00200200", "lo")));
    }
}
