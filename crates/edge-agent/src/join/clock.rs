//! The cluster's clock as the HTTP client asks for it.

use edge_client::clock::Clock;
use edge_core::clock::ClusterClock;

/// The cluster's time for judging servers' certificates.
#[derive(Debug)]
pub(super) struct Judge(pub(super) ClusterClock);

impl Clock for Judge {
    fn now(&self) -> u64 {
        self.0.now_secs()
    }

    fn unsure_since(&self) -> Option<u64> {
        let floor = || u64::try_from(self.0.floor_ms() / 1000).unwrap_or_default();
        (!self.0.confirmed()).then(floor)
    }
}
