//! What time it is, judged: a board may wake in 1970 or years ahead. The system's clock counts
//! unless it is below what is known to have passed (the *floor*), or contradicts the time that the
//! cluster told over a connection whose other end was proven. One that follows a source of time
//! counts before the cluster's.
//!
//! Nothing here reads a clock: whoever makes a [`ClusterClock`] gives it a way to.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far the system's clock may be from the cluster's before it is not believed, in milliseconds.
pub const TOLERANCE_MS: i64 = 2 * 60 * 1000;

/// How far the system's clock moves from the steady one when somebody sets it, at the least, in
/// milliseconds. Who makes it slower or faster makes both so; a leap second is shorter.
const STEP_MS: i64 = 10 * 1000;

/// 2026-01-01T00:00:00Z: no board that runs this program lives before that.
pub const BUILT_MS: i64 = 1_767_225_600_000;

/// Both clocks of a board, read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The system's time, in milliseconds since 1970; it may be wrong and may jump.
    pub wall_ms: i64,
    /// Milliseconds since some moment; never jumps.
    pub steady_ms: i64,
    /// Whether the kernel says that the system's time follows a source of time.
    pub synchronised: bool,
}

impl Reading {
    /// How far apart both clocks are, in milliseconds: always the same, until somebody sets one.
    #[must_use]
    pub fn apart_ms(self) -> i64 {
        self.wall_ms.saturating_sub(self.steady_ms)
    }
}

/// A clock that the board keeps beside the system's, with a battery or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it says, in milliseconds since 1970.
    pub ms: i64,
    /// Whether the kernel set the system's clock by it as it booted.
    pub set_ours: bool,
}

/// Whether nobody has set the system's clock since the boot. Before 2026 that is certain. Later it
/// may stand at the day that systemd was made, or at what a file kept of it (fake-hwclock): then no
/// source of time is followed, and no clock of the board's has it from before the boot.
#[must_use]
pub fn never_set(reading: Reading, clocks: &[Kept]) -> bool {
    let wall = reading.wall_ms;
    // Without a battery it began in 1970 as well, and systemd went on from its own day.
    let keeps = |clock: &Kept| {
        let near = clock.ms.saturating_sub(wall).saturating_abs() <= TOLERANCE_MS;
        clock.ms >= BUILT_MS && (clock.set_ours || near)
    };
    wall < BUILT_MS || !reading.synchronised && !clocks.iter().any(keeps)
}

/// What becomes of the system's clock when the cluster tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is the cluster's, or ahead of it.
    Leave,
    /// It takes the cluster's time.
    Take,
    /// Somebody has set it since: a source of time, or a person. It is theirs until the next boot.
    Theirs,
}

/// The cluster tells its time to a board whose clock nobody had set when edged first looked: both
/// were `apart_ms` apart then, or when edged itself last set it. The steady one counts from the
/// boot.
#[must_use]
pub fn heard(apart_ms: i64, reading: Reading, cluster_ms: i64) -> Heard {
    let moved = reading.apart_ms().saturating_sub(apart_ms).saturating_abs() > STEP_MS;
    // A clock without a battery that was asked late is in 1970, or in 2000, and says nothing.
    let set = reading.synchronised || moved && reading.wall_ms >= BUILT_MS;
    match cluster_ms.saturating_sub(reading.wall_ms) > TOLERANCE_MS {
        _ if set => Heard::Theirs,
        true => Heard::Take,
        false => Heard::Leave,
    }
}

/// What is known of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    floor_ms: i64,
    /// The steady clock when the floor was learned.
    floor_at: i64,
    /// The cluster's time, and the steady clock when it was told.
    told: Option<(i64, i64)>,
}

impl Judgement {
    /// Knows only that it is not before `floor_ms`, nor before this program was made.
    pub fn new(floor_ms: i64) -> Judgement {
        Judgement { floor_ms: floor_ms.max(BUILT_MS), floor_at: 0, told: None }
    }

    /// Takes the cluster's time from a peer that has proven itself. It may be earlier than what was
    /// told before: then the cluster's own clock was wrong, and has been set right.
    pub fn tell(&mut self, cluster_ms: i64, reading: Reading) {
        self.told = Some((cluster_ms, reading.steady_ms));
        (self.floor_ms, self.floor_at) = (cluster_ms, reading.steady_ms);
    }

