//! How long to wait before the next attempt: hardly at first, for a restarted broker is back in
//! a moment, then longer and longer, never in step with other boards.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);

/// The longest, before chance is added.
const LONGEST: Duration = Duration::from_millis(1500);

/// The same between servers, which are few: until they have met again, an election may have to
/// wait for its timeouts.
const LONGEST_EAGER: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    state: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64, eager: bool) -> Backoff {
        let longest = if eager { LONGEST_EAGER } else { LONGEST };
        Backoff { next: FIRST, longest, state: seed | 1 }
    }

    /// A session was established: begin anew.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait: half to one and a half of it by chance; the one after is twice as long,
    /// but the first three are short.
    pub(crate) fn wait(&mut self) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.longest);
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        base / 2 + base.mul_f64((self.state % 1000) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::new(7, false);
        let first = backoff.wait();
        assert!(first >= FIRST / 2 && first <= FIRST * 3 / 2);
        let waits: Vec<_> = (0..20).map(|_| backoff.wait()).collect();
        assert!(waits.iter().all(|w| *w <= LONGEST * 3 / 2));
        assert!(waits[10..].iter().all(|w| *w >= LONGEST / 2));
        assert_ne!(waits[15], waits[16]);
        backoff.reset();
        assert!(backoff.wait() <= FIRST * 3 / 2);
        let mut eager = Backoff::new(7, true);
        assert!((0..20).all(|_| eager.wait() <= LONGEST_EAGER * 3 / 2));
    }
}
