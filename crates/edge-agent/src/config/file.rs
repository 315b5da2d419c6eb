//! `/etc/edged/config.yaml`: the same keys as the flags, and what is too long for a flag.
//! An unknown key is refused: a setting that was mistyped must not be a setting ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// The file's keys. All may be left out.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct File {
    pub data_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
    pub name: Option<String>,
    pub node_ip: Option<String>,
    pub listen: Option<String>,
    pub agent_listen: Option<String>,
    pub cluster_cidr: Option<String>,
    pub service_cidr: Option<String>,
    pub cluster_domain: Option<String>,
    pub encrypt_pods: bool,
    pub wireguard_port: Option<String>,
    pub cgroup_parent: Option<String>,
    pub resolv_conf: Option<PathBuf>,
    pub log: Option<String>,
    pub join: Vec<String>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub broker: Vec<String>,
    pub broker_listen: Option<String>,
    pub silent_after: Option<String>,
    pub node_grace: Option<String>,
    pub default_toleration: Option<String>,
    pub lan_pool: Vec<String>,
    pub no_agent: bool,
    pub upgrade_keys: Vec<String>,
    pub registries: Registries,
}

/// Registry host (with its port) → how to reach it.
pub(crate) type Registries = BTreeMap<String, Registry>;

/// How one image registry is reached.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Registry {
    /// Other hosts that hold the same images, tried in this order before the registry itself.
    pub mirrors: Vec<String>,
    /// Plain HTTP instead of TLS.
    pub plain_http: bool,
    /// PEM file with the authority that signed the registry's certificate.
    pub ca_file: Option<PathBuf>,
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Names the file, and the key or the place in it that can't be used.
    pub(crate) fn read(path: &Path) -> Result<File, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("read {}: {e}", path.display())))?;
        File::parse(&text).map_err(|e| ConfigError(format!("{}: {e}", path.display())))
    }

    pub(crate) fn parse(text: &str) -> Result<File, ConfigError> {
        if text.trim().is_empty() {
            return Ok(File::default());
        }
        serde_yaml::from_str(text).map_err(|e| ConfigError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = File::parse("listem: 0.0.0.0:1\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `listem`"), "{error}");
    }

    #[test]
    fn registries_are_read() {
        let text = "registries:\n  'reg.lan:5000':\n    plain-http: true\n    mirrors: [a, b]\n";
        let file = File::parse(text).unwrap();
        let registry = &file.registries["reg.lan:5000"];
        assert!(registry.plain_http);
        assert_eq!(registry.mirrors, ["a", "b"]);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        assert!(File::parse("\n").unwrap().listen.is_none());
    }
}
