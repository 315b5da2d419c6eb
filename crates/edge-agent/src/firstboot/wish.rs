//! What a person asks for in `edged.yaml`, each value checked for itself. Whether it fits the board
//! is seen in `plan`.

use std::net::IpAddr;

use edge_server::join::{Role, Token};

use super::text::{Entry, Mistake, Scalar, Value, nearest};
use super::wifi::Wifi;
use crate::config;

/// The word that stands in the file for a secret which the board has taken.
pub(super) const STORED: &str = "stored";

const KEYS: [&str; 10] =
    ["name", "role", "join", "token", "wifi", "address", "gateway", "dns", "ssh-key", "timezone"];
const WIFI_KEYS: [&str; 3] = ["ssid", "password", "country"];

/// A secret of the file, and where it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// The board took it earlier.
    Stored(usize),
    New(Scalar),
}

impl Secret {
    fn of(scalar: Scalar) -> Secret {
        match scalar.text == STORED {
            true => Secret::Stored(scalar.line),
            false => Secret::New(scalar),
        }
    }

    pub(super) fn line(&self) -> usize {
        match self {
            Secret::Stored(line) => *line,
            Secret::New(scalar) => scalar.line,
        }
    }
}

/// A value and its line.
pub(super) type At<T> = (T, usize);

/// What the file asks for.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) name: Option<String>,
    pub(super) role: Option<At<Role>>,
    pub(super) join: Vec<String>,
    /// The line of `join`.
    pub(super) join_line: usize,
    pub(super) token: Option<Secret>,
    pub(super) wifi: Option<Wifi>,
    /// An address with its prefix length.
    pub(super) address: Option<(IpAddr, u8)>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) ssh_keys: Vec<String>,
    pub(super) timezone: Option<At<String>>,
}

/// Reads the keys.
///
/// # Errors
/// The first value that can't be used.
pub(super) fn read(entries: Vec<Entry>) -> Result<Wish, Mistake> {
    let mut wish = Wish::default();
    let (mut address_line, mut gateway_line, mut dns_line) = (0, 0, 0);
    for Entry { key, line, value } in entries {
        let fail = |what: String| Mistake::at(line, format!("{key}: {what}"));
        if !KEYS.contains(&key.as_str()) {
            return Err(unknown(&key, line, &KEYS, ""));
        }
        if value == Value::Empty {
            continue;
        }
        match key.as_str() {
            "wifi" => wish.wifi = Some(wifi(value, line)?),
            "join" => {
                wish.join_line = line;
                wish.join = each(&key, value, line, |text| {
                    config::join_url(text).map_err(|e| e.to_string())
                })?;
            }
            "dns" => {
                dns_line = line;
                wish.dns = each(&key, value, line, ip)?;
            }
            "ssh-key" => wish.ssh_keys = each(&key, value, line, ssh_key)?,
            _ => {
                let word = one(&key, value, line)?;
                let text = word.text.as_str();
                match key.as_str() {
                    "name" => wish.name = Some(name(text).map_err(fail)?),
                    "role" => wish.role = Some((role(text).map_err(fail)?, line)),
                    "token" => wish.token = Some(token(word).map_err(fail)?),
                    "timezone" => wish.timezone = Some((zone(text).map_err(fail)?, line)),
                    "gateway" => {
                        gateway_line = line;
                        wish.gateway = Some(ip(text).map_err(fail)?);
                    }
                    _ => {
                        address_line = line;
                        wish.address = Some(address(text).map_err(fail)?);
                    }
                }
            }
        }
    }
    way_out(&wish, address_line, gateway_line)?;
    if wish.address.is_some_and(|(ip, _)| ip.is_ipv6())
        && let Some(server) = wish.dns.iter().find(|server| server.is_ipv4())
    {
        let what = format!("dns: {server} is not reached from the IPv6 address alone");
        return Err(Mistake::at(dns_line, what));
    }
    Ok(wish)
}

/// The keys that may let people in of a file that can't be taken: those which are good by
/// themselves.
pub(super) fn ssh_keys(text: &str) -> Vec<String> {
    let values = super::text::alone(text, "ssh-key").into_iter();
    values.filter_map(|value| ssh_key(&value.text).ok()).collect()
}

fn unknown(key: &str, line: usize, known: &[&str], within: &str) -> Mistake {
    let part = || known.iter().find(|name| key.ends_with(**name) || key.starts_with(**name));
    let hint = match nearest(key, known).or_else(|| part().copied()) {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("the keys{within} are {}", known.join(", ")),
    };
    Mistake::at(line, format!("{key:?} is no key{within}: {hint}"))
}

fn one(key: &str, value: Value, line: usize) -> Result<Scalar, Mistake> {
    match value {
        Value::Scalar(scalar) => Ok(scalar),
        Value::List(_) => Err(Mistake::at(line, format!("{key}: one value, not a list"))),
        _ => Err(Mistake::at(line, format!("{key}: one value, with nothing beneath it"))),
    }
}

