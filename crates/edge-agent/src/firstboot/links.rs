//! What systemd-networkd reads: a file per kind of link, before those that the system has.

use std::fmt::Write as _;

use super::plan::{Board, Plan, WIRED, WIRELESS};
use super::wish::Wish;

/// Wi-Fi gives way to a cable where both are there.
const METRIC: u32 = 600;

/// Makes the files those that are asked for; without any, ours go. An address that was asked for is
/// Wi-Fi's where there is one, and servers of names are every link's.
pub(super) fn network(plan: &mut Plan, wish: &Wish, board: &Board) {
    let runs = !board.network_manager;
    let radio = wish.wifi.is_some();
    let text = (runs && radio).then(|| link("wlan0", wish, true, Some(METRIC)));
    plan.own(board, WIRELESS, text, 0o644);
    let wired = runs && (!wish.dns.is_empty() || (!radio && wish.address.is_some()));
    let text = wired.then(|| link("en* eth*", wish, !radio, None));
    plan.own(board, WIRED, text, 0o644);
}

fn link(names: &str, wish: &Wish, fixed: bool, metric: Option<u32>) -> String {
    let mut text = format!("[Match]\nName={names}\n\n[Network]\nMulticastDNS=yes\n");
    let radio = metric.is_some();
    let metric = |key: &str| metric.map_or(String::new(), |m| format!("{key}={m}\n"));
    if radio {
        text.push_str("IgnoreCarrierLoss=5s\n");
    }
    let own = wish.address.filter(|_| fixed);
    let _ = match own {
        Some((ip, bits)) => writeln!(text, "Address={ip}/{bits}"),
        None => writeln!(text, "DHCP=yes"),
    };
    let servers = match (wish.dns.is_empty(), own) {
        (true, Some(_)) => wish.gateway.as_slice(),
        _ => &wish.dns,
    };
    for server in servers {
        let _ = writeln!(text, "DNS={server}");
    }
    if own.is_some() {
        if let Some(gateway) = wish.gateway {
            let _ = write!(text, "\n[Route]\nGateway={gateway}\n{}", metric("Metric"));
        }
        return text;
    }
    // The network's servers are not asked beside those of the person, and where they are asked, the
    // domain that it searches names in is taken too: as NetworkManager does both.
    let names = if wish.dns.is_empty() { "UseDomains=yes\n" } else { "UseDNS=no\n" };
    let given = metric("RouteMetric") + names;
    for (section, says) in [("DHCPv4", &*given), ("DHCPv6", names), ("IPv6AcceptRA", &given)] {
        let _ = write!(text, "\n[{section}]\n{says}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firstboot::{plan, text, wish};

    fn file(yaml: &str, path: &str) -> String {
        let wish = wish::read(text::read(yaml).unwrap()).unwrap();
        let plan = plan::plan(&wish, &Board::default()).unwrap();
        let found = plan.files.into_iter().find(|file| file.path == path);
        found.map(|file| file.text).unwrap_or_default()
    }

    #[test]
    fn servers_of_names_are_asked_without_an_address_too() {
        let wired = file("dns: 9.9.9.9\n", WIRED);
        let names = "UseDNS=no\n";
        let wanted = format!(
            "DHCP=yes\nDNS=9.9.9.9\n\n[DHCPv4]\n{names}\n[DHCPv6]\n{names}\n[IPv6AcceptRA]\n{names}"
        );
        assert!(wired.ends_with(&wanted) && !wired.contains("UseDomains"), "{wired}");
        let both = "dns: [9.9.9.9]\nwifi: {ssid: a}\naddress: 10.0.0.9/24\n";
        let radio = file(both, WIRELESS);
        assert!(radio.ends_with("Address=10.0.0.9/24\nDNS=9.9.9.9\n"), "{radio}");
        assert!(file(both, WIRED).contains("DHCP=yes\nDNS=9.9.9.9\n"), "the cable keeps DHCP");
        assert_eq!(file("wifi: {ssid: a}\n", WIRED), "");
    }

    #[test]
    fn the_networks_domain_is_searched_where_its_servers_are_asked() {
        let plain = file("wifi: {ssid: a}\n", WIRELESS);
        let (metric, names) = ("RouteMetric=600\n", "UseDomains=yes\n");
        let wanted = format!(
            "[DHCPv4]\n{metric}{names}\n[DHCPv6]\n{names}\n[IPv6AcceptRA]\n{metric}{names}"
        );
        assert!(plain.ends_with(&wanted), "{plain}");
        let fixed = file("address: 10.0.0.9/24\ngateway: 10.0.0.1\n", WIRED);
        assert!(fixed.contains("DNS=10.0.0.1\n") && !fixed.contains("UseDomains"), "{fixed}");
    }
}
