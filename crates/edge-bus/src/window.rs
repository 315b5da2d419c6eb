//! What was seen already: a sliding window over the sequence numbers of one sender's session, as
//! IPsec (RFC 4303, section 3.4.3) and WireGuard have it.

/// Words of 64 sequence numbers: how far behind the newest a message may come and still be told
/// from a repetition.
const WORDS: u64 = 16;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    newest: u64,
    seen: [u64; WORDS as usize],
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { newest: 0, seen: [0; WORDS as usize] }
    }

    /// One for which all up to `newest` counts as seen.
    pub(crate) fn after(newest: u64) -> Window {
        let mut seen = [u64::MAX; WORDS as usize];
        seen[(newest / 64 % WORDS) as usize] >>= 63 - newest % 64;
        Window { newest, seen }
    }

    /// The newest that was admitted.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether `sequence` (from 1) is new; if it is, it is seen from now on.
    pub(crate) fn admit(&mut self, sequence: u64) -> bool {
        let (from, to) = (self.newest / 64, sequence / 64);
        if sequence == 0 || to + WORDS <= from {
            return false;
        }
        let (word, bit) = ((to % WORDS) as usize, 1_u64 << (sequence % 64));
        if sequence > self.newest {
            for word in (from + 1..=to).take(WORDS as usize) {
                self.seen[(word % WORDS) as usize] = 0;
            }
            self.newest = sequence;
        } else if self.seen[word] & bit != 0 {
            return false;
        }
        self.seen[word] |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_is_admitted_once_in_any_order() {
        let mut window = Window::new();
        for sequence in [1, 3, 2, 900, 4, 64, 65, 63] {
            assert!(window.admit(sequence), "{sequence}");
            assert!(!window.admit(sequence), "{sequence} again");
        }
        assert!(!window.admit(0));
        assert!(window.admit(1_000_000));
        assert!(!window.admit(900) && !window.admit(5));
        assert!(window.admit(u64::MAX));
    }

    #[test]
    fn one_that_goes_on_admits_only_what_is_newer() {
        for newest in [1, 63, 64, 700] {
            let mut window = Window::after(newest);
            assert!((1..=newest).all(|old| !window.admit(old)));
            assert!(window.admit(newest + 2) && window.admit(newest + 1));
            assert!(!window.admit(newest + 1) && window.newest() == newest + 2);
        }
    }

    #[test]
    fn it_agrees_with_a_plain_set() {
        let (mut window, mut set, mut state) = (Window::new(), BTreeSet::new(), 99_u64);
        let mut base = 1;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            base += state % 3;
            let sequence = (base + state % 1500).saturating_sub(state % 1400).max(1);
            let newest = set.last().copied().unwrap_or(0);
            let inside = sequence / 64 + WORDS > newest / 64;
            let expected = inside && !set.contains(&sequence);
            assert_eq!(window.admit(sequence), expected, "{sequence} after {newest}");
            if expected {
                set.insert(sequence);
            }
        }
    }
}