/// One value or a list of them.
fn each<T>(
    key: &str,
    value: Value,
    line: usize,
    of: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Mistake> {
    let items = match value {
        Value::List(items) => items,
        other => vec![one(key, other, line)?],
    };
    let made = items.iter().map(|item| {
        of(&item.text).map_err(|what| {
            // The setting of the same name says it with its name.
            let what = what.strip_prefix("join: ").unwrap_or(&what);
            Mistake::at(item.line, format!("{key}: {what}"))
        })
    });
    made.collect()
}

fn wifi(value: Value, line: usize) -> Result<Wifi, Mistake> {
    let Value::Map(entries) = value else {
        let what = "wifi: write ssid, password and country beneath it, each on a line of its own";
        return Err(Mistake::at(line, what));
    };
    let (mut ssid, mut password, mut country) = (None, None, None);
    for Entry { key, line, value } in entries {
        if !WIFI_KEYS.contains(&key.as_str()) {
            return Err(unknown(&key, line, &WIFI_KEYS, " of wifi"));
        }
        if value == Value::Empty {
            continue;
        }
        let word = one(&key, value, line)?;
        let fail = |what: String| Mistake::at(line, format!("wifi: {key}: {what}"));
        if word.commented && key != "country" && word.text != STORED {
            return Err(fail("what follows ` #` is a comment: put the value in '…'".to_owned()));
        }
        match key.as_str() {
            "ssid" => ssid = Some(super::wifi::ssid(&word.text).map_err(fail)?),
            "country" => country = Some(super::wifi::country(&word.text).map_err(fail)?),
            _ => {
                let secret = Secret::of(word);
                if let Secret::New(word) = &secret {
                    super::wifi::password(&word.text).map_err(fail)?;
                }
                password = Some(secret);
            }
        }
    }
    let ssid = ssid.ok_or_else(|| Mistake::at(line, "wifi: the ssid is missing"))?;
    Ok(Wifi { ssid, password, country })
}

/// A host's name, as a cluster wants it.
fn name(text: &str) -> Result<String, String> {
    let good = edge_api::names::dns1123_label;
    if good(text).is_empty() {
        return Ok(text.to_owned());
    }
    let mapped = text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let better = mapped.trim_matches('-');
    let hint = match good(better).is_empty() {
        true => format!(", such as {better:?}"),
        false => String::new(),
    };
    Err(format!("{text:?} is no host name: 1 to 63 of a-z, 0-9 and '-'{hint}"))
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| match nearest(text, &["server", "agent"]) {
        Some(word) => format!("{text:?} is neither server nor agent: did you mean {word:?}?"),
        None => format!("{text:?} is neither server nor agent"),
    })
}

fn token(word: Scalar) -> Result<Secret, String> {
    let secret = Secret::of(word);
    if let Secret::New(word) = &secret {
        Token::parse(&word.text).map_err(|error| error.to_string())?;
    }
    Ok(secret)
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IP address such as 192.168.1.1"))
}

fn address(text: &str) -> Result<(IpAddr, u8), String> {
    let want = || format!("{text:?} is no address with its network, such as 192.168.1.20/24");
    let (ip, bits) = text.split_once('/').ok_or_else(want)?;
    let ip: IpAddr = ip.parse().map_err(|_| want())?;
    let bits: u8 = bits.parse().map_err(|_| want())?;
    let widest = if ip.is_ipv4() { 32 } else { 128 };
    if bits == 0 || bits > widest || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return Err(want());
    }
    let host = bits_of(ip) & !mask(bits, widest);
    if let IpAddr::V4(_) = ip
        && bits < 31
        && (host == 0 || host == !mask(bits, widest) & mask(32, 32))
    {
        return Err(format!(
            "{text:?} is the network's own or its broadcast address, not a host's"
        ));
    }
    Ok((ip, bits))
}

fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The first `bits` of `widest` are ones.
fn mask(bits: u8, widest: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(widest));
    let low = u32::from(widest - bits);
    all & u128::MAX.checked_shl(low).unwrap_or(0)
}

/// Whether the gateway can be reached from the address.
fn way_out(wish: &Wish, address_line: usize, gateway_line: usize) -> Result<(), Mistake> {
    let Some(gateway) = wish.gateway else { return Ok(()) };
    let Some((ip, bits)) = wish.address else {
        let what = "gateway: only with an address: without one, the network gives both (DHCP)";
        return Err(Mistake::at(gateway_line, what));
    };
    let widest = if ip.is_ipv4() { 32 } else { 128 };
    let apart = (bits_of(ip) ^ bits_of(gateway)) & mask(bits, widest) != 0;
    if ip.is_ipv4() != gateway.is_ipv4() || apart || ip == gateway {
        let what = format!(
            "gateway: {gateway} is not another host of {ip}/{bits} in line \
                            {address_line}"
        );
        return Err(Mistake::at(gateway_line, what));
    }
    Ok(())
}

