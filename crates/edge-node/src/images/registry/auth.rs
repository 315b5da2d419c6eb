//! Credentials for registries: what imagePullSecrets hold, and which of them fit an image. The
//! matching is the kubelet's, globs, ports, path prefixes, order and all.

use super::super::error::ImageError;
use super::super::manifest::not_json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// One entry of a `.dockerconfigjson` or `.dockercfg`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// Host, port and path that it is for; host parts may be globs.
    key: String,
    pub(super) username: String,
    pub(super) password: String,
    /// A refresh token, in place of a password.
    pub(super) identity_token: String,
}

/// Docker Hub has gone by this name in configurations for ever.
const HUB_KEY: &str = "index.docker.io";

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

impl RegistryAuth {
    /// A user and a password for one registry.
    pub fn basic(registry: &str, username: &str, password: &str) -> RegistryAuth {
        RegistryAuth {
            key: key(registry),
            username: username.to_string(),
            password: password.to_string(),
            identity_token: String::new(),
        }
    }

    /// Reads the value of `.dockerconfigjson` in a secret of type
    /// `kubernetes.io/dockerconfigjson`.
    pub fn from_docker_config_json(bytes: &[u8]) -> Result<Vec<RegistryAuth>, ImageError> {
        let what = ".dockerconfigjson of an imagePullSecret";
        let config: ConfigJson = serde_json::from_slice(bytes)
            .map_err(|e| ImageError::malformed(what, not_json(bytes, &e)))?;
        entries(what, config.auths)
    }

    /// Reads the value of `.dockercfg` in a secret of type `kubernetes.io/dockercfg`.
    pub fn from_dockercfg(bytes: &[u8]) -> Result<Vec<RegistryAuth>, ImageError> {
        let what = ".dockercfg of an imagePullSecret";
        let auths: BTreeMap<String, Entry> = serde_json::from_slice(bytes)
            .map_err(|e| ImageError::malformed(what, not_json(bytes, &e)))?;
        entries(what, auths)
    }

    /// Those that fit `image`, a complete name without tag, the most specific first.
    pub(super) fn matching(all: &[RegistryAuth], image: &str) -> Vec<RegistryAuth> {
        let mut found: Vec<RegistryAuth> =
            all.iter().filter(|auth| matches(&auth.key, image)).cloned().collect();
        if found.is_empty() && image.starts_with("docker.io/") {
            found = all.iter().filter(|auth| auth.key == HUB_KEY).cloned().collect();
        }
        found.sort_by(|a, b| b.key.cmp(&a.key));
        found
    }

    /// The value of a `Basic` authorization header.
    pub(super) fn header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

/// Never the password: errors and logs print this.
impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryAuth({} as {:?})", self.key, self.username)
    }
}

fn entries(what: &str, auths: BTreeMap<String, Entry>) -> Result<Vec<RegistryAuth>, ImageError> {
    auths
        .into_iter()
        .map(|(registry, entry)| {
            let mut auth = RegistryAuth::basic(&registry, &entry.username, &entry.password);
            auth.identity_token = entry.identitytoken;
            if !entry.auth.is_empty() {
                let bad = |why: &str| {
                    ImageError::malformed(what, format!("auth of \"{registry}\" {why}"))
                };
                let text = STANDARD
                    .decode(entry.auth.trim())
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| bad("is no base64 text"))?;
                let (username, password) =
                    text.split_once(':').ok_or_else(|| bad("is not user:password"))?;
                auth.username = username.to_string();
                auth.password = password.trim_end_matches('\0').to_string();
            }
            Ok(auth)
        })
        .collect()
}

/// Host and path, without scheme and without the API version that old configurations have.
fn key(registry: &str) -> String {
    let bare = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    let (host, path) = match bare.find('/') {
        None => (bare, ""),
        Some(at) => bare.split_at(at),
    };
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => &path[3..],
        _ => path,
    };
    if path == "/" { host.to_string() } else { format!("{host}{path}") }
}

