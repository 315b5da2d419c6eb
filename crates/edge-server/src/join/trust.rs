//! Which keys still count. A key is refused when it is on the revocation list (the ConfigMap
//! `kube-system/edged-revoked`), or when the name that it speaks for belongs to another key now.
//! One task follows the store; everybody else reads its conclusion, and open connections are told
//! at once.

use crate::api::{Api, peek};
use crate::auth::Identity;
use crate::pki::KeyHash;
use edge_api::{keys, kinds};
use edge_store::{Change, ListOptions, WatchEnd};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The annotation of a Node that names its board's key.
pub const KEY_ANNOTATION: &str = "edged.dev/key";
/// The ConfigMap with the revocation list: each key's hash, and whose it was.
pub const REVOKED: (&str, &str) = ("kube-system", "edged-revoked");

/// The ConfigMap with the keys of servers that have no Node, by name.
pub(super) const SERVER_KEYS: (&str, &str) = ("kube-system", "edged-servers");

/// Pause before the store is read anew when a watch was lost.
const AGAIN: Duration = Duration::from_millis(200);

/// What is known of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    revoked: BTreeSet<KeyHash>,
    boards: BTreeMap<String, KeyHash>,
    /// Those of servers without a Node.
    servers: BTreeMap<String, KeyHash>,
}

impl Trust {
    /// Whether this key was revoked.
    pub fn is_revoked(&self, key: &KeyHash) -> bool {
        self.revoked.contains(key)
    }

    /// The key of the board of this name.
    pub fn board(&self, name: &str) -> Option<&KeyHash> {
        self.boards.get(name).or_else(|| self.servers.get(name))
    }

    /// The boards whose keys were revoked.
    pub fn thrown_out(&self) -> impl Iterator<Item = &str> {
        let names = self.boards.keys().chain(self.servers.keys()).map(String::as_str);
        names.filter(|name| self.is_out(name))
    }

    /// Whether the board of this name has a key that was revoked.
    pub fn is_out(&self, name: &str) -> bool {
        self.board(name).is_some_and(|key| self.is_revoked(key))
    }

    /// Why a key is not taken for the board whose name it claims, if it is not.
    pub fn refusal(&self, key: &KeyHash, node: Option<&str>) -> Option<String> {
        if self.is_revoked(key) {
            return Some("this key was revoked".to_owned());
        }
        let name = node?;
        match self.board(name) {
            Some(known) if known != key => {
                Some(format!("the name {name:?} belongs to another key now"))
            }
            _ => None,
        }
    }

    /// [`Trust::refusal`] for whoever is at the other end of a connection.
    pub(crate) fn refuses(&self, who: &Identity) -> Option<String> {
        if who.by.as_ref().is_some_and(|board| self.is_revoked(board)) {
            return Some("the key of the board that made this credential was revoked".to_owned());
        }
        self.refusal(who.key.as_ref()?, who.board())
    }

    fn take(&mut self, key: &str, value: Option<&[u8]>) {
        if key == map_key(REVOKED) {
            self.revoked = value.map(revoked_in).unwrap_or_default();
        } else if key == map_key(SERVER_KEYS) {
            self.servers = value.map(servers_in).unwrap_or_default();
        } else if let Some(name) = key.strip_prefix(&kinds::NODE.key_prefix(Some(""))) {
            match value.and_then(key_of_node) {
                Some(hash) => self.boards.insert(name.to_owned(), hash),
                None => self.boards.remove(name),
            };
        }
    }
}

