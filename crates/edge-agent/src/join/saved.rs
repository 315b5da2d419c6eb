//! What a board keeps of its cluster: `<data-dir>/cluster.json`, written last and whole, so that a
//! join that was cut off is one that has not happened; the keys and certificates are files beside
//! the board's own key, in `<data-dir>/pki`.

use std::path::Path;

use edge_bus::ExternalBroker;
use edge_server::join::{JoinAnswer, Role, ServerInfo};
use edge_server::pki::{
    CertFacts, ClusterSecrets, from_hex, read_if_present, to_hex, write_atomically,
};
use serde::{Deserialize, Serialize};

use super::JoinError;

/// Where it is kept, in the data directory.
pub(super) const FILE: &str = "cluster.json";

/// What a join writes first, in `pki`; who founds a cluster has none.
const FIRST: &str = "beat.key";

/// Whether a join has begun to write here.
pub(super) fn begun(data_dir: &Path) -> bool {
    data_dir.join("pki").join(FIRST).exists()
}

/// What a board keeps of its cluster.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Saved {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// This board's name.
    pub(crate) name: String,
    /// `server` or `agent`
    pub(crate) role: String,
    /// The range of all pods' addresses.
    pub(crate) cluster_cidr: String,
    /// The range of Services' addresses.
    pub(crate) service_cidr: String,
    /// `cluster.local`
    pub(crate) cluster_domain: String,
    /// This board's part of the pods' addresses.
    pub(crate) pod_cidr: String,
    /// The servers as they were last known.
    pub(crate) servers: Vec<ServerInfo>,
    /// The id of the token that it joined with.
    pub(crate) token: String,
    /// The cluster's time when the board last joined or renewed, in milliseconds since 1970.
    pub(crate) floor_ms: i64,
    /// The authority's certificate, in PEM.
    #[serde(skip)]
    pub(crate) ca: String,
    /// The board's certificate as a node, in PEM.
    #[serde(skip)]
    pub(crate) node_cert: String,
    /// Its certificate as a server, in PEM; empty for an agent.
    #[serde(skip)]
    pub(crate) server_cert: String,
    /// The key of its beats.
    #[serde(skip)]
    pub(crate) beat_key: [u8; 32],
    /// The key of the leader's hints.
    #[serde(skip)]
    pub(crate) leader_key: [u8; 32],
    /// The user's own brokers as the server told them; kept in a file of their own.
    #[serde(skip)]
    brokers: Vec<ExternalBroker>,
    /// What only servers get.
    #[serde(skip)]
    servers_only: Option<ServersOnly>,
}

#[derive(Clone)]
struct ServersOnly {
    ca_key: String,
    secrets: ClusterSecrets,
}

fn file(operation: &'static str, path: &Path, reason: impl ToString) -> JoinError {
    JoinError::File { operation, path: path.to_owned(), reason: reason.to_string() }
}

impl Saved {
    /// Takes a server's answer, once it is known to be whole.
    ///
    /// # Errors
    /// Says what is missing in it.
    pub(super) fn from_answer(
        role: Role,
        token: &str,
        answer: JoinAnswer,
    ) -> Result<Saved, JoinError> {
        let missing =
            |what: &str| JoinError::Told(format!("join: the server's answer has no good {what}"));
        let key = |text: &str, what: &str| from_hex(text).ok_or_else(|| missing(what));
        let cert =
            |text: &str, what: &str| CertFacts::read(text).map(|_| ()).ok_or_else(|| missing(what));
        cert(&answer.ca, "authority")?;
        cert(&answer.node_cert, "certificate")?;
        let servers_only = match role {
            Role::Agent => None,
            Role::Server => {
                cert(&answer.server_cert, "certificate for a server")?;
                if !answer.ca_key.contains("PRIVATE KEY") {
                    return Err(missing("authority's key"));
                }
                let secret = key(&answer.secret, "cluster's secret")?;
                let secrets = ClusterSecrets { id: answer.cluster.clone(), secret };
                Some(ServersOnly { ca_key: answer.ca_key, secrets })
            }
        };
        let brokers = answer.brokers.iter().map(|url| edge_bus::parse_broker(url));
        let brokers = brokers.collect::<Result<_, _>>().map_err(|_| missing("broker"))?;
        Ok(Saved {
            cluster: answer.cluster,
            name: answer.name,
            role: role.as_str().to_owned(),
            cluster_cidr: answer.cluster_cidr,
            service_cidr: answer.service_cidr,
            cluster_domain: answer.cluster_domain,
            pod_cidr: answer.pod_cidr,
            servers: answer.servers,
            token: token.to_owned(),
            floor_ms: answer.time_ms,
            ca: answer.ca,
            node_cert: answer.node_cert,
            server_cert: answer.server_cert,
            beat_key: key(&answer.beat_key, "key for beats")?,
            leader_key: key(&answer.leader_key, "key for hints")?,
            brokers,
            servers_only,
        })
    }

    /// Reads what an earlier join left; `None` when there was none that finished.
    ///
    /// # Errors
    /// Names the file that cannot be read or is damaged.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Saved>, JoinError> {
        let read = |path: &Path| read_if_present(path).map_err(|e| file("read", path, e));
        let path = data_dir.join(FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let mut saved: Saved = serde_json::from_str(&text).map_err(|e| {
            file("read", &path, format!("it is damaged ({e}): remove it and join again"))
        })?;
        let pki = data_dir.join("pki");
        let need = |name: &str| {
            let path = pki.join(name);
            read(&path)?.ok_or_else(|| {
                file(
                    "read",
                    &path,
                    "it is missing: restore it, or remove cluster.json to join again",
                )
            })
        };
        let key = |name: &str| {
            from_hex(need(name)?.trim())
                .ok_or_else(|| file("read", &pki.join(name), "it is damaged: it holds no key"))
        };
        saved.ca = need("ca.crt")?;
        saved.node_cert = need("node.crt")?;
        (saved.beat_key, saved.leader_key) = (key(FIRST)?, key("leader.key")?);
        if saved.role == Role::Server.as_str() {
            saved.server_cert = need("board-server.crt")?;
        }
        Ok(Some(saved))
    }

    /// Writes all of it, [`FIRST`] first and `cluster.json` last.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), JoinError> {
        let pki = data_dir.join("pki");
        put(&pki.join(FIRST), &to_hex(&self.beat_key), 0o600)?;
        if let Some(ServersOnly { ca_key, secrets }) = &self.servers_only {
            put(&pki.join("ca.key"), ca_key, 0o600)?;
            put(&pki.join("board-server.crt"), &self.server_cert, 0o644)?;
            secrets.write(data_dir)?;
        }
        if !self.brokers.is_empty() {
            crate::brokers::keep(data_dir, &self.brokers)?;
        }
        put(&pki.join("ca.crt"), &self.ca, 0o644)?;
        put(&pki.join("leader.key"), &to_hex(&self.leader_key), 0o600)?;
        self.write_certificate(data_dir)
    }

    /// Writes what a renewal changes.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(super) fn write_certificate(&self, data_dir: &Path) -> Result<(), JoinError> {
        put(&data_dir.join("pki/node.crt"), &self.node_cert, 0o644)?;
        let path = data_dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| file("write", &path, e))?;
        put(&path, &format!("{text}\n"), 0o600)
    }
}

fn put(path: &Path, text: &str, mode: u32) -> Result<(), JoinError> {
    write_atomically(path, text.as_bytes(), mode).map_err(|e| file("write", path, e))
}
