//! The leader's hint: what every board is told of the cluster over the bus, and nobody's safety
//! depends on. Brokers retain it, so it may be old; a newer term is believed before an older one.

use serde::{Deserialize, Serialize};

/// The form of hints that this version writes.
const VERSION: u32 = 1;

/// Servers that one hint names at most.
const SERVERS: usize = 64;

/// What the leader says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hint {
    /// The form.
    pub v: u32,
    /// The leader's term.
    pub term: u64,
    /// Of one term, the hint with the higher number counts.
    pub number: u64,
    /// What beats must carry, so that old ones count no more.
    pub nonce: String,
    /// Milliseconds between two beats of a board.
    pub every_ms: u64,
    /// Where the API answers.
    pub servers: Vec<Place>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its id among the members, in decimal.
    #[serde(default)]
    pub id: String,
    /// Its name.
    pub name: String,
    /// `https://host:port` of its API.
    pub api: String,
    /// `host:port` of its broker; empty without one.
    pub broker: String,
    /// The leader does not hear of it: it should not be asked.
    #[serde(default)]
    pub away: bool,
}

impl Hint {
    /// A hint of this version.
    pub(crate) fn new(term: u64, number: u64, nonce: String, servers: Vec<Place>) -> Hint {
        Hint { v: VERSION, term, number, nonce, every_ms: 0, servers }
    }

    /// Its bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a hint; `None` is something else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Hint> {
        let hint: Hint = serde_json::from_slice(bytes).ok()?;
        (hint.v == VERSION && hint.servers.len() <= SERVERS).then_some(hint)
    }

    /// The form of a hint that another version wrote, which this one cannot read.
    pub(crate) fn strange(bytes: &[u8]) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        value["v"].as_u64().filter(|form| *form != u64::from(VERSION))
    }

    /// Whether this one counts after `known`.
    pub(crate) fn newer_than(&self, known: &Hint) -> bool {
        (self.term, self.number) > (known.term, known.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_term_counts_and_then_the_later_number() {
        let hint = |term, number| Hint::new(term, number, "n".into(), Vec::new());
        assert!(hint(3, 1).newer_than(&hint(2, 9)));
        assert!(hint(3, 2).newer_than(&hint(3, 1)));
        assert!(!hint(3, 1).newer_than(&hint(3, 1)));
        assert_eq!(Hint::read(&hint(3, 2).write()), Some(hint(3, 2)));
        assert_eq!(Hint::read(b"{}"), None);
        let next = br#"{"v":2,"term":9,"servers":"elsewhere"}"#;
        assert_eq!((Hint::read(next), Hint::strange(next)), (None, Some(2)));
        assert_eq!(Hint::strange(&hint(3, 2).write()), None);
        assert_eq!(Hint::strange(b"\xff"), None);
    }
}