#[derive(Deserialize)]
struct Annotated {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Map {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

fn key_of_node(bytes: &[u8]) -> Option<KeyHash> {
    let node = peek::<Annotated>(bytes)?;
    KeyHash::parse(node.metadata.annotations.get(KEY_ANNOTATION)?)
}

fn revoked_in(bytes: &[u8]) -> BTreeSet<KeyHash> {
    let map = peek::<Map>(bytes).map(|map| map.data).unwrap_or_default();
    map.keys().filter_map(|key| KeyHash::parse(key)).collect()
}

fn servers_in(bytes: &[u8]) -> BTreeMap<String, KeyHash> {
    let map = peek::<Map>(bytes).map(|map| map.data).unwrap_or_default();
    map.into_iter().filter_map(|(name, key)| Some((name, KeyHash::parse(&key)?))).collect()
}

fn map_key((namespace, name): (&str, &str)) -> String {
    keys::key(kinds::CONFIG_MAP, namespace, name)
}

/// Reads what the store says now; the revision that it says it at.
fn read(api: &Api) -> Result<(Trust, u64), String> {
    let mut trust = Trust::default();
    let store = api.store();
    let listing = store
        .list(&kinds::NODE.key_prefix(Some("")), ListOptions::default())
        .map_err(|error| error.to_string())?;
    for entry in &listing.entries {
        trust.take(&entry.key, Some(&entry.value));
    }
    for map in [REVOKED, SERVER_KEYS] {
        let query = ListOptions { at: Some(listing.revision), ..ListOptions::default() };
        let maps = store.list(&map_key(map), query).map_err(|error| error.to_string())?;
        for entry in maps.entries {
            trust.take(&entry.key, Some(&entry.value));
        }
    }
    Ok((trust, listing.revision))
}

/// What is known at the start; then [`follow`] keeps it true.
pub(crate) fn begin(api: &Api) -> watch::Sender<Arc<Trust>> {
    let trust = read(api).map(|(trust, _)| trust).unwrap_or_default();
    watch::Sender::new(Arc::new(trust))
}

/// Follows the store until the server ends.
pub(crate) async fn follow(
    api: Api,
    told: watch::Sender<Arc<Trust>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            result = keep(&api, &told) => match result {
                Ok(()) => return,
                Err(error) => tracing::debug!("read the keys anew: {error}"),
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn keep(api: &Api, told: &watch::Sender<Arc<Trust>>) -> Result<(), String> {
    let (trust, revision) = read(api)?;
    tell(told, &trust);
    let mut trust = trust;
    let mut watch = api.store().watch("", revision).map_err(|error| error.to_string())?;
    loop {
        match watch.next().await {
            Ok(event) => {
                trust.take(&event.key, (event.change == Change::Put).then_some(&*event.value));
                tell(told, &trust);
            }
            Err(WatchEnd::Closed) => return Ok(()),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
}

fn tell(told: &watch::Sender<Arc<Trust>>, trust: &Trust) {
    told.send_if_modified(|known| {
        let changed = **known != *trust;
        if changed {
            *known = Arc::new(trust.clone());
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use serde_json::json;

    fn hash(digit: char) -> KeyHash {
        KeyHash::parse(&digit.to_string().repeat(64)).unwrap()
    }

    #[test]
    fn names_belong_to_keys_and_revoked_keys_to_nobody() {
        let mut trust = Trust::default();
        let node = json!({"metadata": {"annotations": {KEY_ANNOTATION: hash('a').as_str()}}});
        let key = format!("{}b1", kinds::NODE.key_prefix(Some("")));
        trust.take(&key, Some(node.to_string().as_bytes()));
        assert_eq!(trust.refusal(&hash('a'), Some("b1")), None);
        assert_eq!(trust.refusal(&hash('b'), Some("b2")), None, "nobody has this name");
        assert!(trust.refusal(&hash('b'), Some("b1")).unwrap().contains("another key"));
        assert!(!trust.is_out("b1"));
        let list = json!({"data": {hash('a').as_str(): "b1", "not a hash": ""}});
        trust.take(&map_key(REVOKED), Some(list.to_string().as_bytes()));
        assert!(trust.refusal(&hash('a'), Some("b1")).unwrap().contains("revoked"));
        assert!(trust.is_out("b1"));
        trust.take(&map_key(REVOKED), None);
        trust.take(&key, None);
        assert_eq!(trust, Trust::default());
        // A server without a Node is known by its name as well, until there is one.
        let servers = json!({"data": {"b1": hash('c').as_str(), "b2": "not a hash"}});
        trust.take(&map_key(SERVER_KEYS), Some(servers.to_string().as_bytes()));
        assert_eq!((trust.board("b1"), trust.board("b2")), (Some(&hash('c')), None));
        assert!(trust.refusal(&hash('b'), Some("b1")).unwrap().contains("another key"));
        trust.take(&key, Some(node.to_string().as_bytes()));
        assert_eq!(trust.refusal(&hash('a'), Some("b1")), None);
    }

    #[test]
    fn what_a_board_made_for_its_person_ends_with_it() {
        let dir = std::env::temp_dir().join(format!("edge-trust-{}", std::process::id()));
        let clock = crate::join::Cluster::default().clock;
        let authority = crate::pki::Authority::open(&dir, clock).unwrap();
        let board = crate::pki::BoardKey::open(&dir).unwrap().hash();
        let group = Some("system:masters");
        let leaf = authority.kept_leaf("admin", "a", group, &BTreeSet::new()).unwrap();
        let again = authority.kept_leaf("admin", "a", group, &BTreeSet::new()).unwrap();
        assert_eq!(leaf.cert_pem, again.cert_pem, "it is good as it is");
        std::fs::remove_dir_all(&dir).unwrap();
        let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
        let who = Identity::from_certificate(&cert, 1_800_000_000).unwrap();
        assert_ne!(who.key, Some(board.clone()), "the board's own key stays on the board");
        let mut trust = Trust::default();
        assert_eq!(trust.refuses(&who), None);
        trust.revoked.insert(board);
        assert!(trust.refuses(&who).unwrap().contains("was revoked"));
    }
}
