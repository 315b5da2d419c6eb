//! Where images come from: mirrors, plain HTTP and private certificate authorities, per registry.
//! With no configuration everything is HTTPS, but for registries on this very board.

use super::super::error::ImageError;
use super::super::reference::Reference;
use super::auth::RegistryAuth;
use http::Uri;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// All registries that need something other than the default, by host and port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RegistriesConfig {
    /// `docker.io`, `registry.lan:5000` … as in image references; a mirror's own host, too.
    pub hosts: BTreeMap<String, RegistryConfig>,
}

/// What is special about one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// `http(s)://host[:port][/path]`, asked in this order before the registry itself.
    pub mirrors: Vec<String>,
    /// True for a registry without TLS.
    pub plain_http: bool,
    /// True takes any certificate.
    pub insecure_skip_verify: bool,
    /// PEM file of certificate authorities to trust beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// As `ca_file`, the PEM itself.
    pub ca_pem: Option<String>,
    /// Used when no imagePullSecret fits.
    pub username: Option<String>,
    /// Belongs to `username`.
    pub password: Option<String>,
}

/// How patient to be with registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// For a connection and its TLS handshake.
    pub connect: Duration,
    /// For an answer, and for each next piece of a body.
    pub read: Duration,
    /// Before the first further try; doubles from try to try.
    pub backoff: Duration,
    /// Tries in a row without a byte of progress.
    pub attempts: u32,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            connect: Duration::from_secs(15),
            read: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            attempts: 5,
        }
    }
}

/// How to reach an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    /// This board: HTTPS is tried first, then HTTP.
    Loopback,
}

/// One place to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    /// Host and port, as a URL has them.
    pub(super) authority: String,
    /// Before `/v2/`; no slash at the end.
    pub(super) prefix: String,
    /// The registry that a mirror stands in for.
    pub(super) mirrors: Option<String>,
}

const HUB: &str = "docker.io";
const HUB_ENDPOINT: &str = "registry-1.docker.io";

impl RegistriesConfig {
    /// Refuses mirrors that are no URLs, at start rather than at the first pull.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        for (host, config) in &self.hosts {
            for mirror in &config.mirrors {
                mirror_endpoint(host, mirror)?;
            }
        }
        Ok(())
    }

    /// The places to ask, in order.
    pub(super) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, ImageError> {
        let registry = reference.registry();
        let config = self.hosts.get(registry);
        let mut endpoints = Vec::new();
        for mirror in config.iter().flat_map(|config| &config.mirrors) {
            endpoints.push(mirror_endpoint(registry, mirror)?);
        }
        let scheme = match config {
            Some(config) if config.plain_http => Scheme::Http,
            _ if is_loopback(registry) => Scheme::Loopback,
            _ => Scheme::Https,
        };
        let authority = if registry == HUB { HUB_ENDPOINT } else { registry };
        endpoints.push(Endpoint {
            scheme,
            authority: authority.to_string(),
            prefix: String::new(),
            mirrors: None,
        });
        Ok(endpoints)
    }

    /// What is configured for a host that is being talked to.
    pub(super) fn host(&self, authority: &str) -> Option<&RegistryConfig> {
        let name = if authority == HUB_ENDPOINT { HUB } else { authority };
        self.hosts.get(name)
    }

    /// Credentials to try with an endpoint, best first; none means anonymously.
    pub(super) fn credentials(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        secrets: &[RegistryAuth],
    ) -> Vec<RegistryAuth> {
        let image = match &endpoint.mirrors {
            None => reference.name(),
            Some(_) => format!("{}/{}", endpoint.authority, reference.repository()),
        };
        let found = RegistryAuth::matching(secrets, &image);
        if !found.is_empty() {
            return found;
        }
        let configured = self.host(&endpoint.authority).and_then(|config| {
            Some(RegistryAuth::basic(
                &endpoint.authority,
                config.username.as_deref()?,
                config.password.as_deref().unwrap_or_default(),
            ))
        });
        configured.into_iter().collect()
    }
}

fn mirror_endpoint(registry: &str, mirror: &str) -> Result<Endpoint, ImageError> {
    let bad = || ImageError::Config {
        detail: format!("mirror \"{mirror}\" of {registry} is no http:// or https:// URL"),
    };
    let uri: Uri = mirror.parse().map_err(|_| bad())?;
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(bad()),
    };
    let authority = uri.authority().ok_or_else(bad)?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(bad());
    }
    let path = uri.path().trim_end_matches('/');
    Ok(Endpoint {
        scheme,
        authority: authority.to_string(),
        prefix: path.strip_suffix("/v2").unwrap_or(path).to_string(),
        mirrors: Some(registry.to_string()),
    })
}

/// True for names and addresses that mean this board.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RegistriesConfig {
        serde_json::from_value(serde_json::json!({
            "docker.io": {"mirrors": ["http://cache.lan:5000/hub/v2", "https://other.lan/"]},
            "registry.lan:5000": {"plainHttp": true, "username": "me", "password": "pw"},
        }))
        .unwrap()
    }

    fn ask(name: &str) -> Vec<String> {
        let reference = Reference::parse(name).unwrap();
        let endpoints = config().endpoints(&reference).unwrap();
        endpoints.iter().map(|e| format!("{:?} {}{}", e.scheme, e.authority, e.prefix)).collect()
    }

    #[test]
    fn mirrors_come_first_and_loopback_may_be_plain() {
        assert_eq!(
            ask("nginx"),
            ["Http cache.lan:5000/hub", "Https other.lan", "Https registry-1.docker.io"]
        );
        assert_eq!(ask("registry.lan:5000/a"), ["Http registry.lan:5000"]);
        assert_eq!(ask("localhost:5000/a"), ["Loopback localhost:5000"]);
        assert_eq!(ask("127.0.0.2/a"), ["Loopback 127.0.0.2"]);
        assert_eq!(ask("[::1]:5000/a"), ["Loopback [::1]:5000"]);
        assert_eq!(ask("10.0.0.1:5000/a"), ["Https 10.0.0.1:5000"]);
    }

    #[test]
    fn configured_credentials_are_the_last_resort() {
        let config = config();
        let reference = Reference::parse("registry.lan:5000/a").unwrap();
        let endpoint = config.endpoints(&reference).unwrap().remove(0);
        assert_eq!(config.credentials(&endpoint, &reference, &[])[0].username, "me");
        let secret = RegistryAuth::basic("registry.lan:5000", "you", "x");
        let found = config.credentials(&endpoint, &reference, &[secret]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].username, "you");
    }

    #[test]
    fn a_registrys_secret_never_goes_to_its_mirror() {
        let config = config();
        let reference = Reference::parse("nginx").unwrap();
        let secret = RegistryAuth::basic("https://index.docker.io/v1/", "me", "x");
        let counts: Vec<usize> = config
            .endpoints(&reference)
            .unwrap()
            .iter()
            .map(|e| config.credentials(e, &reference, std::slice::from_ref(&secret)).len())
            .collect();
        assert_eq!(counts, [0, 0, 1]);
    }

    #[test]
    fn bad_mirrors_and_keys_are_told() {
        for mirror in ["cache.lan", "ftp://x", "http://me:pw@x", "", "https://x/?a=b"] {
            let mut config = RegistriesConfig::default();
            let host = RegistryConfig { mirrors: vec![mirror.into()], ..<_>::default() };
            config.hosts.insert("docker.io".into(), host);
            assert!(config.check().is_err(), "{mirror}");
        }
        let unknown = serde_json::json!({"docker.io": {"mirrorz": []}});
        assert!(serde_json::from_value::<RegistriesConfig>(unknown).is_err());
    }
}
