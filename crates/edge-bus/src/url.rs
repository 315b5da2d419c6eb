//! URLs of the user's own brokers: `mqtt://` and `mqtts://`, with what is needed to log in.
//! A URL holds a password, so neither errors nor `Debug` show more than where it leads.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A broker outside the cluster, from `--broker URL`.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalBroker {
    /// An address or a host name.
    pub host: String,
    /// The TCP port: 1883, or 8883 with TLS, unless the URL says otherwise.
    pub port: u16,
    /// `mqtts://`.
    pub tls: bool,
    /// User name, if any.
    pub user: Option<String>,
    /// Password, if any.
    pub password: Option<String>,
    /// PEM file of the authorities to trust; without it the public ones.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ExternalBroker {
    /// The URL without user, password and files: for logs.
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let bare = self.host.contains(':');
        let (open, close) = if bare { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl ExternalBroker {
    /// The URL with all of it, password and files too, so that [`parse_broker`] gives the same
    /// broker wherever the program is started: for a file that is for nobody else to read.
    pub fn secret_url(&self) -> String {
        let coded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let shown = self.shown();
        let (scheme, place) = shown.split_once("://").unwrap_or(("mqtt", &shown));
        let login = self.user.as_deref().map_or_else(String::new, |user| {
            let password = self.password.as_deref().map(|word| format!(":{}", coded(word)));
            format!("{}{}@", coded(user), password.unwrap_or_default())
        });
        let (cert, key) = self.identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let files = [("ca", self.ca.as_ref()), ("cert", cert), ("key", key)];
        let files = files.into_iter().filter_map(|(name, path)| {
            let path =
                std::path::absolute(path?).unwrap_or_else(|_| path.cloned().unwrap_or_default());
            Some(format!("{name}={}", coded(&path.to_string_lossy())))
        });
        let files = files.collect::<Vec<_>>().join("&");
        let mark = if files.is_empty() { "" } else { "?" };
        format!("{scheme}://{login}{place}{mark}{files}")
    }
}

impl fmt::Debug for ExternalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExternalBroker({})", self.shown())
    }
}

impl Drop for ExternalBroker {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.password);
    }
}

/// Why a broker URL was refused; shows the URL without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrlError {
    url: String,
    why: String,
}

impl fmt::Display for BrokerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}: {}", self.url, self.why)
    }
}

impl std::error::Error for BrokerUrlError {}

/// Reads `mqtt[s]://[user[:password]@]host[:port][?ca=FILE&cert=FILE&key=FILE]`. Reserved
/// characters in user, password and files are percent-encoded.
///
/// # Errors
/// One line that names the URL without its password and what is wrong with it.
pub fn parse_broker(url: &str) -> Result<ExternalBroker, BrokerUrlError> {
    read(url).map_err(|why| BrokerUrlError { url: without_password(url), why })
}

fn read(url: &str) -> Result<ExternalBroker, String> {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL: use mqtt:// or mqtts://")?;
    let tls = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" => true,
        other => return Err(format!("scheme {other:?}: use mqtt:// or mqtts://")),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    if place.contains('/') {
        return Err("a path has no meaning for a broker".into());
    }
    let (host, port) = host_and_port(place, if tls { 8883 } else { 1883 })?;
    let (user, password) = match login.map(|l| l.split_once(':').map_or((l, None), split)) {
        Some((user, password)) => {
            (Some(decoded("user", user)?), password.map(|p| decoded("password", p)).transpose()?)
        }
        None => (None, None),
    };
    let mut broker = ExternalBroker { host, port, tls, user, password, ca: None, identity: None };
    files(&mut broker, query)?;
    Ok(broker)
}

fn split<'a>((user, password): (&'a str, &'a str)) -> (&'a str, Option<&'a str>) {
    (user, Some(password))
}

fn host_and_port(place: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address lacks its ]")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("{host:?} is no IPv6 address"))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("something stands behind the ]".into()),
        }
    } else {
        place.split_once(':').map_or((place, None), split)
    };
    let ok = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(ok) {
        return Err(format!("host {host:?}: a name or an address is needed"));
    }
    let port = match port {
        None => default,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("port {text:?}: a number from 1 to 65535 is needed")),
        },
    };
    Ok((host.to_owned(), port))
}