fn matches(key: &str, image: &str) -> bool {
    let split = |text: &str| match text.find('/') {
        None => (text.to_string(), String::new()),
        Some(at) => (text[..at].to_string(), text[at..].to_string()),
    };
    let (glob_host, glob_path) = split(key);
    let (host, path) = split(image);
    let (glob_name, glob_port) = port(&glob_host);
    let (name, its_port) = port(&host);
    let globs: Vec<&str> = glob_name.split('.').collect();
    let parts: Vec<&str> = name.split('.').collect();
    glob_port == its_port
        && globs.len() == parts.len()
        && path.starts_with(&glob_path)
        && globs.iter().zip(&parts).all(|(glob, part)| glob_match(glob.as_bytes(), part.as_bytes()))
}

fn port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// `*` is any run, `?` any character; the rest of Go's patterns makes no sense in host names.
fn glob_match(glob: &[u8], text: &[u8]) -> bool {
    match (glob.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            glob_match(&glob[1..], text) || (!text.is_empty() && glob_match(glob, &text[1..]))
        }
        (Some(b'?'), Some(_)) => glob_match(&glob[1..], &text[1..]),
        (Some(a), Some(b)) if a == b => glob_match(&glob[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(keys: &[&str], image: &str) -> Vec<String> {
        let all: Vec<RegistryAuth> =
            keys.iter().map(|key| RegistryAuth::basic(key, key, "p")).collect();
        RegistryAuth::matching(&all, image).into_iter().map(|auth| auth.username).collect()
    }

    #[test]
    fn hosts_ports_paths_and_globs_match_as_in_the_kubelet() {
        let image = "registry.example.com:5000/team/app";
        for (key, fits) in [
            ("registry.example.com:5000", true),
            ("https://registry.example.com:5000/v2/", true),
            ("http://registry.example.com:5000/team", true),
            ("registry.example.com:5000/team/app", true),
            ("registry.example.com:5000/other", false),
            ("registry.example.com", false),
            ("*.example.com:5000", true),
            ("reg*.*.com:5000", true),
            ("registry.exampl?.com:5000", true),
            ("*.com:5000", false),
            ("example.com:5000", false),
        ] {
            assert_eq!(!users(&[key], image).is_empty(), fits, "{key}");
        }
    }

    #[test]
    fn the_most_specific_comes_first() {
        let keys = ["*.io", "quay.io", "quay.io/team"];
        assert_eq!(users(&keys, "quay.io/team/app"), ["quay.io/team", "quay.io", "*.io"]);
    }

    #[test]
    fn docker_hub_goes_by_its_old_name() {
        let old = "https://index.docker.io/v1/";
        assert_eq!(users(&[old], "docker.io/library/nginx"), [old]);
        assert_eq!(users(&[old, "docker.io"], "docker.io/library/nginx"), ["docker.io"]);
        assert!(users(&[old], "quay.io/a").is_empty());
    }

    #[test]
    fn secrets_of_both_types_parse() {
        let json = br#"{"auths":{"quay.io":{"auth":"bWU6cHc6eA=="},
            "ghcr.io":{"username":"u","password":"p"},"x.io":{"identitytoken":"t"}}}"#;
        let parsed = RegistryAuth::from_docker_config_json(json).unwrap();
        let quay = parsed.iter().find(|auth| auth.key == "quay.io").unwrap();
        assert_eq!((quay.username.as_str(), quay.password.as_str()), ("me", "pw:x"));
        assert_eq!(quay.header(), "Basic bWU6cHc6eA==");
        assert!(!format!("{quay:?}").contains("pw"));
        let old = br#"{"https://quay.io/v1/":{"auth":"bWU6cHc6eA==","email":"e"}}"#;
        assert_eq!(RegistryAuth::from_dockercfg(old).unwrap()[0].key, "quay.io");
        for bad in
            [&b"{"[..], br#"{"auths":{"a":{"auth":"!"}}}"#, br#"{"auths":{"a":{"auth":"bWU="}}}"#]
        {
            assert!(RegistryAuth::from_docker_config_json(bad).is_err());
        }
    }
}
