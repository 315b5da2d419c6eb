//! Where a request wants to go: its host and its path, as far as they can be trusted.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Version};

const NO_NAME: &str = "the host is no name";

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// In lower case, without its port: what routes are found by.
    pub(super) host: String,
    /// As the client says it; what a name may be made of, or empty.
    pub(super) authority: HeaderValue,
}

/// Reads a request's target; in words why it is refused.
pub(super) fn read<B>(request: &Request<B>) -> Result<Target, &'static str> {
    let named = request.uri().authority().map(Authority::as_str);
    let header = host_header(request.headers())?;
    let authority = match (named, header) {
        // What an absolute URL says counts; with HTTP/2 both must say the same.
        (Some(named), Some(header))
            if request.version() == Version::HTTP_2
                && !named.as_bytes().eq_ignore_ascii_case(header.as_bytes()) =>
        {
            return Err("the host is given twice");
        }
        (Some(named), _) => HeaderValue::from_str(named).map_err(|_| NO_NAME)?,
        (None, Some(header)) => header.clone(),
        (None, None) if request.version() < Version::HTTP_11 => HeaderValue::from_static(""),
        (None, None) => return Err("the host is missing"),
    };
    if dots(request.uri().path()) {
        return Err("the path has segments that lead elsewhere");
    }
    let host = host(authority.to_str().map_err(|_| NO_NAME)?)?;
    Ok(Target { host, authority })
}

fn host_header(headers: &HeaderMap) -> Result<Option<&HeaderValue>, &'static str> {
    let mut all = headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (Some(_), Some(_)) => Err("the host is given twice"),
        (one, _) => Ok(one),
    }
}

/// The name without its port.
fn host(authority: &str) -> Result<String, &'static str> {
    let (name, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(port) => port.is_empty() || port.parse::<u16>().is_ok(),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name_fits = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(fits),
    };
    if !(port_fits && name_fits) {
        return Err(NO_NAME);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    Ok(name.to_ascii_lowercase())
}

/// Whether a path has `.` or `..` among its segments, written out or escaped: no client sends
/// those, and what is routed by one path must not be read as another behind.
fn dots(path: &str) -> bool {
    let dotted = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    // Most paths have no dot next to a slash: look twice only where there is a suspicion.
    (path.contains("/.") || path.contains(['%', '\\'])) && path.split(['/', '\\']).any(dotted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, hosts: &[&str], version: Version) -> Result<String, &'static str> {
        let mut request = Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        read(&request.body(()).unwrap()).map(|target| target.host)
    }

    #[test]
    fn hosts_and_paths() {
        let one = Version::HTTP_11;
        assert_eq!(of("/", &["A.Example.org:8080"], one), Ok("a.example.org".to_owned()));
        assert_eq!(of("/", &["a.org."], one), Ok("a.org".to_owned()));
        assert_eq!(of("/", &["[::1]:80"], one), Ok("[::1]".to_owned()));
        assert_eq!(of("http://b.org/x", &["a.org"], one), Ok("b.org".to_owned()));
        assert_eq!(of("/", &[], Version::HTTP_10), Ok(String::new()));
        let bad: &[&[&str]] =
            &[&[], &["a", "a"], &["a b"], &["a/b"], &["a:b"], &["a:70000"], &["[::1"], &["a@b"]];
        for hosts in bad {
            assert!(of("/", hosts, one).is_err(), "{hosts:?}");
        }
        assert!(of("http://b.org/x", &["a.org"], Version::HTTP_2).is_err());
        assert!(of("http://b.org/x", &["B.org"], Version::HTTP_2).is_ok());
        for path in ["/a/../b", "/..", "/a/.", "/%2e%2E/b", "/a/.%2e", "/./"] {
            assert!(of(path, &["a"], one).is_err(), "{path}");
        }
        for path in ["/a..b", "/.well-known/x", "/...", "/a%2fb", "/a/b.", "/a?b=/../"] {
            assert!(of(path, &["a"], one).is_ok(), "{path}");
        }
    }
}