fn ssh_key(text: &str) -> Result<String, String> {
    if text.contains("PRIVATE KEY") {
        return Err("that is a private key: write the line of the .pub file".to_owned());
    }
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let known = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519@", "sk-ecdsa-sha2-"];
    let body = words.next().unwrap_or_default();
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    let good = known.iter().any(|start| kind.starts_with(start))
        && body.starts_with("AAAA")
        && body.bytes().all(base64);
    match good {
        true => Ok(text.to_owned()),
        false => Err("it is no public key such as `ssh-ed25519 AAAA… you@laptop`".to_owned()),
    }
}

fn zone(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-/".contains(c);
    let good = text.chars().all(plain) && text.split('/').all(|part| !part.is_empty());
    good.then(|| text.to_owned()).ok_or(format!("{text:?} is no time zone such as Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firstboot::text;

    fn wish(text: &str) -> Result<Wish, Mistake> {
        read(text::read(text)?)
    }

    #[test]
    fn everything_that_can_be_said() {
        let token = Token::create(&"p".repeat(43)).unwrap().to_string();
        let text = format!(
            "name: kitchen\nrole: server\njoin: [auto, 'https://a.lan']\ntoken: {token}\n\
             wifi:\n  ssid: Café\n  password: 12345678\n  country: de\naddress: 10.0.0.9/24\n\
             gateway: 10.0.0.1\ndns: 10.0.0.1\nssh-key: ssh-ed25519 AAAAC3 me\n\
             timezone: Europe/Berlin\n"
        );
        let wish = wish(&text).unwrap();
        assert_eq!(wish.join, ["auto", "https://a.lan:6443"]);
        assert_eq!(wish.role, Some((Role::Server, 2)));
        assert_eq!(wish.wifi.unwrap().country.as_deref(), Some("DE"));
        assert_eq!(wish.dns, [wish.gateway.unwrap()]);
        let Some(Secret::New(scalar)) = wish.token else { panic!("a token") };
        assert_eq!(&text[scalar.span], token);
    }

    #[test]
    fn nothing_is_a_wish_as_well() {
        let wish = wish("# edged\nname:\nwifi:\n  \njoin: []\n").unwrap();
        assert!(wish.name.is_none() && wish.wifi.is_none() && wish.join.is_empty());
    }

    #[test]
    fn each_mistake_is_named_with_what_to_do() {
        let long = "x".repeat(33);
        for (text, line, words) in [
            ("hostnam: a\n", 1, "the keys are name, role"),
            ("\njion: auto\n", 2, "\"jion\" is no key: did you mean \"join\"?"),
            ("name: Living Room\n", 1, "such as \"living-room\""),
            ("name: [a]\n", 1, "not a list"),
            ("name: ---\n", 1, "no host name"),
            ("role: master\n", 1, "neither server nor agent"),
            ("role: sever\n", 1, "did you mean \"server\"?"),
            ("join: kitchen\n", 1, "join: \"kitchen\" is not a server such as"),
            ("join:\n - a.lan\n - ftp://x\n", 3, "is not a server"),
            ("token: hunter2\n", 1, "does not begin with \"edged1.\""),
            ("token: edged1.abc\n", 1, "token: not a joining token"),
            ("wifi: Home\n", 1, "write ssid, password and country beneath it"),
            ("wifi: {sid: a}\n", 1, "\"sid\" is no key of wifi: did you mean \"ssid\"?"),
            ("wifi:\n  password: 12345678\n", 1, "the ssid is missing"),
            (&format!("wifi: {{ssid: {long}}}\n"), 1, "33 bytes"),
            ("wifi:\n  ssid: a\n  password: short\n", 3, "5 characters"),
            ("wifi: {ssid: a, country: Germany}\n", 1, "two letters"),
            ("address: 192.168.1.20\n", 1, "192.168.1.20/24"),
            ("address: 192.168.1.0/24\n", 1, "the network's own"),
            ("address: 192.168.1.255/24\n", 1, "broadcast"),
            ("address: 10.0.0.9/24\ngateway: 10.0.1.1\n", 2, "not another host"),
            ("gateway: 10.0.1.1\n", 1, "only with an address"),
            ("dns: example.org\n", 1, "no IP address"),
            ("dns: 9.9.9.9\naddress: 'fd00::9/64'\n", 1, "not reached from the IPv6 address"),
            ("ssh-key: '-----BEGIN OPENSSH PRIVATE KEY-----'\n", 1, ".pub file"),
            ("ssh-key: AAAA\n", 1, "no public key"),
            ("timezone: ../shadow\n", 1, "no time zone"),
        ] {
            let mistake = wish(text).unwrap_err();
            let good = mistake.line == line && mistake.what.contains(words);
            assert!(good && !mistake.what.contains('\n'), "{text}: {mistake}");
            assert!(!mistake.what.contains("hunter2"), "{mistake}");
        }
    }
}
