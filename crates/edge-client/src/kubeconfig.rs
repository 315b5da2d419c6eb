//! Kubeconfig files, as `kubectl` and every other Kubernetes client reads them.

use crate::config::{Config, ConfigError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    #[serde(rename = "current-context")]
    current_context: String,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    exec: Option<serde_yaml::Value>,
    auth_provider: Option<serde_yaml::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: Context,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

/// A kubeconfig file that was read, or several that were merged.
#[derive(Debug, Default)]
pub struct Kubeconfig {
    path: PathBuf,
    current: String,
    clusters: Vec<(PathBuf, NamedCluster)>,
    users: Vec<(PathBuf, NamedUser)>,
    contexts: Vec<NamedContext>,
}

/// One context, for people to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSummary {
    /// Its name.
    pub name: String,
    /// The cluster that it names.
    pub cluster: String,
    /// The user that it names.
    pub user: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// Whether it is the current one.
    pub current: bool,
}

impl Kubeconfig {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Kubeconfig, ConfigError> {
        let mut merged = Kubeconfig { path: path.to_path_buf(), ..Kubeconfig::default() };
        merged.add(path)?;
        Ok(merged)
    }

    /// Reads several files; where they disagree, the first that says something wins.
    /// Files that do not exist are passed over.
    pub fn read_merged(paths: &[PathBuf]) -> Result<Kubeconfig, ConfigError> {
        let first = paths.iter().find(|path| path.exists()).or(paths.first());
        let path = first.cloned().unwrap_or_default();
        let mut merged = Kubeconfig { path, ..Kubeconfig::default() };
        for path in paths.iter().filter(|path| path.exists()) {
            merged.add(path)?;
        }
        Ok(merged)
    }

    fn add(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = read_file(path)?;
        let parsed: Option<File> = serde_yaml::from_slice(&text).map_err(|error| {
            ConfigError::Parse { path: path.to_path_buf(), message: error.to_string() }
        })?;
        let file = parsed.unwrap_or_default();
        if self.current.is_empty() {
            self.current = file.current_context;
        }
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        for cluster in file.clusters.unwrap_or_default() {
            if !self.clusters.iter().any(|(_, known)| known.name == cluster.name) {
                self.clusters.push((dir.clone(), cluster));
            }
        }
        for user in file.users.unwrap_or_default() {
            if !self.users.iter().any(|(_, known)| known.name == user.name) {
                self.users.push((dir.clone(), user));
            }
        }
        for context in file.contexts.unwrap_or_default() {
            if !self.contexts.iter().any(|known| known.name == context.name) {
                self.contexts.push(context);
            }
        }
        Ok(())
    }

    /// The name of the current context; empty when none is set.
    pub fn current_context(&self) -> &str {
        &self.current
    }

    /// All contexts.
    pub fn contexts(&self) -> Vec<ContextSummary> {
        self.contexts
            .iter()
            .map(|named| ContextSummary {
                name: named.name.clone(),
                cluster: named.context.cluster.clone(),
                user: named.context.user.clone(),
                namespace: named.context.namespace.clone(),
                current: named.name == self.current,
            })
            .collect()
    }

    /// Servers and credentials of one context, or of the current one.
    pub fn config(&self, context: Option<&str>) -> Result<Config, ConfigError> {
        let name = context.unwrap_or(&self.current);
        let context = match self.contexts.iter().find(|named| named.name == name) {
            Some(named) => named.context.clone(),
            None if name.is_empty() => self.only_context()?,
            None => return Err(self.entry(format!("context {name:?} does not exist"))),
        };
        let (dir, cluster) = self
            .clusters
            .iter()
            .find(|(_, named)| named.name == context.cluster)
            .map(|(dir, named)| (dir, &named.cluster))
            .ok_or_else(|| self.entry(format!("cluster {:?} does not exist", context.cluster)))?;
        if cluster.server.is_empty() {
            return Err(self.entry(format!("cluster {:?} has no server", context.cluster)));
        }
        let mut config = Config {
            servers: vec![cluster.server.clone()],
            ca_pem: self.pem(
                dir,
                "certificate-authority",
                cluster.certificate_authority_data.as_deref(),
                cluster.certificate_authority.as_deref(),
            )?,
            server_name: cluster.tls_server_name.clone(),
            insecure: cluster.insecure_skip_tls_verify,
            namespace: context.namespace.clone().filter(|name| !name.is_empty()),
            ..Config::default()
        };
        if !context.user.is_empty() {
            self.credentials(&context.user, &mut config)?;
        }
        Ok(config)
    }

    fn only_context(&self) -> Result<Context, ConfigError> {
        match self.contexts.as_slice() {
            [only] => Ok(only.context.clone()),
            [] => Err(self.entry("holds no context".to_string())),
            _ => Err(self.entry("current-context is not set; name one with --context".to_string())),
        }
    }

    fn credentials(&self, name: &str, config: &mut Config) -> Result<(), ConfigError> {
        let (dir, named) = self
            .users
            .iter()
            .find(|(_, named)| named.name == name)
            .ok_or_else(|| self.entry(format!("user {name:?} does not exist")))?;
        let Some(user) = &named.user else { return Ok(()) };
        let refused = match user {
            User { exec: Some(_), .. } => Some("an exec plug-in"),
            User { auth_provider: Some(_), .. } => Some("an auth-provider plug-in"),
            User { username: Some(_), .. } => Some("a user name and password"),
            _ => None,
        };
        if let Some(what) = refused {
            return Err(self.entry(format!(
                "user {name:?} signs in with {what}, which is not supported: use a client \
                 certificate, token or tokenFile"
            )));
        }
        config.client_cert_pem = self.pem(
            dir,
            "client-certificate",
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
        )?;
        config.client_key_pem = self.pem(
            dir,
            "client-key",
            user.client_key_data.as_deref(),
            user.client_key.as_deref(),
        )?;
        if config.client_cert_pem.is_some() != config.client_key_pem.is_some() {
            return Err(
                self.entry(format!("user {name:?} needs both client-certificate and client-key"))
            );
        }
        config.token = match (&user.token, &user.token_file) {
            (_, Some(file)) => {
                let text = read_file(&dir.join(file))?;
                Some(String::from_utf8_lossy(&text).trim().to_string())
            }
            (token, None) => token.clone().filter(|token| !token.is_empty()),
        };
        Ok(())
    }

    /// Data given inline, else the content of the file, relative to the kubeconfig.
    fn pem(
        &self,
        dir: &Path,
        what: &str,
        data: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<Vec<u8>>, ConfigError> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let compact: String = data.split_ascii_whitespace().collect();
            return STANDARD
                .decode(compact)
                .map(Some)
                .map_err(|error| self.entry(format!("{what}-data is not base64: {error}")));
        }
        match file.filter(|file| !file.as_os_str().is_empty()) {
            Some(file) => read_file(&dir.join(file)).map(Some),
            None => Ok(None),
        }
    }

    fn entry(&self, message: String) -> ConfigError {
        ConfigError::Entry { path: self.path.clone(), message }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests;
