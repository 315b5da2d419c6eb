//! What all commands share: the streams, the global flags, and a client made when it is needed.

use crate::args::Global;
use crate::fault::Fault;
use crate::io::Io;
use edge_client::{Client, Config, Kubeconfig};
use std::path::PathBuf;

/// Where the board's own server leaves its kubeconfig.
const BOARD_CONFIG: &str = "/var/lib/edged/admin.kubeconfig";

/// One run of one command.
pub(crate) struct Session {
    pub(crate) io: Io,
    global: Global,
    client: Option<Client>,
}

impl Session {
    pub(crate) fn new(io: Io, global: Global) -> Session {
        Session { io, global, client: None }
    }

    /// The client for the chosen context.
    pub(crate) fn client(&mut self) -> Result<Client, Fault> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::new(self.config()?)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// A client for the chosen context that asks this server alone.
    pub(crate) fn client_of(&self, server: &str) -> Result<Client, Fault> {
        let servers = vec![server.to_owned()];
        Ok(Client::new(Config { servers, ..self.config()? })?)
    }

    /// The chosen servers, as those of another cluster: whose authority this is.
    pub(crate) fn client_under(&self, authority: &str) -> Result<Client, Fault> {
        let Config { servers, .. } = self.config()?;
        let ca_pem = Some(authority.as_bytes().to_vec());
        Ok(Client::new(Config { servers, ca_pem, ..Config::default() })?)
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&mut self) -> Result<String, Fault> {
        if let Some(namespace) = &self.global.namespace {
            return Ok(namespace.clone());
        }
        Ok(self.client()?.namespace().unwrap_or("default").to_string())
    }

    /// The namespace that was typed, if one was.
    pub(crate) fn typed_namespace(&self) -> Option<&str> {
        self.global.namespace.as_deref()
    }

    /// Servers and credentials from flags and files.
    fn config(&self) -> Result<Config, Fault> {
        let global = &self.global;
        let mut config = match (self.kubeconfig()?, &global.server) {
            (Some(file), _) => file.config(global.context.as_deref())?,
            (None, Some(_)) => Config::default(),
            (None, None) => return Err(Fault::text(self.nowhere())),
        };
        if let Some(server) = &global.server {
            config.servers = vec![server.clone()];
        }
        if let Some(token) = &global.token {
            config.token = Some(token.clone());
        }
        if let Some(path) = &global.certificate_authority {
            let read = std::fs::read(path);
            let doing = format!("read {}", path.display());
            config.ca_pem = Some(read.map_err(|error| Fault::io(doing, error))?);
        }
        config.insecure |= global.insecure_skip_tls_verify;
        Ok(config)
    }

    /// The kubeconfig: the flag's, else `$KUBECONFIG`'s, else the home's, else the board's.
    pub(crate) fn kubeconfig(&self) -> Result<Option<Kubeconfig>, Fault> {
        if let Some(path) = &self.global.kubeconfig {
            return Ok(Some(Kubeconfig::read(path)?));
        }
        let named = named_files();
        if named.iter().any(|path| path.exists()) {
            return Ok(Some(Kubeconfig::read_merged(&named)?));
        }
        let found = fallbacks().into_iter().find(|path| path.exists());
        found.map(|path| Kubeconfig::read(&path).map_err(Fault::from)).transpose()
    }

    fn nowhere(&self) -> String {
        let mut looked = named_files();
        looked.extend(fallbacks());
        let names: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
        format!(
            "no cluster is configured: looked for {}. Start one with `edged server`, or name a \
             file with --kubeconfig",
            names.join(", ")
        )
    }
}

/// The files that `$KUBECONFIG` names.
fn named_files() -> Vec<PathBuf> {
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
}

fn fallbacks() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
    let in_home = home.map(|home| PathBuf::from(home).join(".kube").join("config"));
    in_home.into_iter().chain([PathBuf::from(BOARD_CONFIG)]).collect()
}
