//! How often a controller is asked again that does not settle: one that gets nowhere, or that
//! undoes what another does, must neither spin nor hold up the others. News from outside always
//! get through; what is paced here is only how often it is tried with no news at all.

use std::time::Duration;

use tokio::time::Instant;

/// Rounds in a row that may change something with no news from outside before it rests.
const BRISK_ROUNDS: u32 = 20;

/// The first and the longest rest.
pub(super) const REST_FIRST: Duration = Duration::from_millis(50);
pub(super) const REST_LONGEST: Duration = Duration::from_secs(30);

/// Rounds without effect after which somebody should hear of it: three seconds or so.
const TOLD: u32 = 6;

/// What came of a controller's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There was nothing to do.
    Settled,
    /// Something was written.
    Changed,
    /// It wanted something, and afterwards everything was as before: refused, or the same already.
    Nothing,
}

/// One controller's rounds so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    brisk: u32,
    stuck: u32,
    rest_until: Option<Instant>,
}

impl Pace {
    /// There is news from outside: it may be as brisk as before.
    pub(super) fn news(&mut self) {
        self.brisk = 0;
        self.rest_until = None;
    }

    /// Another controller has written something, which may be what this one waits for.
    pub(super) fn stirred(&mut self) {
        if self.brisk <= BRISK_ROUNDS {
            self.rest_until = None;
        }
    }

    /// Whether it is asked in a round that begins now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.rest_until.is_none_or(|until| until <= now)
    }

    /// Whether it did something just now and is asked again at once, to see what follows.
    pub(super) fn is_brisk(&self) -> bool {
        self.brisk > 0 && self.rest_until.is_none()
    }

    /// When it is to be asked again without news; `None` when there is no need.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Takes in what came of a round. True when it has got nowhere for long enough to be said.
    pub(super) fn after(&mut self, outcome: Outcome, now: Instant) -> bool {
        let (over, told) = match outcome {
            Outcome::Settled => {
                *self = Pace::default();
                return false;
            }
            Outcome::Changed => {
                self.brisk = self.brisk.saturating_add(1);
                self.stuck = 0;
                (self.brisk.saturating_sub(BRISK_ROUNDS), self.brisk == BRISK_ROUNDS + TOLD)
            }
            Outcome::Nothing => {
                self.stuck = self.stuck.saturating_add(1);
                (self.stuck, self.stuck == TOLD)
            }
        };
        self.rest_until = (over > 0).then(|| now + rest(over));
        told
    }
}

fn rest(over: u32) -> Duration {
    let doubled = 2_u32.saturating_pow((over - 1).min(16));
    REST_FIRST.saturating_mul(doubled).min(REST_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_gets_nowhere_rests_longer_and_longer_and_is_told_once() {
        let (mut pace, mut now, mut told) = (Pace::default(), Instant::now(), 0);
        let mut rests = Vec::new();
        for _ in 0..40 {
            told += u32::from(pace.after(Outcome::Nothing, now));
            assert!(!pace.is_due(now));
            let until = pace.rest_until().expect("a rest");
            rests.push(until - now);
            now = until;
            assert!(pace.is_due(now));
        }
        assert_eq!((rests[0], rests[39], told), (REST_FIRST, REST_LONGEST, 1));
        assert!(rests.is_sorted());
    }

    #[test]
    fn news_get_through_at_once_and_do_not_hide_that_it_is_stuck() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            pace.after(Outcome::Nothing, now);
        }
        pace.news();
        assert!(pace.is_due(now));
        pace.after(Outcome::Nothing, now);
        pace.stirred();
        assert!(pace.is_due(now));
        pace.after(Outcome::Nothing, now);
        assert!(pace.rest_until().expect("a rest") - now > Duration::from_secs(1));
    }

    #[test]
    fn one_that_changes_something_is_brisk_for_a_while() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..BRISK_ROUNDS {
            pace.after(Outcome::Changed, now);
            assert!(pace.is_due(now) && pace.is_brisk());
        }
        assert!(!pace.after(Outcome::Changed, now));
        pace.stirred();
        assert!(!pace.is_due(now), "two that undo each other must not keep each other awake");
        pace.news();
        pace.after(Outcome::Changed, now);
        assert!(pace.is_due(now));
        pace.after(Outcome::Settled, now);
        assert!(pace.rest_until().is_none() && !pace.is_brisk());
    }
}
