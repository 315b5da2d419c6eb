//! Sealing: every message is encrypted and authenticated from board to board, so that a broker,
//! also a shared one, learns nothing and forges nothing. ChaCha20-Poly1305, because half of the
//! boards have no AES instructions. Each process has a key of its own for each purpose, made
//! from the shared key and its random session number, so that a counter can be the nonce.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::keys::{Secret, expand};

/// The form that this version writes, and the only one that it reads.
const VERSION: u8 = 1;

/// Bytes of a header before the sender's name.
const FIXED: usize = 2 + 4 + 8 + 8 + 8 + 1;

/// Bytes that sealing adds, at most.
pub(crate) const OVERHEAD: usize = FIXED + 128 + 16;

/// What a message is for. Each has its own keys, sequence and windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Raft = 1,
    Beat = 2,
    Leader = 3,
    Gone = 4,
}

/// The part of a message that says who sent it and how it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The sender's connection that it left over.
    pub(crate) connection: u32,
    /// Random number of the sender's process.
    pub(crate) session: u64,
    /// The sender's clock when it started, Unix milliseconds: later processes have larger ones.
    pub(crate) start: u64,
    pub(crate) sequence: u64,
    pub(crate) sender: String,
}

/// Where a message belongs; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) topic: &'a str,
    /// A server's name for raft messages; empty for those to all.
    pub(crate) receiver: &'a str,
}

impl Header {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u32(self.connection);
        out.put_u64(self.session);
        out.put_u64(self.start);
        out.put_u64(self.sequence);
        out.put_u8(self.sender.len() as u8);
        out.put_slice(self.sender.as_bytes());
    }

    /// Reads the header at the front of a message; with its length.
    pub(crate) fn read(message: &[u8]) -> Option<(Header, usize)> {
        let fixed = message.get(..FIXED)?;
        let kind = match (fixed[0], fixed[1]) {
            (VERSION, 1) => Kind::Raft,
            (VERSION, 2) => Kind::Beat,
            (VERSION, 3) => Kind::Leader,
            (VERSION, 4) => Kind::Gone,
            _ => return None,
        };
        let number = |at: usize| {
            fixed[at..at + 8].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let connection = fixed[2..6].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let end = FIXED + usize::from(fixed[30]);
        let sender = std::str::from_utf8(message.get(FIXED..end)?).ok()?;
        if !crate::topics::valid_level(sender) {
            return None;
        }
        let (session, start, sequence) = (number(6), number(14), number(22));
        let sender = sender.to_owned();
        Some((Header { kind, connection, session, start, sequence, sender }, end))
    }
}

/// The key of one sender's process for one purpose.
pub(crate) fn session_key(
    key: &Secret,
    kind: Kind,
    sender: &str,
    session: u64,
    start: u64,
) -> LessSafeKey {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&session.to_be_bytes());
    salt[8..].copy_from_slice(&start.to_be_bytes());
    let info = [b"edged bus 1".as_slice(), &[kind as u8], sender.as_bytes()];
    let mut bytes = expand(&key.0, &salt, &info);
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &bytes);
    bytes.zeroize();
    LessSafeKey::new(unbound.expect("invariant: 32 bytes are a key"))
}

fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// What is authenticated beside the message: its header and its place, each part with its length.
fn aad(header: &[u8], place: &Place) -> Vec<u8> {
    let parts =
        [header, place.cluster.as_bytes(), place.topic.as_bytes(), place.receiver.as_bytes()];
    let mut all = Vec::with_capacity(parts.iter().map(|p| p.len() + 4).sum());
    for part in parts {
        all.extend_from_slice(&(part.len() as u32).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

/// Seals the messages of one purpose; its counter never repeats in a process.
pub(crate) struct Sealer {
    key: LessSafeKey,
    kind: Kind,
    sender: String,
    session: u64,
    start: u64,
    sequence: AtomicU64,
}

impl Sealer {
    pub(crate) fn new(key: &Secret, kind: Kind, sender: &str, session: u64, start: u64) -> Sealer {
        let sender = sender.to_owned();
        let key = session_key(key, kind, &sender, session, start);
        Sealer { key, kind, sender, session, start, sequence: AtomicU64::new(0) }
    }

    /// Seals `parts`, joined, for `place`.
    pub(crate) fn seal(&self, place: &Place, connection: u32, parts: &[&[u8]]) -> Bytes {
        let header = Header {
            kind: self.kind,
            connection,
            session: self.session,
            start: self.start,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            sender: self.sender.clone(),
        };
        let size: usize = parts.iter().map(|p| p.len()).sum();
        let mut out = BytesMut::with_capacity(size + OVERHEAD);
        header.put(&mut out);
        let mut body = out.split_off(out.len());
        parts.iter().for_each(|part| body.put_slice(part));
        let aad = Aad::from(aad(&out, place));
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(header.sequence), aad, &mut body)
            .expect("invariant: a packet is far below what the cipher takes");
        body.put_slice(tag.as_ref());
        out.unsplit(body);
        out.freeze()
    }
}

/// Opens a message whose header was read; `None`: it was not sealed with this key for this place.
pub(crate) fn open(
    key: &LessSafeKey,
    header: &Header,
    length: usize,
    place: &Place,
    message: &[u8],
) -> Option<Bytes> {
    let aad = Aad::from(aad(message.get(..length)?, place));
    let mut body = message[length..].to_vec();
    let plain = key.open_in_place(nonce(header.sequence), aad, &mut body).ok()?.len();
    body.truncate(plain);
    Some(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { cluster: "c", topic: "edge/c/raft/b", receiver: "b" };

    fn sealed() -> (Secret, Bytes) {
        let key = Secret([3; 32]);
        let sealer = Sealer::new(&key, Kind::Raft, "a", 11, 22);
        (key, sealer.seal(&PLACE, 5, &[b"hello ", b"there"]))
    }

    fn try_open(key: &Secret, place: &Place, message: &[u8]) -> Option<Bytes> {
        let (header, length) = Header::read(message)?;
        let h = &header;
        let key = session_key(key, h.kind, &h.sender, h.session, h.start);
        open(&key, &header, length, place, message)
    }

    #[test]
    fn what_was_sealed_opens() {
        let (key, message) = sealed();
        assert_eq!(try_open(&key, &PLACE, &message).as_deref(), Some(&b"hello there"[..]));
        let (header, _) = Header::read(&message).expect("a header");
        assert_eq!((header.connection, header.session, header.start), (5, 11, 22));
        assert_eq!((header.sequence, header.sender.as_str()), (1, "a"));
        assert!(!message.windows(5).any(|w| w == b"hello"));
    }

    #[test]
    fn nothing_else_opens() {
        let (key, message) = sealed();
        assert!(try_open(&Secret([4; 32]), &PLACE, &message).is_none());
        for place in [
            Place { cluster: "d", ..PLACE },
            Place { topic: "edge/c/raft/x", ..PLACE },
            Place { receiver: "x", ..PLACE },
        ] {
            assert!(try_open(&key, &place, &message).is_none(), "{place:?}");
        }
        for at in 0..message.len() {
            let mut changed = message.to_vec();
            changed[at] ^= 1;
            assert!(try_open(&key, &PLACE, &changed).is_none(), "byte {at}");
            assert!(try_open(&key, &PLACE, &message[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_the_same_way() {
        let key = Secret([3; 32]);
        let sealer = Sealer::new(&key, Kind::Raft, "a", 11, 22);
        let other = Sealer::new(&key, Kind::Raft, "b", 11, 22);
        let texts: std::collections::BTreeSet<Vec<u8>> = [&sealer, &sealer, &other]
            .iter()
            .map(|s| s.seal(&PLACE, 0, &[b"text"])[FIXED + 1..].to_vec())
            .collect();
        assert_eq!(texts.len(), 3);
    }
}
