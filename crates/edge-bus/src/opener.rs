//! The receiving side of sealing: which key a message needs, whether it opens, and whether it is
//! new. Tables are bounded, and nothing enters them that did not open.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ring::aead::LessSafeKey;

use crate::keys::{Keys, Secret};
use crate::seal::{Header, Kind, Place, open, session_key};
use crate::window::Window;

/// Senders, each for one purpose, that are remembered.
const SENDERS: usize = 2048;

/// Ended sessions of a sender that are remembered, with the newest message of each, so that they
/// can't be played again.
const ENDED: usize = 16;

/// After this silence a session with an earlier start is believed: a board whose clock was set
/// back. Until then, an earlier start is an old recording.
const SILENCE: Duration = Duration::from_secs(3);

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    Malformed,
    Forged,
    Replayed,
    /// There are too many senders.
    Full,
}

struct Sender {
    session: u64,
    start: u64,
    key: LessSafeKey,
    window: Window,
    heard: Instant,
    ended: VecDeque<(u64, u64)>,
}

/// See the module.
pub(crate) struct Opener {
    cluster: String,
    me: String,
    keys: Keys,
    senders: BTreeMap<(Kind, String), Sender>,
}

impl Opener {
    pub(crate) fn new(cluster: &str, me: &str, keys: Keys) -> Opener {
        let (cluster, me) = (cluster.to_owned(), me.to_owned());
        Opener { cluster, me, keys, senders: BTreeMap::new() }
    }

    /// One with the same keys that has heard nothing.
    pub(crate) fn fresh(&self) -> Opener {
        Opener::new(&self.cluster, &self.me, self.keys.clone())
    }

    fn key(&self, kind: Kind, sender: &str) -> Option<Secret> {
        match kind {
            Kind::Raft => self.keys.raft.map(Secret),
            Kind::Leader => Some(Secret(self.keys.leader)),
            Kind::Beat | Kind::Gone => self.keys.beat(sender, &self.me),
        }
    }

    /// Opens a message that came on `topic`. `retained`: from before our subscription, so it is
    /// compared with what is known but begins nothing.
    pub(crate) fn open(
        &mut self,
        kind: Kind,
        topic: &str,
        message: &[u8],
        retained: bool,
        now: Instant,
    ) -> Result<(Header, Bytes), Reject> {
        let (header, length) = Header::read(message).ok_or(Reject::Malformed)?;
        if header.kind != kind {
            return Err(Reject::Malformed);
        }
        let receiver = if kind == Kind::Raft { self.me.as_str() } else { "" };
        let place = Place { cluster: &self.cluster, topic, receiver };
        let id = (kind, header.sender.clone());
        if let Some(known) = self.senders.get_mut(&id)
            && known.session == header.session
            && known.start == header.start
        {
            let plain = open(&known.key, &header, length, &place, message).ok_or(Reject::Forged)?;
            if !known.window.admit(header.sequence) {
                return Err(Reject::Replayed);
            }
            if !retained {
                known.heard = now;
            }
            return Ok((header, plain));
        }
        let key = self.key(kind, &header.sender).ok_or(Reject::Forged)?;
        let key = session_key(&key, kind, &header.sender, header.session, header.start);
        let plain = open(&key, &header, length, &place, message).ok_or(Reject::Forged)?;
        if retained {
            let known = self.senders.get(&id);
            let old =
                known.is_some_and(|k| k.start > header.start || k.ended(header.session).is_some());
            return if old { Err(Reject::Replayed) } else { Ok((header, plain)) };
        }
        self.begin(id, &header, key, now)?;
        Ok((header, plain))
    }

    /// A session that was not heard before.
    fn begin(
        &mut self,
        id: (Kind, String),
        header: &Header,
        key: LessSafeKey,
        now: Instant,
    ) -> Result<(), Reject> {
        let (mut ended, mut window) = (VecDeque::new(), Window::new());
        if let Some(old) = self.senders.get_mut(&id) {
            let silent = now.duration_since(old.heard) >= SILENCE;
            if header.start <= old.start && !silent {
                return Err(Reject::Replayed);
            }
            // A copy of the board took its place and is silent now: it goes on where it was.
            if let Some(newest) = old.ended(header.session) {
                if !silent || header.sequence <= newest {
                    return Err(Reject::Replayed);
                }
                window = Window::after(newest);
            }
            ended = std::mem::take(&mut old.ended);
            ended.retain(|(session, _)| *session != header.session);
            ended.push_back((old.session, old.window.newest()));
            if ended.len() > ENDED {
                ended.pop_front();
            }
        } else if self.senders.len() >= SENDERS {
            let silent = |s: &Sender| now.duration_since(s.heard) > 20 * SILENCE;
            let oldest =
                self.senders.iter().filter(|(_, s)| silent(s)).min_by_key(|(_, s)| s.heard);
            let oldest = oldest.map(|(id, _)| id.clone()).ok_or(Reject::Full)?;
            self.senders.remove(&oldest);
        }
        if !window.admit(header.sequence) {
            return Err(Reject::Replayed);
        }
        let (session, start) = (header.session, header.start);
        self.senders.insert(id, Sender { session, start, key, window, heard: now, ended });
        Ok(())
    }
}