fn decoded(what: &str, text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| format!("the {what} is not UTF-8"))?.into_owned();
    if text.contains('\0') || text.len() > 1024 {
        return Err(format!("the {what} is too long or has a NUL in it"));
    }
    Ok(text)
}

fn files(broker: &mut ExternalBroker, query: &str) -> Result<(), String> {
    let (mut cert, mut key) = (None, None);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(format!("option {pair:?} has no value"))?;
        let file = Some(PathBuf::from(decoded(name, value)?));
        match name {
            "ca" => broker.ca = file,
            "cert" => cert = file,
            "key" => key = file,
            _ => return Err(format!("unknown option {name:?}: there are ca, cert and key")),
        }
    }
    let any = broker.ca.is_some() || cert.is_some() || key.is_some();
    if any && !broker.tls {
        return Err("certificates need mqtts://".into());
    }
    broker.identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("cert and key come together".into()),
    };
    Ok(())
}

/// The URL as it may be shown: whatever may be a password is gone, also from what is no URL.
fn without_password(url: &str) -> String {
    let cut: String = url.chars().filter(|c| !c.is_control()).take(200).collect();
    let Some(at) = cut.rfind('@') else { return format!("{cut:?}") };
    let start = cut.find("://").map_or(0, |i| i + 3).min(at);
    let user = cut[start..at].split(':').next().unwrap_or_default();
    format!("\"{}{user}:***{}\"", &cut[..start], &cut[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let broker = parse_broker("mqtt://broker.lan").unwrap();
        assert_eq!((broker.host.as_str(), broker.port, broker.tls), ("broker.lan", 1883, false));
        let broker = parse_broker("mqtts://u%40x:p%3A%2Fw@10.0.0.1:9000/?ca=/etc/ca.pem").unwrap();
        assert_eq!((broker.host.as_str(), broker.port, broker.tls), ("10.0.0.1", 9000, true));
        assert_eq!(broker.user.as_deref(), Some("u@x"));
        assert_eq!(broker.password.as_deref(), Some("p:/w"));
        assert_eq!(broker.ca, Some("/etc/ca.pem".into()));
        let broker = parse_broker("mqtts://[fd00::1]?cert=a.pem&key=a.key").unwrap();
        assert_eq!((broker.host.as_str(), broker.port), ("fd00::1", 8883));
        assert_eq!(broker.identity, Some(("a.pem".into(), "a.key".into())));
        assert_eq!(broker.shown(), "mqtts://[fd00::1]:8883");
    }

    #[test]
    fn a_secret_url_holds_all_of_it() {
        for url in [
            "mqtt://broker.lan",
            "mqtt://me@[fd00::1]:7",
            "mqtts://u%40x:p%3A%2Fw,%0A@10.0.0.1:9000/?ca=/etc/ca%26.pem&cert=/a.pem&key=/b%3D",
        ] {
            let broker = parse_broker(url).unwrap();
            let again = broker.secret_url();
            assert_eq!(parse_broker(&again), Ok(broker), "{again}");
            assert!(!again.contains(['\n', ',']), "{again}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_no_password() {
        for (url, why) in [
            ("broker", "not a URL"),
            ("http://broker", "scheme"),
            ("mqtt://", "host"),
            ("mqtt://a:b:c", "port"),
            ("mqtt://a:0", "port"),
            ("mqtt://a:70000", "port"),
            ("mqtt://a/path", "path"),
            ("mqtt://a?ca=/x", "mqtts"),
            ("mqtts://a?cert=/x", "together"),
            ("mqtts://a?colour=/x", "unknown option"),
            ("mqtts://[::1", "]"),
            ("mqtts://[zz]", "IPv6"),
        ] {
            let error = parse_broker(url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains('\n'));
        }
        for url in ["mqtt://me:hunter2@a:b", "me:hunter2@host", "mqtt://me:hun@ter2@a b"] {
            let error = parse_broker(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("ter2@"), "{error}");
            assert!(error.contains("me:***"), "{error}");
        }
    }

    #[test]
    fn a_broker_shows_no_password() {
        let broker = parse_broker("mqtt://me:hunter2@a").unwrap();
        assert_eq!(format!("{broker:?}"), "ExternalBroker(mqtt://a:1883)");
    }
}
