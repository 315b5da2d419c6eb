//! Headers between one side and the other: what was meant for the connection alone stays behind,
//! and what is said of the client is what we saw, not what it says of itself.

use std::net::IpAddr;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

const HOP_BY_HOP: [HeaderName; 8] = [
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

/// What others may have said of the client, and we don't believe.
const HEARSAY: [HeaderName; 4] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-original-forwarded-for"),
];

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) ip: IpAddr,
    pub(super) tls: bool,
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
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The protocol that a request asks to change to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let asked = tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Makes a client's headers into those for a backend. `http2`: it speaks that.
pub(super) fn forward(headers: &mut HeaderMap, client: Client, authority: &str, http2: bool) {
    let trailers = headers.get_all(TE).iter().any(|value| {
        let mut tokens = value.to_str().unwrap_or_default().split(',');
        tokens.any(|token| token.trim().eq_ignore_ascii_case("trailers"))
    });
    strip(headers);
    for name in HEARSAY.iter().chain([&EXPECT, &HOST]) {
        headers.remove(name);
    }
    let host = HeaderValue::from_str(authority);
    if http2 {
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    } else {
        one_cookie(headers);
        // Every request of HTTP/1.1 has one, if an empty one.
        let host = host.as_ref().map_or(HeaderValue::from_static(""), HeaderValue::clone);
        headers.insert(HOST, host);
    }
    if let Ok(ip) = HeaderValue::from_str(&client.ip.to_string()) {
        headers.insert(REAL_IP, ip.clone());
        headers.insert(FORWARDED_FOR, ip);
    }
    let proto = if client.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    match host {
        Ok(host) => headers.insert(FORWARDED_HOST, host),
        Err(_) => headers.remove(FORWARDED_HOST),
    };
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
            ("forwarded", "for=1.2.3.4"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept", "*/*"),
        ]);
        let client = Client { ip: "192.0.2.9".parse().unwrap(), tls: false };
        let mut other = headers.clone();
        forward(&mut headers, client, "a.org:80", false);
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
        forward(&mut other, Client { tls: true, ..client }, "a.org", true);
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
    }
}
