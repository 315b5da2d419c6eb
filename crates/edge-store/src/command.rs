//! What can be asked of the state machine, the limits it is held to, and its bytes in the log.

use std::collections::BTreeSet;

use bytes::Bytes;
use edge_core::consensus::Term;

use crate::entry::Revision;
use crate::error::ProposeError;
use crate::limits::{COMMAND_BYTES_MAX, COMMAND_OPS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Operations that happen together, at one revision, or not at all.
///
/// They share a revision: a watcher that resumes *from* that revision gets none of them again.
/// Keys of one command should therefore lie under prefixes that are watched apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The operations; no two may name the same key.
    pub ops: Vec<Op>,
    /// The term that must have logged it: what a leader planned does not happen under another.
    pub term: Option<Term>,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// The key.
        key: String,
        /// The value's bytes, as they go on the wire.
        value: Bytes,
        /// Where in `value` apply inserts the decimal revision.
        stamp: Option<u32>,
        /// What must hold for the command to happen.
        expect: Expect,
    },
    /// Removes a key. Removing an absent one is no change and no event.
    Delete {
        /// The key.
        key: String,
        /// The object's final bytes, for watchers.
        last: Bytes,
        /// Where in `last` apply inserts the decimal revision.
        stamp: Option<u32>,
        /// What must hold for the command to happen.
        expect: Expect,
    },
}

/// A precondition on a key, judged at apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Any,
    /// The key is absent.
    Absent,
    /// The key is present.
    Present,
    /// The key is present and was last written at this revision.
    Revision(Revision),
}

impl Expect {
    /// Whether a key that was last written at `found` is as expected.
    pub(crate) fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::Revision(revision) => found == Some(revision),
        }
    }
}

/// The proof that a command is durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its revision.
    pub revision: Revision,
}

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const NO_STAMP: u32 = u32::MAX;

/// An operation's parts, whichever it is.
pub(crate) struct Parts<'a> {
    pub(crate) key: &'a str,
    pub(crate) bytes: &'a Bytes,
    pub(crate) stamp: Option<u32>,
    pub(crate) expect: Expect,
}

impl Op {
    pub(crate) fn parts(&self) -> Parts<'_> {
        match self {
            Op::Put { key, value, stamp, expect } => {
                Parts { key, bytes: value, stamp: *stamp, expect: *expect }
            }
            Op::Delete { key, last, stamp, expect } => {
                Parts { key, bytes: last, stamp: *stamp, expect: *expect }
            }
        }
    }
}

impl Command {
    /// The bytes it carries, keys included.
    pub(crate) fn weight(&self) -> usize {
        self.ops.iter().map(Op::parts).map(|parts| parts.key.len() + parts.bytes.len() + 32).sum()
    }

    /// Whether anything must hold for it to happen.
    pub(crate) fn has_expectations(&self) -> bool {
        self.ops.iter().any(|op| op.parts().expect != Expect::Any)
    }

    /// Refuses what may never reach the log.
    pub(crate) fn check(&self) -> Result<(), ProposeError> {
        if self.ops.is_empty() || self.ops.len() > COMMAND_OPS_MAX {
            return Err(ProposeError::BadCommand {
                why: format!("it has {} operations; 1 to {COMMAND_OPS_MAX} fit", self.ops.len()),
            });
        }
        let mut keys = BTreeSet::new();
        for parts in self.ops.iter().map(Op::parts) {
            check_key(parts.key)?;
            if !keys.insert(parts.key) {
                let why = format!("two operations name the key {:?}; merge them", parts.key);
                return Err(ProposeError::BadCommand { why });
            }
            if parts.bytes.len() > VALUE_BYTES_MAX {
                return Err(ProposeError::TooLarge {
                    key: parts.key.to_owned(),
                    size: parts.bytes.len(),
                    limit: VALUE_BYTES_MAX,
                });
            }
            if parts.stamp.is_some_and(|at| at as usize > parts.bytes.len()) {
                let why = format!("the stamp of {:?} lies behind its value's end", parts.key);
                return Err(ProposeError::BadCommand { why });
            }
        }
        let size = self.weight();
        if size > COMMAND_BYTES_MAX {
            let key = self.ops[0].parts().key.to_owned();
            return Err(ProposeError::TooLarge { key, size, limit: COMMAND_BYTES_MAX });
        }
        Ok(())
    }