    /// The time, in milliseconds since 1970. A floor rises as time goes by.
    pub fn now_ms(&self, reading: Reading) -> i64 {
        if reading.synchronised && reading.wall_ms >= BUILT_MS {
            return reading.wall_ms;
        }
        let passed = (reading.steady_ms - self.floor_at).max(0);
        let Some((told, at)) = self.told else {
            return reading.wall_ms.max(self.floor_ms.saturating_add(passed));
        };
        let cluster = told.saturating_add((reading.steady_ms - at).max(0));
        let apart = reading.wall_ms.saturating_sub(cluster).saturating_abs();
        if apart <= TOLERANCE_MS { reading.wall_ms } else { cluster }
    }

    /// Learns that this moment has passed.
    pub fn raise(&mut self, floor_ms: i64, reading: Reading) {
        if floor_ms > self.floor_ms {
            (self.floor_ms, self.floor_at) = (floor_ms, reading.steady_ms);
        }
    }

    /// What has passed for certain.
    pub fn floor_ms(&self) -> i64 {
        self.floor_ms
    }

    /// Whether the cluster has told its time since this process began.
    pub fn confirmed(&self) -> bool {
        self.told.is_some()
    }
}

/// One judgement shared by all that ask for the time; cheap to clone.
#[derive(Clone)]
pub struct ClusterClock {
    inner: Arc<Inner>,
}

struct Inner {
    judgement: Mutex<Judgement>,
    read: Box<dyn Fn() -> Reading + Send + Sync>,
}

impl ClusterClock {
    /// A clock that reads the board's two by `read`, and knows that `floor_ms` has passed.
    pub fn new(floor_ms: i64, read: impl Fn() -> Reading + Send + Sync + 'static) -> ClusterClock {
        let judgement = Mutex::new(Judgement::new(floor_ms));
        ClusterClock { inner: Arc::new(Inner { judgement, read: Box::new(read) }) }
    }

    fn judgement(&self) -> MutexGuard<'_, Judgement> {
        self.inner.judgement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.judgement().now_ms((self.inner.read)())
    }

    /// The time, in seconds since 1970.
    pub fn now_secs(&self) -> u64 {
        u64::try_from(self.now_ms() / 1000).unwrap_or_default()
    }

    /// Takes the cluster's time from a peer that has proven itself.
    pub fn tell(&self, cluster_ms: i64) {
        let reading = (self.inner.read)();
        self.judgement().tell(cluster_ms, reading);
    }

    /// Learns that this moment has passed, in milliseconds since 1970.
    pub fn raise(&self, floor_ms: i64) {
        let reading = (self.inner.read)();
        self.judgement().raise(floor_ms, reading);
    }

    /// What has passed for certain, in milliseconds since 1970.
    pub fn floor_ms(&self) -> i64 {
        self.judgement().floor_ms()
    }

    /// Whether the cluster has told its time since this process began.
    pub fn confirmed(&self) -> bool {
        self.judgement().confirmed()
    }
}

