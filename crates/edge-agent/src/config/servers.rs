//! `--join`: which servers a board asks to be let in, each as a URL.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use super::{AUTO, ConfigError, File, Settings, bad};

/// Where servers listen unless somebody says otherwise.
const API_PORT: u16 = 6443;

/// The servers to join.
pub(super) fn settle(settings: &Settings, file: &File) -> Result<Vec<String>, ConfigError> {
    let given = if settings.join.is_empty() { &file.join } else { &settings.join };
    given.iter().map(|text| url(text)).collect()
}

/// One server as a URL, or `auto`.
///
/// # Errors
/// When it is neither.
pub(crate) fn url(text: &str) -> Result<String, ConfigError> {
    let text = text.trim().trim_end_matches('/');
    if text == AUTO {
        return Ok(text.to_owned());
    }
    let rest = text.strip_prefix("https://").unwrap_or(text);
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("https://[{rest}]:{API_PORT}"));
    }
    let port = rest.rsplit(']').next().and_then(|end| end.split_once(':')).map(|(_, port)| port);
    // A word alone is more likely a slip than a board's name.
    let named = rest != text || rest.contains(['.', ':']);
    let good = named && !rest.is_empty() && !rest.contains(['/', '@', ' ', '?', '#']);
    let reached = port.is_none_or(|port| port.parse::<NonZeroU16>().is_ok());
    if !good || !reached || rest.parse::<http::uri::Authority>().is_err() {
        return Err(bad("join", text, "a server such as https://192.168.1.10:6443, or auto"));
    }
    Ok(match port {
        Some(_) => format!("https://{rest}"),
        None => format!("https://{rest}:{API_PORT}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_to_join_are_urls() {
        for (typed, wanted) in [
            ("https://a:1/", "https://a:1"),
            ("https://b", "https://b:6443"),
            ("b:6443", "https://b:6443"),
            ("10.0.0.5:7", "https://10.0.0.5:7"),
            ("fd00::1", "https://[fd00::1]:6443"),
            ("[fd00::1]:7", "https://[fd00::1]:7"),
            ("auto", "auto"),
        ] {
            assert_eq!(url(typed), Ok(wanted.to_owned()));
        }
        for typed in ["", "foo", "ftp://x", "https://", "https://a/b", "https://a:99999", "a.lan:0"]
        {
            let error = url(typed).unwrap_err().to_string();
            assert!(error.starts_with("join: ") && error.contains("is not a server"), "{error}");
        }
    }
}
