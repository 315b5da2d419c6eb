//! What NetworkManager reads, on systems that it runs the network of (Raspberry Pi OS): a profile
//! is a file that only root may read (nm-settings-keyfile(5), nm-settings-nmcli(5)). Others of the
//! same network stay as they are, and give way to ours.
//!
//! The country is an option of the kernel's module, as Raspberry Pi OS has it on the kernel's
//! command line: NetworkManager knows none. That system keeps the radio off until there is one.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;

use nix::errno::Errno;

use super::plan::{Board, Plan};
use super::wifi::Wifi;
use super::wish::Wish;

pub(super) const WIFI: &str = "etc/NetworkManager/system-connections/edged-wifi.nmconnection";
pub(super) const WIRED: &str = "etc/NetworkManager/system-connections/edged-wired.nmconnection";
pub(super) const COUNTRY: &str = "etc/modprobe.d/edged-wifi.conf";
/// Whether the radio is to be on; NetworkManager's own note.
pub(super) const STATE: &str = "var/lib/NetworkManager/NetworkManager.state";

/// The kernel's switch of radios.
const SWITCH: &str = "/dev/rfkill";
/// A `struct rfkill_event`: index 0, `RFKILL_TYPE_WLAN`, `RFKILL_OP_CHANGE_ALL`, nothing blocked.
/// It counts for radios that come later as well.
const WLAN_ON: [u8; 8] = [0, 0, 0, 0, 1, 3, 0, 0];

/// Profiles are told apart by these, on each board for itself.
const WIFI_UUID: &str = "7d3c1a52-9b6e-4f0d-8a41-2e5b90c7d6f3";
const WIRED_UUID: &str = "c2f8e6b4-51d9-4a37-9e0c-63a7f4d1b285";

/// Makes the profiles those that are asked for; without any, ours go.
pub(super) fn network(plan: &mut Plan, wish: &Wish, board: &Board, key: Option<&str>) {
    let runs = board.network_manager;
    let radio = wish.wifi.as_ref().filter(|_| runs);
    let text = radio.map(|wifi| format!("{}{}", network_of(wifi, key), addresses(wish, true)));
    plan.own(board, WIFI, text, 0o600);
    let fixed = wish.wifi.is_none();
    let wired = runs && (!wish.dns.is_empty() || (fixed && wish.address.is_some()));
    let text = wired.then(|| format!("{}{}", wired_of(), addresses(wish, fixed)));
    plan.own(board, WIRED, text, 0o600);
    let country = radio.and_then(|wifi| wifi.country.as_ref());
    let option = country.map(|code| format!("options cfg80211 ieee80211_regdom={code}\n"));
    plan.own(board, COUNTRY, option, 0o644);
    plan.radio_on = country.is_some();
    if let (Some(_), Some(state)) = (country, board.files.get(STATE)) {
        let on = state.replace("WirelessEnabled=false", "WirelessEnabled=true");
        if on != *state {
            plan.put(STATE, on, 0o644);
        }
    }
}

fn connection(id: &str, uuid: &str, kind: &str) -> String {
    format!("[connection]\nid={id}\nuuid={uuid}\ntype={kind}\nautoconnect-priority=10\n")
}

fn wired_of() -> String {
    connection("edged-wired", WIRED_UUID, "ethernet")
}

fn network_of(wifi: &Wifi, key: Option<&str>) -> String {
    let mut text = connection("edged-wifi", WIFI_UUID, "wifi");
    // Networks that hide their name are found as well.
    let _ = write!(text, "\n[wifi]\nmode=infrastructure\n{}\nhidden=true\n", named(&wifi.ssid));
    if let Some(key) = key {
        let _ = write!(text, "\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={key}\n");
    }
    text
}

/// How the network is named in the file; as a list of bytes, so that no name can mean anything
/// else.
fn named(ssid: &str) -> String {
    ssid.bytes().fold("ssid=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte};");
        text
    })
}

/// Whether a profile of ours is of this network.
pub(super) fn is_of(text: &str, ssid: &str) -> bool {
    let named = named(ssid);
    text.lines().any(|line| line == named)
}

/// The sections of both kinds of addresses; those that were asked for, if they are `fixed` here.
fn addresses(wish: &Wish, fixed: bool) -> String {
    let address = wish.address.filter(|_| fixed);
    let mut text = String::new();
    for (section, v4) in [("ipv4", true), ("ipv6", false)] {
        let of_it = |ip: &&IpAddr| ip.is_ipv4() == v4;
        let own = address.filter(|(ip, _)| of_it(&ip));
        let method = match (own, address) {
            (Some(_), _) => "manual",
            // Instead of DHCP: a board with an IPv6 address alone has no other.
            (None, Some(_)) if v4 => "disabled",
            _ => "auto",
        };
        let _ = write!(text, "\n[{section}]\nmethod={method}\n");
        if let Some((ip, bits)) = own {
            let _ = writeln!(text, "address1={ip}/{bits}");
            if let Some(gateway) = wish.gateway {
                let _ = writeln!(text, "gateway={gateway}");
            }
        }
        let servers = match (wish.dns.is_empty(), own) {
            (true, Some(_)) => wish.gateway.as_slice(),
            _ => &wish.dns,
        };
        let servers = servers.iter().filter(of_it).filter(|_| method != "disabled");
        let list = servers.fold(String::new(), |list, ip| format!("{list}{ip};"));
        if !list.is_empty() {
            let _ = writeln!(text, "dns={list}");
        }
        if method == "auto" && !wish.dns.is_empty() {
            text.push_str("ignore-auto-dns=true\n");
        }
    }
    text
}

