//! Headers between one side and the other: what was meant for the connection alone stays behind,
//! and what is said of the client is what we saw, not what it says of itself.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// What was meant for the connection.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What is answered here, and what others may have said of the client and we don't believe.
static DROPPED: [HeaderName; 10] = [
    EXPECT,
    // Speaks of a change of protocol that is not passed on.
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-original-forwarded-for"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("true-client-ip"),
];

/// Who asks, and how.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) ip: IpAddr,
    pub(super) tls: bool,
    /// `ip`, as headers say it.
    name: Option<HeaderValue>,
}

impl Client {
    /// Who asks from this address.
    pub(super) fn new(ip: IpAddr, tls: bool) -> Client {
        Client { ip, tls, name: HeaderValue::from_str(&ip.to_string()).ok() }
    }
}

/// Takes out what was meant for the connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    listed.iter().for_each(|name| drop(headers.remove(name)));
    remove(headers, &HOP_BY_HOP);
}

/// Takes out all of these. To compare the few that are there is less work than to hash each that
/// may be.
fn remove(headers: &mut HeaderMap, names: &'static [HeaderName]) {
    while let Some(found) = headers.keys().find_map(|key| names.iter().find(|name| *name == key)) {
        headers.remove(found);
    }
}

/// Takes out names with an underscore: many programs read `X_Real_IP` as `X-Real-IP`.
fn remove_lookalikes(headers: &mut HeaderMap) {
    let odd = |headers: &HeaderMap| headers.keys().find(|key| key.as_str().contains('_')).cloned();
    while let Some(name) = odd(headers) {
        headers.remove(name);
    }
}

/// The protocol that a request asks to change to. HTTP/2 is none: by that a client would speak to
/// the backend past every rule, and past what we say of it.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let mut tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        .then(|| protocol.clone())
        .filter(|protocol| {
            let mut all = protocol.as_bytes().split(|byte| *byte == b',');
            !all.any(|one| one.trim_ascii().to_ascii_lowercase().starts_with(b"h2"))
        })
}

/// Makes a client's headers into those for a backend. `http2`: it speaks that.
pub(super) fn forward(
    headers: &mut HeaderMap,
    client: &Client,
    authority: HeaderValue,
    http2: bool,
) {
    let trailers = http2 && takes_trailers(headers);
    strip(headers);
    remove(headers, &DROPPED);
    remove_lookalikes(headers);
    if http2 {
        headers.remove(HOST);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    } else {
        one_cookie(headers);
        // Every request of HTTP/1.1 has one, if an empty one.
        headers.insert(HOST, authority.clone());
    }
    if let Some(ip) = &client.name {
        headers.insert(REAL_IP, ip.clone());
        headers.insert(FORWARDED_FOR, ip.clone());
    }
    let proto = if client.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(FORWARDED_HOST, authority);
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|value| {
        let mut tokens = value.to_str().unwrap_or_default().split(',');
        tokens.any(|token| token.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// HTTP/2 may split cookies, HTTP/1.1 has one line of them.
fn one_cookie(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_a_client_says_of_itself_is_replaced() {
        let mut headers = map(&[
            ("host", "evil"),
            ("connection", "close, X-Secret, x-real-ip"),
            ("x-secret", "1"),
            ("x-real-ip", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "https"),
            ("x_forwarded_for", "1.2.3.4"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("forwarded", "for=1.2.3.4"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept", "*/*"),
        ]);
        let client = |tls| Client::new("192.0.2.9".parse().unwrap(), tls);
        let mut other = headers.clone();
        forward(&mut headers, &client(false), HeaderValue::from_static("a.org:80"), false);
        let want = map(&[
            ("accept", "*/*"),
            ("cookie", "a=1; b=2"),
            ("host", "a.org:80"),
            ("x-real-ip", "192.0.2.9"),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.org:80"),
        ]);
        assert_eq!(headers, want);
        forward(&mut other, &client(true), HeaderValue::from_static("a.org"), true);
        assert_eq!(other.get(TE).unwrap(), "trailers");
        assert_eq!(other.get(FORWARDED_PROTO).unwrap(), "https");
        assert!(other.get(HOST).is_none());
    }

    #[test]
    fn an_upgrade_needs_both_lines() {
        let asks = |lines: &[(&str, &str)]| upgrade(&map(lines)).is_some();
        assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(&[("upgrade", "websocket")]));
        assert!(!asks(&[("connection", "upgrade")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", "websocket, H2C")]));
    }
}
