//! Raft messages larger than a packet travel in parts. Parts may come in any order and over
//! different brokers; what waits for its other parts is bounded in number, bytes and time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a part at most.
pub(crate) const PART: usize = 200 * 1024;

/// Bytes of the largest message: half of what a queue on its way holds.
pub(crate) const LARGEST: usize = 4 * 1024 * 1024;

/// Messages of one sender that may wait for parts.
const OPEN_EACH: usize = 2;

/// Bytes of all parts that wait.
const WAITING: usize = 24 * 1024 * 1024;

/// How long parts wait for the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a part's own header: 1 + id + index + count.
const HEADER: usize = 1 + 4 + 2 + 2;

/// The header of a whole message.
const WHOLE: [u8; 1] = [0];

/// Calls `send` with the header and body of each part of a message; false: it is too large.
pub(crate) fn split(message: &Bytes, id: u32, mut send: impl FnMut(&[u8], &[u8])) -> bool {
    if message.len() > LARGEST {
        return false;
    }
    if message.len() <= PART {
        send(&WHOLE, message);
        return true;
    }
    let count = message.len().div_ceil(PART) as u16;
    for (index, part) in message.chunks(PART).enumerate() {
        let mut header = [0; HEADER];
        header[0] = 1;
        header[1..5].copy_from_slice(&id.to_be_bytes());
        header[5..7].copy_from_slice(&(index as u16).to_be_bytes());
        header[7..9].copy_from_slice(&count.to_be_bytes());
        send(&header, part);
    }
    true
}

struct Open {
    parts: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
    since: Instant,
}

/// What came of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The message is whole.
    Whole(Bytes),
    /// Others are to come.
    Waiting,
    /// Not a part.
    Malformed,
}

/// Parts that wait for others.
#[derive(Default)]
pub(crate) struct Joiner {
    open: BTreeMap<(String, u64, u32), Open>,
    bytes: usize,
    /// Messages given up.
    pub(crate) incomplete: u64,
}

impl Joiner {
    /// Takes a part, or a whole message, of a sender's session.
    pub(crate) fn take(
        &mut self,
        sender: &str,
        session: u64,
        mut plain: Bytes,
        now: Instant,
    ) -> Joined {
        match plain.first() {
            Some(0) => return Joined::Whole(plain.slice(1..)),
            Some(1) if plain.len() > HEADER => plain.advance(1),
            _ => return Joined::Malformed,
        }
        let (id, index, count) = (plain.get_u32(), plain.get_u16(), plain.get_u16());
        let most = LARGEST.div_ceil(PART);
        if index >= count || usize::from(count) > most || count < 2 || plain.len() > PART {
            return Joined::Malformed;
        }
        let key = (sender.to_owned(), session, id);
        let fresh = !self.open.contains_key(&key);
        self.make_room(sender, plain.len(), fresh, now);
        if fresh {
            let parts = vec![None; count.into()];
            let open = Open { parts, missing: count.into(), bytes: 0, since: now };
            self.open.insert(key.clone(), open);
        }
        let Some(open) = self.open.get_mut(&key) else { return Joined::Waiting };
        if open.parts.len() != usize::from(count) {
            return Joined::Malformed;
        }
        let slot = &mut open.parts[usize::from(index)];
        if slot.is_none() {
            open.missing -= 1;
            open.bytes += plain.len();
            self.bytes += plain.len();
            *slot = Some(plain);
        }
        if open.missing > 0 {
            return Joined::Waiting;
        }
        let Some(open) = self.open.remove(&key) else { return Joined::Waiting };
        self.bytes -= open.bytes;
        let mut whole = BytesMut::with_capacity(open.bytes);
        open.parts.iter().flatten().for_each(|part| whole.extend_from_slice(part));
        Joined::Whole(whole.freeze())
    }

    /// Gives up what is too old, too much of one sender, or too much in all: the oldest first.
    fn make_room(&mut self, sender: &str, bytes: usize, fresh: bool, now: Instant) {
        loop {
            let of_sender = self.open.keys().filter(|(s, ..)| s == sender).count();
            let full = self.bytes + bytes > WAITING;
            let oldest = |own: bool| {
                let open = self.open.iter().filter(|((s, ..), _)| !own || s == sender);
                open.min_by_key(|(_, o)| o.since).map(|(key, o)| (key.clone(), o.since))
            };
            let victim = match oldest(false) {
                Some((key, since)) if full || now.duration_since(since) > PATIENCE => Some(key),
                _ if fresh && of_sender >= OPEN_EACH => oldest(true).map(|(key, _)| key),
                _ => None,
            };
            let Some(open) = victim.and_then(|key| self.open.remove(&key)) else { return };
            self.bytes -= open.bytes;
            self.incomplete += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(message: &Bytes, id: u32) -> Vec<Bytes> {
        let mut parts = Vec::new();
        assert!(split(message, id, |head, body| parts.push([head, body].concat().into())));
        parts
    }

    fn message(size: usize) -> Bytes {
        (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn messages_of_every_size_come_whole_in_any_order() {
        let now = Instant::now();
        for size in [0, 1, PART - 1, PART, PART + 1, 3 * PART, LARGEST] {
            let (mut joiner, message) = (Joiner::default(), message(size));
            let parts = parts(&message, 7);
            let mut whole = None;
            for part in parts.iter().rev() {
                match joiner.take("a", 1, part.clone(), now) {
                    Joined::Whole(found) => whole = Some(found),
                    other => assert_eq!(other, Joined::Waiting),
                }
            }
            assert_eq!(whole, Some(message), "{size}");
            assert_eq!((joiner.bytes, joiner.open.len()), (0, 0));
        }
        assert!(!split(&message(LARGEST + 1), 1, |_, _| panic!("a part of too much")));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        let large = message(LARGEST);
        for sender in 0..20 {
            for id in 0..5 {
                for part in parts(&large, id).iter().skip(1) {
                    joiner.take(&format!("n{sender}"), 1, part.clone(), now);
                }
            }
        }
        assert!(joiner.bytes <= WAITING, "{}", joiner.bytes);
        assert!(joiner.open.len() <= 20 * OPEN_EACH && joiner.incomplete > 80);
        let later = now + 2 * PATIENCE;
        joiner.take("x", 1, parts(&large, 1)[0].clone(), later);
        assert_eq!(joiner.open.len(), 1);
    }

    #[test]
    fn strange_parts_are_refused() {
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        let bad: [&[u8]; 6] = [
            b"",
            b"\x02x",
            b"\x01\0\0\0\x01\0\0\0\x02",
            b"\x01\0\0\0\x01\0\x02\0\x02x",
            b"\x01\0\0\0\x01\0\0\xff\xffx",
            b"\x01\0\0\0\x01\0\0\0\x01x",
        ];
        for part in bad {
            let taken = joiner.take("a", 1, Bytes::from_static(part), now);
            assert_eq!(taken, Joined::Malformed, "{part:?}");
        }
        joiner.take("a", 1, Bytes::from_static(b"\x01\0\0\0\x01\0\0\0\x02x"), now);
        let other = joiner.take("a", 1, Bytes::from_static(b"\x01\0\0\0\x01\0\0\0\x03x"), now);
        assert_eq!(other, Joined::Malformed);
    }
}