    /// The log form: version, term (0 for none), count; per operation its tag, expectation,
    /// stamp, key and bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weight() + 16);
        out.push(VERSION);
        out.extend_from_slice(&self.term.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&(self.ops.len() as u32).to_le_bytes());
        for op in &self.ops {
            let parts = op.parts();
            out.push(if matches!(op, Op::Put { .. }) { PUT } else { DELETE });
            let (tag, revision) = match parts.expect {
                Expect::Any => (0u8, 0),
                Expect::Absent => (1, 0),
                Expect::Present => (2, 0),
                Expect::Revision(revision) => (3, revision),
            };
            out.push(tag);
            out.extend_from_slice(&revision.to_le_bytes());
            out.extend_from_slice(&parts.stamp.unwrap_or(NO_STAMP).to_le_bytes());
            out.extend_from_slice(&(parts.key.len() as u32).to_le_bytes());
            out.extend_from_slice(&(parts.bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(parts.key.as_bytes());
            out.extend_from_slice(parts.bytes);
        }
        out
    }

    /// Reads the log form, sharing its bytes; `None` if it is not one that this version knows.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Command> {
        let mut input = Input(bytes);
        if input.take(1)? != [VERSION] {
            return None;
        }
        let term = Some(input.u64()?).filter(|term| *term != 0);
        let count = input.u32()? as usize;
        let mut ops = Vec::with_capacity(count.min(COMMAND_OPS_MAX));
        for _ in 0..count {
            let kind = input.take(1)?[0];
            let tag = input.take(1)?[0];
            let revision = input.u64()?;
            let expect = match tag {
                0 => Expect::Any,
                1 => Expect::Absent,
                2 => Expect::Present,
                3 => Expect::Revision(revision),
                _ => return None,
            };
            let stamp = Some(input.u32()?).filter(|at| *at != NO_STAMP);
            let (key_len, value_len) = (input.u32()? as usize, input.u32()? as usize);
            let key = String::from_utf8(input.take(key_len)?.to_vec()).ok()?;
            let value = bytes.slice_ref(input.take(value_len)?);
            ops.push(match kind {
                PUT => Op::Put { key, value, stamp, expect },
                DELETE => Op::Delete { key, last: value, stamp, expect },
                _ => return None,
            });
        }
        input.0.is_empty().then_some(Command { ops, term })
    }
}

/// Keys are text without control bytes at their start: those are the store's own.
fn check_key(key: &str) -> Result<(), ProposeError> {
    let why = match key.as_bytes() {
        [] => "it is empty".to_owned(),
        [0, ..] => "it begins with a zero byte".to_owned(),
        bytes if bytes.len() > KEY_BYTES_MAX => {
            format!("it has {} bytes and {KEY_BYTES_MAX} fit", bytes.len())
        }
        _ => return Ok(()),
    };
    Err(ProposeError::BadKey { key: key.to_owned(), why })
}

/// A reader over bytes that never reads past their end.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &'static [u8], stamp: Option<u32>, expect: Expect) -> Op {
        Op::Put { key: key.to_owned(), value: Bytes::from_static(value), stamp, expect }
    }

    #[test]
    fn the_log_form_reads_back() {
        let command = Command {
            ops: vec![
                put("pods/a/b", b"{}", Some(1), Expect::Revision(7)),
                put("pods/a/c", b"", None, Expect::Absent),
                Op::Delete {
                    key: "x".to_owned(),
                    last: Bytes::from_static(b"bye"),
                    stamp: None,
                    expect: Expect::Present,
                },
            ],
            term: Some(9),
        };
        let bytes = Bytes::from(command.encode());
        assert_eq!(Command::decode(&bytes), Some(command));
        for cut in 0..bytes.len() {
            assert_eq!(Command::decode(&bytes.slice(..cut)), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        let check = |ops| Command { ops, term: None }.check().map_err(|error| error.to_string());
        assert!(check(vec![]).unwrap_err().contains("0 operations"));
        assert!(check(vec![put("", b"", None, Expect::Any)]).unwrap_err().contains("empty"));
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        assert!(check(vec![put(&long, b"", None, Expect::Any)]).unwrap_err().contains("512 bytes"));
        let twice = vec![put("a", b"", None, Expect::Any), put("a", b"", None, Expect::Any)];
        assert!(check(twice).unwrap_err().contains("two operations"));
        assert!(check(vec![put("a", b"x", Some(2), Expect::Any)]).unwrap_err().contains("stamp"));
        let value = Bytes::from(vec![b'x'; VALUE_BYTES_MAX + 1]);
        let large = Op::Put { key: "a".to_owned(), value, stamp: None, expect: Expect::Any };
        assert!(check(vec![large]).unwrap_err().contains("1572864"));
        assert_eq!(check(vec![put("a", b"x", Some(1), Expect::Any)]), Ok(()));
    }
}
