//! The board's clocks, and the cluster's time as TLS asks for it.

use edge_core::clock::{ClusterClock, Reading};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The moment from which this process counts its steady time.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// By how many milliseconds a test wants the board's clock to be off: a variable that only debug
/// builds know.
pub const SKEW: &str = "EDGED_TEST_CLOCK_SKEW_MS";

static SKEWED: LazyLock<i64> = LazyLock::new(|| {
    let told = std::env::var(SKEW).ok().filter(|_| cfg!(debug_assertions));
    told.and_then(|text| text.parse().ok()).unwrap_or_default()
});

/// Reads both clocks of the board.
pub fn read() -> Reading {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
    Reading { wall_ms: now.saturating_add(*SKEWED).max(0), steady_ms: millis(BEGAN.elapsed()) }
}

/// The cluster's time for verifying certificates.
#[derive(Debug)]
pub(crate) struct Time(pub(crate) ClusterClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now_secs())))
    }
}
