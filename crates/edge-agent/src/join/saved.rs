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
use crate::config::Ranges;

/// Where it is kept, in the data directory.
pub(super) const FILE: &str = "cluster.json";

/// What a join writes first, in `pki`; who founds a cluster has none.
const FIRST: &str = "beat.key";

/// Where a server keeps it once more, in the data directory. Its store can't be joined with again,
/// so that it must not hang on one file.
const COPY: &str = "pki/cluster.json";

/// Whether a join has ended here.
pub(super) fn exists(data_dir: &Path) -> bool {
    // A copy alone is what a join leaves that was cut off, until the server's store has begun.
    let has = |file: &str| data_dir.join(file).exists();
    has(FILE) || (has(COPY) && has("pki/store-begun"))
}

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
    /// Names the file that cannot be read or is damaged, and what to do.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Saved>, JoinError> {
        let path = data_dir.join(FILE);
        if !exists(data_dir) {
            return Ok(None);
        }
        let mut saved = match Saved::of(&path) {
            Ok(saved) => saved,
            Err(why) => match Saved::of(&data_dir.join(COPY)) {
                Ok(saved) => {
                    tracing::warn!("read {}: {why}; its copy in pki serves", path.display());
                    saved
                }
                Err(_) => return Err(file("read", &path, advised(data_dir, &why))),
            },
        };
        let pki = data_dir.join("pki");
        let need = |name: &str| {
            let path = pki.join(name);
            let text = read_if_present(&path).map_err(|e| file("read", &path, e))?;
            text.ok_or_else(|| file("read", &path, advised(data_dir, "it is missing")))
        };
        let key = |name: &str| {
            let damaged = || advised(data_dir, "it is damaged: it holds no key");
            from_hex(need(name)?.trim()).ok_or_else(|| file("read", &pki.join(name), damaged()))
        };
        saved.ca = need("ca.crt")?;
        saved.node_cert = need("node.crt")?;
        (saved.beat_key, saved.leader_key) = (key(FIRST)?, key("leader.key")?);
        if saved.serves() {
            saved.server_cert = need("board-server.crt")?;
        }
        Ok(Some(saved))
    }

    /// Reads one of the two files; says what is wrong with it.
    fn of(path: &Path) -> Result<Saved, String> {
        let text = read_if_present(path).map_err(|e| e.to_string())?;
        let text = text.ok_or("it is missing")?;
        let saved: Saved =
            serde_json::from_str(&text).map_err(|e| format!("it is damaged ({e})"))?;
        let needed = [&saved.cluster, &saved.name, &saved.role];
        let whole = needed.into_iter().all(|text| !text.is_empty());
        whole.then_some(saved).ok_or("it is damaged (no cluster, name or role is in it)".to_owned())
    }

    /// The cluster's ranges.
    pub(crate) fn as_ranges(&self) -> Ranges {
        Ranges {
            cluster_cidr: self.cluster_cidr.clone(),
            service_cidr: self.service_cidr.clone(),
            cluster_domain: self.cluster_domain.clone(),
        }
    }

    /// The ranges of the cluster that an earlier join was into; what is wrong with what is kept of
    /// it is for [`Saved::read`] to say.
    pub(crate) fn ranges(data_dir: &Path) -> Option<Ranges> {
        let kept =
            || [FILE, COPY].into_iter().find_map(|name| Saved::of(&data_dir.join(name)).ok());
        exists(data_dir).then(kept).flatten().map(|saved| saved.as_ranges())
    }

    fn serves(&self) -> bool {
        self.role == Role::Server.as_str()
    }

    /// Makes the two files one again, if they are not.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(super) fn mend(&self, data_dir: &Path) -> Result<(), JoinError> {
        let read = |name| read_if_present(&data_dir.join(name)).ok().flatten();
        let (kept, copy) = (read(FILE), read(COPY));
        let as_is = Saved::of(&data_dir.join(FILE)).is_ok();
        if as_is && (!self.serves() || copy == kept) { Ok(()) } else { self.keep(data_dir) }
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
        self.keep(data_dir)
    }

    fn keep(&self, data_dir: &Path) -> Result<(), JoinError> {
        let path = data_dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| file("write", &path, e))?;
        let text = format!("{text}\n");
        if self.serves() {
            put(&data_dir.join(COPY), &text, 0o600)?;
        }
        put(&path, &text, 0o600)
    }
}

