//! The keys of the bus. All come from one cluster secret by HKDF; a board holds only those that
//! its role needs, so that what is stolen from an agent speaks for that agent alone.

use std::fmt;

use ring::hkdf;
use zeroize::Zeroize;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 32;

/// Thirty-two bytes for `label` from the cluster's secret: HKDF-SHA256 (RFC 5869) with an empty
/// salt and the label as its info. Labels: `raft`, `leader`, `beat/<node>`.
pub fn derive(secret: &[u8; 32], label: &str) -> [u8; 32] {
    expand(secret, &[], &[label.as_bytes()])
}

/// HKDF-SHA256 of `secret`; the parts of `info` are joined.
pub(crate) fn expand(secret: &[u8; 32], salt: &[u8], info: &[&[u8]]) -> [u8; KEY_BYTES] {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            KEY_BYTES
        }
    }
    let mut key = [0; KEY_BYTES];
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length)
        .and_then(|okm| okm.fill(&mut key))
        .expect("invariant: 32 bytes are within what HKDF-SHA256 gives");
    key
}

/// A key that is wiped when it is let go, and that never shows itself.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) [u8; KEY_BYTES]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Keys for beats.
#[derive(Clone)]
pub enum BeatKeys {
    /// An agent's: its own key, `beat/<its name>`.
    Own([u8; 32]),
    /// A server's: the cluster's secret, of which any node's key is made.
    Derive([u8; 32]),
}

/// The keys that a board holds. Wiped when dropped; never in `Debug`.
#[derive(Clone)]
pub struct Keys {
    /// Of the servers among themselves, label `raft`; agents have none.
    pub raft: Option<[u8; 32]>,
    /// Of the leader's hint, label `leader`; every node has it.
    pub leader: [u8; 32],
    /// Of beats.
    pub beat: BeatKeys,
}

impl Keys {
    /// All keys of a server.
    pub fn of_server(secret: &[u8; 32]) -> Keys {
        Keys {
            raft: Some(derive(secret, "raft")),
            leader: derive(secret, "leader"),
            beat: BeatKeys::Derive(*secret),
        }
    }

    /// The keys of the agent `node`, as a server gives them to it when it joins.
    pub fn of_agent(secret: &[u8; 32], node: &str) -> Keys {
        Keys {
            raft: None,
            leader: derive(secret, "leader"),
            beat: BeatKeys::Own(derive(secret, &format!("beat/{node}"))),
        }
    }

    /// The beat key of `node`; `None` if this board may not know it.
    pub(crate) fn beat(&self, node: &str, me: &str) -> Option<Secret> {
        match &self.beat {
            BeatKeys::Own(key) => (node == me).then(|| Secret(*key)),
            BeatKeys::Derive(secret) => Some(Secret(derive(secret, &format!("beat/{node}")))),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(raft) = &mut self.raft {
            raft.zeroize();
        }
        self.leader.zeroize();
        match &mut self.beat {
            BeatKeys::Own(key) | BeatKeys::Derive(key) => key.zeroize(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.raft.is_some() { "server" } else { "agent" };
        write!(f, "Keys(of a {role})")
    }
}

impl fmt::Debug for BeatKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BeatKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_give_keys_of_their_own() {
        let secret = [7; 32];
        let raft = derive(&secret, "raft");
        assert_ne!(raft, derive(&secret, "leader"));
        assert_ne!(raft, derive(&[8; 32], "raft"));
        assert_eq!(raft, derive(&secret, "raft"));
    }

    /// RFC 5869 defines the answer, so another implementation must agree: computed with
    /// Python's hmac for an all-zero salt of the hash's length.
    #[test]
    fn it_is_plain_hkdf() {
        let key = derive(&[0x0b; 32], "raft");
        let shown: String = key.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown, HKDF_RAFT_0B);
    }

    const HKDF_RAFT_0B: &str = "9e6f08ddf80ed282e1bfadec407aa2b6f79a1e3a635bb6ab79f5c690b6f4c2d0";

    #[test]
    fn keys_never_show_themselves() {
        let keys = Keys::of_server(&[0xAB; 32]);
        let shown = format!("{keys:?} {:?} {:?}", keys.beat, keys.beat("n", "me"));
        assert!(!shown.contains("171") && !shown.contains("ab, ab"), "{shown}");
    }

    #[test]
    fn an_agent_knows_its_own_beat_key_only() {
        let keys = Keys::of_agent(&[1; 32], "a1");
        assert!(keys.beat("a2", "a1").is_none());
        let own = keys.beat("a1", "a1").expect("its own");
        let of_server = Keys::of_server(&[1; 32]).beat("a1", "s1").expect("any");
        assert_eq!(own.0, of_server.0);
    }
}
