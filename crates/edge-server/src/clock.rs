//! The board's clocks, and the cluster's time as TLS asks for it.

use edge_core::clock::{ClusterClock, Reading};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The moment from which this process counts its steady time.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// By how many milliseconds a test wants the board's clock to be off, or the path of a file that
/// says so at any moment: a variable that only debug builds know.
pub const SKEW: &str = "EDGED_TEST_CLOCK_SKEW_MS";

/// How often clocks are compared.
const LOOK: Duration = Duration::from_secs(5);

static TOLD: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var(SKEW).ok().filter(|_| cfg!(debug_assertions)));

fn skewed_ms() -> i64 {
    let Some(told) = TOLD.as_deref() else { return 0 };
    let number = |text: &str| text.trim().parse().ok();
    let file = || number(&std::fs::read_to_string(told).ok()?);
    number(told).or_else(file).unwrap_or_default()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The board's wall clock, in milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
    now.saturating_add(skewed_ms()).max(0)
}

/// Reads both clocks of the board.
pub fn read() -> Reading {
    Reading { wall_ms: wall_ms(), steady_ms: millis(BEGAN.elapsed()), synchronised: false }
}

/// Waits until a clock says that so much time has passed since `since`, in seconds: it may jump
/// there, in either direction, as that of a board does which has heard the time at last.
pub async fn passes(now: impl Fn() -> u64, since: u64, time: Duration) {
    while now().abs_diff(since) < time.as_secs() {
        tokio::time::sleep(LOOK.min(time)).await;
    }
}

/// The cluster's time for verifying certificates.
#[derive(Debug)]
pub(crate) struct Time(pub(crate) ClusterClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now_secs())))
    }
}
