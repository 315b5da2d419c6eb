//! Wi-Fi as `wpa_supplicant` wants it. The password is kept only as the key that it makes with the
//! network's name (PBKDF2, IEEE 802.11-2020, J.4), which opens this network and no other door.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use edge_server::pki::to_hex;

use super::nm;
use super::wish::Secret;

/// Rounds of the key's derivation; the standard's.
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("invariant: not zero");

/// The network to be on.
#[derive(Debug)]
pub(super) struct Wifi {
    pub(super) ssid: String,
    /// None: the network is open.
    pub(super) password: Option<Secret>,
    pub(super) country: Option<String>,
}

/// A network's name: 1 to 32 bytes.
pub(super) fn ssid(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..=32 => Ok(text.to_owned()),
        n => Err(format!("it has {n} bytes, and a network's name has 32 at most")),
    }
}

/// A country's code, which says what may be sent there.
pub(super) fn country(text: &str) -> Result<String, String> {
    let code = text.to_uppercase();
    let good = code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    good.then_some(code).ok_or(format!("{text:?} is not of two letters such as DE, GB or US"))
}

/// A WPA passphrase, or a key of 64 hex digits. It is not repeated in the message.
pub(super) fn password(text: &str) -> Result<(), String> {
    let count = text.chars().count();
    if is_key(text) {
        return Ok(());
    }
    if !(8..=63).contains(&count) {
        return Err(format!("it has {count} characters, and a Wi-Fi password has 8 to 63"));
    }
    match text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true => Ok(()),
        false => Err("it has letters other than those of ASCII, which Wi-Fi does not know".into()),
    }
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The key that a good password makes on this network, in hex.
pub(super) fn key(ssid: &str, password: &str) -> String {
    if is_key(password) {
        return password.to_lowercase();
    }
    let mut key = [0; 32];
    let sha1 = ring::pbkdf2::PBKDF2_HMAC_SHA1;
    ring::pbkdf2::derive(sha1, ROUNDS, ssid.as_bytes(), password.as_bytes(), &mut key);
    to_hex(&key)
}

/// How the network is named in the file; in hex, so that no name can mean anything else.
fn named(ssid: &str) -> String {
    ssid.bytes().fold("ssid=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key that a file which was written earlier has for this network: [`conf`], or a profile.
pub(super) fn stored(conf: &str, ssid: &str) -> Option<String> {
    let mut lines = conf.lines().map(str::trim);
    let named = lines.any(|line| line == named(ssid)) || nm::is_of(conf, ssid);
    named.then_some(())?;
    let key = conf.lines().find_map(|line| line.trim().strip_prefix("psk="))?;
    Some(key.to_owned())
}

/// The configuration; without a key, of an open network.
pub(super) fn conf(wifi: &Wifi, key: Option<&str>) -> String {
    let mut text = "ctrl_interface=/run/wpa_supplicant\n".to_owned();
    if let Some(country) = &wifi.country {
        let _ = writeln!(text, "country={country}");
    }
    // Networks that hide their name are found as well.
    let _ = write!(text, "network={{\n\t{}\n\tscan_ssid=1\n", named(&wifi.ssid));
    let _ = match key {
        Some(key) => {
            write!(text, "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n\tpsk={key}\n")
        }
        None => writeln!(text, "\tkey_mgmt=NONE"),
    };
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_standards() {
        // IEEE 802.11-2020, J.4.2: two of its test vectors.
        let table = [
            (
                "IEEE",
                "password",
                "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e",
            ),
            (
                "ThisIsASSID",
                "ThisIsAPassword",
                "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af",
            ),
        ];
        for (ssid, password, wanted) in table {
            assert_eq!(key(ssid, password), wanted);
        }
        assert_eq!(key("x", &"AB".repeat(32)), "ab".repeat(32));
    }

    #[test]
    fn what_was_written_is_found_again() {
        let wifi = Wifi { ssid: "a\"}\nb".into(), password: None, country: Some("DE".into()) };
        let text = conf(&wifi, Some("00ff"));
        assert_eq!(stored(&text, "a\"}\nb").as_deref(), Some("00ff"));
        assert_eq!(stored(&text, "a"), None);
        assert!(text.contains("country=DE\n") && text.matches("network=").count() == 1, "{text}");
        assert!(conf(&wifi, None).contains("key_mgmt=NONE"));
    }

    #[test]
    fn passwords_have_a_length() {
        for good in ["12345678", &"x".repeat(63), &"a0".repeat(32)] {
            assert_eq!(password(good), Ok(()));
        }
        for bad in ["1234567", &"x".repeat(64), "pässwörter"] {
            let why = password(bad).unwrap_err();
            assert!(!why.contains(bad), "{why}");
        }
    }
}
