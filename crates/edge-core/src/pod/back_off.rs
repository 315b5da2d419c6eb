//! Back-off arithmetic: how long to wait before the next try, from how often it has failed.
//! The delays are Kubernetes' own, and so is the way of writing them in messages.

/// First delay after a crash or a failed pull.
pub const CRASH_FIRST_MS: i64 = 10_000;
/// Longest delay after a crash or a failed pull.
pub const CRASH_MAX_MS: i64 = 300_000;
/// Delay doubles from here when volumes can't be set up.
const VOLUME_FIRST_MS: i64 = 500;
const VOLUME_MAX_MS: i64 = 122_000;
/// Delay doubles from here when the pod's network can't be made.
const SANDBOX_FIRST_MS: i64 = 1_000;
const SANDBOX_MAX_MS: i64 = 60_000;

/// The crash back-off of one container: how long to wait since its last end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashBackOff {
    /// The delay in force.
    pub delay_ms: i64,
    /// The end of the run that set it.
    pub set_ms: i64,
}

impl CrashBackOff {
    /// When the container that ended at `ended_ms` may start again, if it has to wait at all.
    pub fn until(current: Option<CrashBackOff>, ended_ms: i64) -> Option<i64> {
        let entry = current?;
        (!entry.expired(ended_ms)).then_some(ended_ms + entry.delay_ms)
    }

    /// The entry after one more restart of a container that ended at `ended_ms`.
    pub fn next(current: Option<CrashBackOff>, ended_ms: i64) -> CrashBackOff {
        let delay_ms = match current {
            Some(entry) if !entry.expired(ended_ms) => (entry.delay_ms * 2).min(CRASH_MAX_MS),
            _ => CRASH_FIRST_MS,
        };
        CrashBackOff { delay_ms, set_ms: ended_ms }
    }

    /// A container that has run for ten minutes since has earned a fresh start.
    fn expired(&self, ended_ms: i64) -> bool {
        ended_ms - self.set_ms > 2 * CRASH_MAX_MS
    }
}

fn doubled(first: i64, max: i64, failures: u32) -> i64 {
    let shift = failures.saturating_sub(1).min(20);
    (first << shift).min(max)
}

/// Delay after the `failures`th failed pull in a row.
pub(super) fn pull_delay_ms(failures: u32) -> i64 {
    doubled(CRASH_FIRST_MS, CRASH_MAX_MS, failures)
}

/// Delay after the `failures`th failed set-up of volumes in a row.
pub(super) fn volume_delay_ms(failures: u32) -> i64 {
    doubled(VOLUME_FIRST_MS, VOLUME_MAX_MS, failures)
}

/// Delay after the `failures`th failed creation of the pod's network in a row.
pub(super) fn sandbox_delay_ms(failures: u32) -> i64 {
    doubled(SANDBOX_FIRST_MS, SANDBOX_MAX_MS, failures)
}

/// A duration as Go prints it (`10s`, `1m20s`, `5m0s`), which is how Kubernetes' messages have it.
pub fn go_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let (h, m, s) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_back_off_doubles_and_resets_after_ten_minutes() {
        let mut entry = None;
        let mut delays = Vec::new();
        let mut ended = 0;
        for _ in 0..8 {
            let next = CrashBackOff::next(entry, ended);
            delays.push(next.delay_ms / 1000);
            ended += next.delay_ms + 100;
            entry = Some(next);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
        let later = ended + 700_000;
        assert_eq!(CrashBackOff::until(entry, later), None);
        assert_eq!(CrashBackOff::next(entry, later).delay_ms, CRASH_FIRST_MS);
    }

    #[test]
    fn first_crash_waits_for_nothing() {
        assert_eq!(CrashBackOff::until(None, 5), None);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        let shown: Vec<_> =
            [10_000, 80_000, 300_000, 3_600_000].iter().map(|ms| go_duration(*ms)).collect();
        assert_eq!(shown, ["10s", "1m20s", "5m0s", "1h0m0s"]);
    }

    #[test]
    fn other_delays_double_to_their_ceiling() {
        assert_eq!([1, 2, 6, 40].map(pull_delay_ms), [10_000, 20_000, 300_000, 300_000]);
        assert_eq!([1, 2, 40].map(volume_delay_ms), [500, 1000, 122_000]);
        assert_eq!([1, 2, 40].map(sandbox_delay_ms), [1000, 2000, 60_000]);
    }
}