/// Lets the kernel's radios of Wi-Fi send, those that come later as well. Nothing on a board that
/// has none.
///
/// # Errors
/// When the switch is there and can't be written.
pub(super) fn radio_on() -> std::io::Result<()> {
    match std::fs::OpenOptions::new().write(true).open(SWITCH) {
        Ok(mut switch) => switch.write_all(&WLAN_ON),
        // No radio, or a kernel without them.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where systemd notes that NetworkManager starts with the board, beneath the root.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/NetworkManager.service";
/// Where it would be masked.
const MASKED: &str = "etc/systemd/system/NetworkManager.service";

/// Whether NetworkManager runs the network of the system at `root`.
pub(super) fn runs(root: &std::path::Path) -> bool {
    let masked = std::fs::read_link(root.join(MASKED));
    std::fs::symlink_metadata(root.join(ENABLED)).is_ok()
        && !masked.is_ok_and(|to| to == std::path::Path::new("/dev/null"))
}

/// Whether it runs right now, and has read its profiles.
pub(super) fn is_up() -> bool {
    std::path::Path::new("/run/NetworkManager").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firstboot::{plan, text, wish};

    fn planned(yaml: &str, state: Option<&str>) -> Plan {
        let wish = wish::read(text::read(yaml).unwrap()).unwrap();
        let mut board = Board { network_manager: true, ..Board::default() };
        board.files.extend(state.map(|state| (STATE, state.to_owned())));
        plan::plan(&wish, &board).unwrap()
    }

    fn file(plan: &Plan, path: &str) -> Option<String> {
        let file = plan.files.iter().find(|file| file.path == path)?;
        let secret = path == WIFI || path == WIRED;
        assert_eq!(file.mode, if secret { 0o600 } else { 0o644 }, "{path}");
        Some(file.text.strip_prefix(plan::OURS).unwrap_or(&file.text).to_owned())
    }

    #[test]
    fn wifi_is_a_profile_and_the_country_the_kernels() {
        let yaml = "wifi: {ssid: \"a;[x]\", password: 12345678, country: de}\n";
        let plan = planned(yaml, Some("[main]\nWirelessEnabled=false\n"));
        let key = crate::firstboot::wifi::key("a;[x]", "12345678");
        let wanted = format!(
            "[connection]\nid=edged-wifi\nuuid={WIFI_UUID}\ntype=wifi\nautoconnect-priority=10\n\n\
             [wifi]\nmode=infrastructure\nssid=97;59;91;120;93;\nhidden=true\n\n\
             [wifi-security]\nkey-mgmt=wpa-psk\npsk={key}\n\n\
             [ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
        );
        assert_eq!(file(&plan, WIFI), Some(wanted));
        assert_eq!(file(&plan, COUNTRY).as_deref(), Some("options cfg80211 ieee80211_regdom=DE\n"));
        assert_eq!(file(&plan, STATE).as_deref(), Some("[main]\nWirelessEnabled=true\n"));
        assert!(plan.radio_on && file(&plan, WIRED).is_none());
        for path in [plan::WPA, plan::WIRELESS, plan::WIRED] {
            assert_eq!(file(&plan, path), None, "nobody reads it");
        }
        // Where nothing may be sent yet, nothing is.
        let plan = planned("wifi: {ssid: a}\n", Some("[main]\nWirelessEnabled=false\n"));
        assert!(!plan.radio_on && file(&plan, STATE).is_none() && file(&plan, COUNTRY).is_none());
        assert!(!file(&plan, WIFI).unwrap().contains("wifi-security"), "an open network");
    }

    #[test]
    fn addresses_are_of_the_link_that_they_are_for() {
        let fixed = "address: 10.0.0.9/24\ngateway: 10.0.0.1\n";
        let manual = "[ipv4]\nmethod=manual\naddress1=10.0.0.9/24\ngateway=10.0.0.1\n";
        let wired = file(&planned(fixed, None), WIRED).unwrap();
        let auto = "\n[ipv6]\nmethod=auto\n";
        assert!(wired.ends_with(&format!("{manual}dns=10.0.0.1;\n{auto}")), "{wired}");
        assert!(wired.contains("type=ethernet\n"), "{wired}");
        let yaml = format!("{fixed}dns: [9.9.9.9, '2620:fe::fe']\nwifi: {{ssid: a}}\n");
        let plan = planned(&yaml, None);
        let ignored = "[ipv6]\nmethod=auto\ndns=2620:fe::fe;\nignore-auto-dns=true\n";
        let radio = file(&plan, WIFI).unwrap();
        assert!(radio.ends_with(&format!("{manual}dns=9.9.9.9;\n\n{ignored}")), "{radio}");
        let cable = file(&plan, WIRED).unwrap();
        let wanted =
            format!("[ipv4]\nmethod=auto\ndns=9.9.9.9;\nignore-auto-dns=true\n\n{ignored}");
        assert!(cable.ends_with(&wanted), "{cable}");
        let six = file(&planned("address: 'fd00::9/64'\ngateway: 'fd00::1'\n", None), WIRED);
        let wanted = "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=manual\naddress1=fd00::9/64\n\
                      gateway=fd00::1\ndns=fd00::1;\n";
        assert!(six.as_ref().is_some_and(|text| text.ends_with(wanted)), "{six:?}");
        assert!(file(&planned("name: a\n", None), WIRED).is_none(), "nobody asked for anything");
    }
}
