//! Which keys still count, as the API last told: the revocation list and the key that each board's
//! name belongs to. It is kept in memory alone; a board that is cut off goes by what it heard last.
//! The list is one object of the API, whose size bounds it; there is one key for each Node.

use std::collections::{BTreeMap, BTreeSet};

use edge_api::kinds::CONFIG_MAP;
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{Client, WatchParams, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// The ConfigMap with the revocation list: each key's hash, and whose it was.
const REVOKED: (&str, &str) = ("kube-system", "edged-revoked");
/// The annotation of a Node that names its board's key.
const KEY_ANNOTATION: &str = "edged.dev/key";

/// What a board is known by: SHA-256 of its public key (SPKI, DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of a public key in DER.
    pub(crate) fn of(spki: &[u8]) -> KeyHash {
        KeyHash(Sha256::digest(spki).into())
    }

    /// Reads 64 hex digits.
    pub(crate) fn parse(text: &str) -> Option<KeyHash> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(KeyHash(hash))
    }
}

/// What a certificate says of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The key that was proven.
    pub(crate) key: KeyHash,
    /// The server's board that made this credential for a use of its own.
    pub(crate) by: Option<KeyHash>,
    /// The board whose agent it says to be.
    pub(crate) board: Option<String>,
}

/// What is known of keys.
#[derive(Debug, Default)]
struct Known {
    revoked: BTreeSet<KeyHash>,
    boards: BTreeMap<String, KeyHash>,
}

impl Known {
    /// Why this certificate does not count, if it does not.
    fn refusal(&self, claim: &Claim) -> Option<String> {
        if self.revoked.contains(&claim.key) {
            return Some("this key was revoked".to_owned());
        }
        if claim.by.is_some_and(|by| self.revoked.contains(&by)) {
            return Some("the key of the board that made this credential was revoked".to_owned());
        }
        let name = claim.board.as_ref()?;
        let known = self.boards.get(name)?;
        (*known != claim.key).then(|| format!("the name {name:?} belongs to another key now"))
    }
}

/// What is known of keys, for all who ask and those who wait for it to change.
#[derive(Debug, Default)]
pub(crate) struct Keys(watch::Sender<Known>);

impl Keys {
    /// Why this certificate does not count, if it does not.
    pub(crate) fn refusal(&self, claim: &Claim) -> Option<String> {
        self.0.borrow().refusal(claim)
    }

    /// Whether the board of this name has a key that was revoked.
    pub(crate) fn is_out(&self, board: &str) -> bool {
        let known = self.0.borrow();
        known.boards.get(board).is_some_and(|key| known.revoked.contains(key))
    }

    /// Waits until this certificate does not count, and says why.
    pub(crate) fn distrust(&self, claim: Claim) -> impl Future<Output = String> + Send + use<> {
        let mut told = self.0.subscribe();
        async move {
            loop {
                if let Some(why) = told.borrow_and_update().refusal(&claim) {
                    return why;
                }
                if told.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Takes in news of Nodes.
    pub(crate) fn nodes(&self, event: &Event) {
        self.0.send_if_modified(|known| match event {
            Event::Restarted(nodes) => {
                let boards = nodes
                    .iter()
                    .filter_map(|node| Some((meta::name(node).to_owned(), key_of(node)?)));
                let boards: BTreeMap<_, _> = boards.collect();
                let changed = known.boards != boards;
                known.boards = boards;
                changed
            }
            Event::Applied(node) => {
                let (name, key) = (meta::name(node), key_of(node));
                let changed = known.boards.get(name) != key.as_ref();
                match key {
                    Some(key) => known.boards.insert(name.to_owned(), key),
                    None => known.boards.remove(name),
                };
                changed
            }
            Event::Deleted(node) => known.boards.remove(meta::name(node)).is_some(),
        });
    }

    /// Takes in news of the revocation list.
    fn list(&self, event: &Event) {
        let revoked = match event {
            Event::Restarted(maps) => maps.iter().flat_map(revoked_in).collect(),
            Event::Applied(map) => revoked_in(map).collect(),
            Event::Deleted(_) => BTreeSet::new(),
        };
        self.0.send_if_modified(|known| {
            let changed = known.revoked != revoked;
            known.revoked = revoked;
            changed
        });
    }

    /// Follows the revocation list for as long as the agent runs.
    pub(crate) async fn follow(&self, client: Client) {
        let field_selector = Some(format!("metadata.name={}", REVOKED.1));
        let params = WatchParams { field_selector, ..WatchParams::default() };
        let mut watcher = Watcher::new(client, CONFIG_MAP, REVOKED.0, params);
        loop {
            self.list(&watcher.next().await);
        }
    }
}

fn key_of(node: &Object) -> Option<KeyHash> {
    KeyHash::parse(meta::annotation(node, KEY_ANNOTATION)?)
}

fn revoked_in(map: &Object) -> impl Iterator<Item = KeyHash> + '_ {
    let data = map["data"].as_object().into_iter().flatten();
    data.filter_map(|(key, _)| KeyHash::parse(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    fn hex(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn claim(digit: char, by: Option<char>, board: Option<&str>) -> Claim {
        let hash = |digit| KeyHash::parse(&hex(digit)).unwrap();
        Claim { key: hash(digit), by: by.map(hash), board: board.map(str::to_owned) }
    }

    fn node(name: &str, digit: char) -> Object {
        object(json!({"metadata": {"name": name, "annotations": {KEY_ANNOTATION: hex(digit)}}}))
    }

    #[tokio::test]
    async fn keys_stop_to_count_when_they_are_listed_or_their_name_moves_on() {
        let keys = Keys::default();
        let (own, other) = (claim('a', None, Some("b1")), claim('b', None, Some("b1")));
        assert_eq!(keys.refusal(&own), None, "nothing is known yet");
        keys.nodes(&Event::Restarted(vec![node("b1", 'a')]));
        assert_eq!(keys.refusal(&own), None);
        assert!(keys.refusal(&other).unwrap().contains("another key"));
        assert_eq!(keys.refusal(&claim('b', None, Some("b2"))), None, "nobody has this name");
        let (ends, moves) =
            (keys.distrust(claim('c', Some('d'), None)), keys.distrust(own.clone()));
        let made = claim('c', Some('d'), None);
        assert_eq!(keys.refusal(&made), None);
        let list = json!({"data": {hex('D'): "s1", hex('e'): "b5", "+1": "", "no hash": ""}});
        keys.list(&Event::Applied(object(list)));
        assert!(ends.await.contains("made this credential was revoked"));
        assert!(keys.refusal(&claim('e', None, None)).unwrap().contains("this key was revoked"));
        assert_eq!(keys.refusal(&own), None);
        keys.nodes(&Event::Applied(node("b1", 'e')));
        assert!(keys.is_out("b1") && !keys.is_out("b2"));
        assert!(moves.await.contains("another key"));
        keys.nodes(&Event::Deleted(node("b1", 'e')));
        keys.list(&Event::Restarted(Vec::new()));
        assert_eq!(keys.refusal(&own), None);
        assert_eq!(keys.refusal(&claim('e', None, Some("b1"))), None);
    }
}