/// What is wrong with a file that an earlier join left, and what to do.
fn advised(data_dir: &Path, why: &str) -> String {
    let dir = data_dir.display();
    if !data_dir.join("pki/board-server.crt").exists() {
        return format!("{why}: remove {}/{FILE} and join again with a token", dir);
    }
    let cert = read_if_present(&data_dir.join("pki/node.crt")).ok().flatten();
    let facts = cert.and_then(|pem| CertFacts::read(&pem));
    let name = facts.and_then(|facts| Some(facts.user.strip_prefix("system:node:")?.to_owned()));
    let name = name.unwrap_or_else(|| "NAME".to_owned());
    format!(
        "{why}: restore it from a backup, or put a new server in this one's place: on another \
         server run `edgectl server remove {name}` (where only one other is left, stop it and run \
         `edged recover --force` there first) and {}, empty {dir}, and join again with a token of \
         `edged token create --server`",
        crate::depart::without_its_node(&name)
    )
}

fn put(path: &Path, text: &str, mode: u32) -> Result<(), JoinError> {
    write_atomically(path, text.as_bytes(), mode).map_err(|e| file("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_server::pki::BoardKey;
    use std::fs;

    /// What a join left in a directory of its own, with the certificates of another board.
    fn joined(name: &str, role: Role) -> (std::path::PathBuf, Saved) {
        let dir = std::env::temp_dir().join(format!("edged-saved-{name}-{}", std::process::id()));
        BoardKey::open(&dir).unwrap();
        let text = |text: &str| text.to_owned();
        let saved = Saved {
            cluster: text("c"),
            name: text("s2"),
            role: text(role.as_str()),
            pod_cidr: text("10.42.3.0/24"),
            floor_ms: 7,
            ..Saved::default()
        };
        saved.write(&dir).unwrap();
        if role == Role::Server {
            put(&dir.join("pki/board-server.crt"), "a certificate", 0o644).unwrap();
        }
        (dir, saved)
    }

    #[test]
    fn a_server_does_not_hang_on_one_file() {
        let (dir, saved) = joined("copy", Role::Server);
        let [main, copy] = [FILE, COPY].map(|name| dir.join(name));
        assert_eq!(fs::read(&main).unwrap(), fs::read(&copy).unwrap());
        let whole = fs::read(&main).unwrap();
        for damage in [&b""[..], b"{}", b"\0\0\0\0", &whole[..whole.len() / 2]] {
            fs::write(&main, damage).unwrap();
            let read = Saved::read(&dir).unwrap().unwrap();
            assert_eq!((&read.pod_cidr, read.floor_ms), (&saved.pod_cidr, 7));
            read.mend(&dir).unwrap();
            assert_eq!(fs::read(&main).unwrap(), whole);
        }
        // Removed, it is not one that never joined, once it has a store.
        fs::remove_file(&main).unwrap();
        assert!(!exists(&dir) && Saved::read(&dir).unwrap().is_none());
        fs::write(dir.join("pki/store-begun"), "").unwrap();
        Saved::read(&dir).unwrap().unwrap().mend(&dir).unwrap();
        // An older edged kept no copy: it is made.
        fs::remove_file(&copy).unwrap();
        Saved::read(&dir).unwrap().unwrap().mend(&dir).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), whole);
        // Both gone bad: one line, which ends in another server in its place.
        fs::write(&main, "").unwrap();
        fs::write(&copy, "").unwrap();
        let why = Saved::read(&dir).err().unwrap().to_string();
        let steps = ["edgectl server remove", "edgectl delete node", "empty /", "create --server"];
        assert!(steps.iter().all(|step| why.contains(step)) && !why.contains('\n'), "{why}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_agent_joins_again() {
        let (dir, _) = joined("agent", Role::Agent);
        assert!(!dir.join(COPY).exists());
        fs::write(dir.join(FILE), "{").unwrap();
        let why = Saved::read(&dir).err().unwrap().to_string();
        assert!(why.contains("cluster.json and join again with a token"), "{why}");
        fs::remove_file(dir.join(FILE)).unwrap();
        assert!(Saved::read(&dir).unwrap().is_none());
        fs::remove_dir_all(&dir).unwrap();
    }
}
