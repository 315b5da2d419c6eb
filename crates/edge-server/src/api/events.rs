//! Events live an hour. Nothing wakes up to remove them: readers do not see the expired ones, and
//! a newer Event's write takes some of them away with it, so a cluster at rest writes nothing.

use super::wire::Unstamped;
use super::{Api, intake, now_ms, read_object};
use edge_api::{kinds, time};
use edge_store::{Entry, Expect, ListOptions, Op};
use serde::Deserialize;
use std::sync::atomic::Ordering;

/// How long an Event is shown after it happened last.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
/// How often expired Events are looked for, at most.
const SWEEP_MS: i64 = 60 * 1000;
/// How many go with one write.
const SWEEP_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    metadata: Meta,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    creation_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<String>,
}

/// Whether the stored Event is past its time, in either direction.
pub(super) fn expired(bytes: &[u8], now: i64) -> bool {
    let Some(times) = intake::peek::<Times>(bytes) else { return false };
    let last = [
        times.last_timestamp,
        times.event_time,
        times.series.and_then(|series| series.last_observed_time),
        times.metadata.creation_timestamp,
    ];
    let last = last.into_iter().flatten().filter_map(|text| time::parse(&text)).max();
    // One from a clock that was ahead would stay until then.
    last.is_some_and(|last| (now - last).abs() > LIFETIME_MS)
}

impl Api {
    /// Removals of expired Events, to be proposed together with a newer one.
    pub(crate) fn expired_events(&self) -> Vec<Op> {
        let now = now_ms();
        let swept = self.inner.swept.load(Ordering::Relaxed);
        if (now - swept).abs() < SWEEP_MS {
            return Vec::new();
        }
        self.inner.swept.store(now, Ordering::Relaxed);
        let listing = self.inner.store.list(&kinds::EVENT.key_prefix(None), ListOptions::default());
        let entries = listing.map(|listing| listing.entries).unwrap_or_default();
        let old = entries.iter().filter(|entry| expired(&entry.value, now));
        old.filter_map(removal).take(SWEEP_MAX).collect()
    }
}

fn removal(entry: &Entry) -> Option<Op> {
    let last = Unstamped::write(&read_object(&entry.value).ok()?).ok()?;
    let (last, at) = last.parts();
    // Somebody else may remove it first, and then that is as good.
    Some(Op::Delete { key: entry.key.to_string(), last, stamp: Some(at), expect: Expect::Any })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_time_counts() {
        let event = |last: &str| {
            format!(
                r#"{{"metadata":{{"creationTimestamp":"2025-01-01T00:00:00Z"}},
                "lastTimestamp":{last},"eventTime":null}}"#
            )
        };
        let now = time::parse("2025-01-01T02:00:00Z").unwrap();
        assert!(expired(event("null").as_bytes(), now));
        assert!(!expired(event("\"2025-01-01T01:30:00Z\"").as_bytes(), now));
        assert!(!expired(b"{}", now));
        // Of a clock that is a little ahead, and of one that was years ahead.
        assert!(!expired(event("\"2025-01-01T02:30:00Z\"").as_bytes(), now));
        assert!(expired(event("\"2082-01-01T02:00:00Z\"").as_bytes(), now));
    }
}