impl fmt::Debug for ClusterClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterClock").field(&*self.judgement()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;
    const NOVEMBER: i64 = BUILT_MS + 300 * DAY;

    fn at(wall_ms: i64, steady_ms: i64) -> Reading {
        Reading { wall_ms, steady_ms, synchronised: false }
    }

    #[test]
    fn a_clock_that_nobody_has_set() {
        // The day that the card's systemd was made: 2026-04-13.
        let epoch = at(BUILT_MS + 102 * DAY, 9);
        let kept = |ms, set_ours| [Kept { ms, set_ours }];
        assert!(never_set(at(5, 5), &kept(NOVEMBER, true)), "1970, whatever else is said");
        assert!(never_set(epoch, &[]), "no clock of its own");
        assert!(never_set(epoch, &kept(9, true)), "one without a battery was in 1970 too");
        assert!(never_set(epoch, &kept(NOVEMBER, false)), "one that was not asked");
        assert!(!never_set(Reading { synchronised: true, ..epoch }, &[]));
        let set = at(NOVEMBER, 9);
        assert!(
            !never_set(set, &kept(NOVEMBER - 9 * DAY, true)),
            "it was set by it, and then moved"
        );
        assert!(!never_set(set, &kept(NOVEMBER - 1000, false)), "a program set it by that");
    }

    #[test]
    fn a_clock_that_somebody_has_set_since_is_theirs() {
        let (noted, cluster) = (NOVEMBER - 5, NOVEMBER + 90 * DAY);
        let later = |moved: i64| at(NOVEMBER + DAY + moved, DAY + 5);
        assert_eq!(heard(noted, later(0), cluster), Heard::Take, "time only went by");
        assert_eq!(heard(noted, later(0), NOVEMBER + DAY), Heard::Leave);
        assert_eq!(heard(noted, later(0), NOVEMBER - DAY), Heard::Leave, "never back");
        for second in [-1000, 1000] {
            assert_eq!(heard(noted, later(second), cluster), Heard::Take, "a leap second");
        }
        for set in [-DAY, -20_000, 20_000, DAY, 200 * DAY] {
            assert_eq!(heard(noted, later(set), cluster), Heard::Theirs, "{set}");
        }
        assert_eq!(heard(noted, at(5, DAY), cluster), Heard::Take, "by a clock in 1970");
        let follows = Reading { synchronised: true, ..later(0) };
        assert_eq!(heard(noted, follows, cluster), Heard::Theirs);
    }

    #[test]
    fn a_board_in_1970_is_at_the_floor() {
        let mut judgement = Judgement::new(NOVEMBER);
        assert_eq!(judgement.now_ms(at(5, 5)), NOVEMBER + 5, "time goes by, from the floor on");
        judgement.tell(NOVEMBER + DAY, at(1000, 1000));
        assert_eq!(judgement.now_ms(at(3000, 3000)), NOVEMBER + DAY + 2000);
        assert_eq!(Judgement::new(0).now_ms(at(0, 0)), BUILT_MS);
    }

    #[test]
    fn a_board_years_ahead_believes_the_cluster() {
        let mut judgement = Judgement::new(NOVEMBER);
        let ahead = NOVEMBER + 5000 * DAY;
        assert_eq!(judgement.now_ms(at(ahead, 0)), ahead, "nobody has told it better");
        judgement.tell(NOVEMBER + DAY, at(ahead, 0));
        assert_eq!(judgement.now_ms(at(ahead + 10, 10)), NOVEMBER + DAY + 10);
        // Then somebody sets the clock right: it counts again.
        assert_eq!(judgement.now_ms(at(NOVEMBER + DAY + 500, 20)), NOVEMBER + DAY + 500);
    }

    /// Two servers without clocks tell each other what neither knows; the first that hears the
    /// time from elsewhere ends it.
    #[test]
    fn a_clock_that_follows_a_source_is_believed_before_the_cluster() {
        let mut judgement = Judgement::new(NOVEMBER);
        judgement.tell(NOVEMBER + DAY, at(0, 0));
        let set = |synchronised| Reading { synchronised, ..at(NOVEMBER + 90 * DAY, 50) };
        // A floor may be of a clock that was years ahead.
        let ahead = Judgement::new(NOVEMBER + 900 * DAY);
        assert_eq!(ahead.now_ms(set(true)), NOVEMBER + 90 * DAY);
        assert_eq!(judgement.now_ms(set(false)), NOVEMBER + DAY + 50);
        assert_eq!(judgement.now_ms(set(true)), NOVEMBER + 90 * DAY);
        let never_set = Reading { synchronised: true, ..at(7, 60) };
        assert_eq!(judgement.now_ms(never_set), NOVEMBER + DAY + 60);
    }

    #[test]
    fn a_cluster_that_was_wrong_is_believed_again_once_it_is_right() {
        let mut judgement = Judgement::new(NOVEMBER);
        judgement.tell(NOVEMBER + 400 * DAY, at(0, 0));
        judgement.tell(NOVEMBER, at(0, 10));
        assert_eq!((judgement.floor_ms(), judgement.now_ms(at(0, 10))), (NOVEMBER, NOVEMBER));
        judgement.raise(NOVEMBER - DAY, at(0, 20));
        assert_eq!(judgement.floor_ms(), NOVEMBER);
        assert!(judgement.confirmed());
    }
}