impl Sender {
    /// The newest message of a session that another one has followed.
    fn ended(&self, session: u64) -> Option<u64> {
        self.ended.iter().find(|(ended, _)| *ended == session).map(|(_, newest)| *newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Sealer;

    const TOPIC: &str = "edge/c/raft/b";

    fn opener() -> Opener {
        Opener::new("c", "b", Keys::of_server(&[1; 32]))
    }

    fn sealer(sender: &str, session: u64, start: u64) -> Sealer {
        let key = Secret(crate::derive(&[1; 32], "raft"));
        Sealer::new(&key, Kind::Raft, sender, session, start)
    }

    fn seal(sealer: &Sealer) -> Bytes {
        sealer.seal(&Place { cluster: "c", topic: TOPIC, receiver: "b" }, 1, &[b"x"])
    }

    fn take(opener: &mut Opener, message: &[u8], now: Instant) -> Result<(), Reject> {
        opener.open(Kind::Raft, TOPIC, message, false, now).map(|_| ())
    }

    #[test]
    fn repetitions_are_dropped_in_any_order() {
        let (mut opener, sealer, now) = (opener(), sealer("a", 1, 10), Instant::now());
        let messages: Vec<_> = (0..50).map(|_| seal(&sealer)).collect();
        for message in messages.iter().rev() {
            assert_eq!(take(&mut opener, message, now), Ok(()));
        }
        for message in &messages {
            assert_eq!(take(&mut opener, message, now), Err(Reject::Replayed));
        }
    }

    #[test]
    fn an_ended_session_can_not_be_played_again() {
        let (mut opener, now) = (opener(), Instant::now());
        let (old, new) = (sealer("a", 1, 10), sealer("a", 2, 20));
        let kept = seal(&old);
        assert_eq!(take(&mut opener, &seal(&old), now), Ok(()));
        assert_eq!(take(&mut opener, &seal(&new), now), Ok(()));
        assert_eq!(take(&mut opener, &kept, now), Err(Reject::Replayed));
        let later = now + 10 * SILENCE;
        assert_eq!(take(&mut opener, &kept, later), Err(Reject::Replayed));
        // Another session with an earlier start: a recording, unless the newer one is silent.
        let set_back = sealer("a", 3, 5);
        assert_eq!(take(&mut opener, &seal(&set_back), now), Err(Reject::Replayed));
        assert_eq!(take(&mut opener, &seal(&set_back), later), Ok(()));
    }

    #[test]
    fn one_whose_copy_has_ended_counts_again() {
        let (mut opener, now) = (opener(), Instant::now());
        let (first, copy) = (sealer("a", 1, 10), sealer("a", 2, 20));
        let before = seal(&first);
        assert_eq!(take(&mut opener, &before, now), Ok(()));
        assert_eq!(take(&mut opener, &seal(&copy), now), Ok(()));
        let during = seal(&first);
        assert_eq!(take(&mut opener, &during, now + SILENCE / 2), Err(Reject::Replayed));
        // The copy is silent: what is new counts, and only once.
        assert_eq!(take(&mut opener, &before, now + SILENCE), Err(Reject::Replayed));
        let after = seal(&first);
        assert_eq!(take(&mut opener, &after, now + SILENCE), Ok(()));
        // What was turned away meanwhile was never taken: it may come late, as any message may.
        assert_eq!(take(&mut opener, &during, now + SILENCE), Ok(()));
        for old in [&before, &during, &after] {
            assert_eq!(take(&mut opener, old, now + SILENCE), Err(Reject::Replayed));
        }
        assert_eq!(take(&mut opener, &seal(&first), now + SILENCE), Ok(()));
    }

    #[test]
    fn other_keys_and_forms_are_told_apart() {
        let (mut opener, now) = (opener(), Instant::now());
        let foreign = Secret(crate::derive(&[2; 32], "raft"));
        let foreign = Sealer::new(&foreign, Kind::Raft, "a", 1, 1);
        assert_eq!(take(&mut opener, &seal(&foreign), now), Err(Reject::Forged));
        assert_eq!(take(&mut opener, b"", now), Err(Reject::Malformed));
        assert_eq!(take(&mut opener, &[1; 40], now), Err(Reject::Malformed));
        let good = seal(&sealer("a", 1, 1));
        assert_eq!(
            opener.open(Kind::Beat, TOPIC, &good, false, now).map(|_| ()),
            Err(Reject::Malformed)
        );
        let mut versioned = good.to_vec();
        versioned[0] = 2;
        assert_eq!(take(&mut opener, &versioned, now), Err(Reject::Malformed));
        assert!(opener.senders.is_empty(), "nothing that did not open is remembered");
    }

    #[test]
    fn senders_are_bounded() {
        let (mut opener, now) = (opener(), Instant::now());
        for n in 0..SENDERS {
            assert_eq!(take(&mut opener, &seal(&sealer(&format!("n{n}"), 1, 1)), now), Ok(()));
        }
        let more = sealer("more", 1, 1);
        assert_eq!(take(&mut opener, &seal(&more), now), Err(Reject::Full));
        assert_eq!(take(&mut opener, &seal(&more), now + 21 * SILENCE), Ok(()));
        assert_eq!(opener.senders.len(), SENDERS);
    }
}
