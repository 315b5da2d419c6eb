//! `/metrics` in the Prometheus text format: what the server is asked, how long it takes, who is
//! watching, and what it costs in memory.

use crate::api::Api;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Upper bounds of the buckets for the time to an answer, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The counters of one server.
#[derive(Default)]
pub(crate) struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inflight: AtomicI64,
    watchers: AtomicI64,
    half_open: AtomicU64,
    requests: Mutex<BTreeMap<(Label, u16), u64>>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// What a request was for. There are only so many kinds and verbs, so counts stay bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    /// The verb; empty for paths that are not resources.
    pub(crate) verb: &'static str,
    /// The resource.
    pub(crate) resource: &'static str,
    /// The subresource, which the registry knows.
    pub(crate) sub: String,
}

/// Counts while it lives.
pub(crate) struct Gauge(Arc<Shared>);

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request being answered.
pub(crate) struct Request {
    shared: Arc<Shared>,
    began: Instant,
}

impl Request {
    /// Begins to count a request.
    pub(crate) fn begin(metrics: &Metrics) -> Request {
        metrics.shared.inflight.fetch_add(1, Ordering::Relaxed);
        Request { shared: metrics.shared.clone(), began: Instant::now() }
    }

    /// Counts the answer.
    pub(crate) fn end(self, label: Label, code: u16) {
        let took = self.began.elapsed();
        let seconds = took.as_secs_f64();
        let slot = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.shared.buckets[slot].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.shared.micros.fetch_add(micros, Ordering::Relaxed);
        let mut requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((label, code)).or_default() += 1;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.shared.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a connection that had to make room before it had shown who it is.
    pub(crate) fn half_open(&self) {
        self.shared.half_open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a watcher as long as the gauge lives.
    pub(crate) fn watcher(&self) -> Gauge {
        self.shared.watchers.fetch_add(1, Ordering::Relaxed);
        Gauge(self.shared.clone())
    }
}

/// All metrics as text.
pub(crate) fn render(api: &Api) -> String {
    let shared = &api.inner.metrics.shared;
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, lines: &[(String, f64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    let requests: Vec<(String, f64)> = shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|((label, code), count)| {
            let Label { verb, resource, sub } = label;
            let labels = format!(
                "{{verb=\"{verb}\",resource=\"{resource}\",subresource=\"{sub}\",code=\"{code}\"}}"
            );
            (labels, *count as f64)
        })
        .collect();
    put("apiserver_request_total", "counter", "Requests answered.", &requests);
    let inflight = shared.inflight.load(Ordering::Relaxed) as f64;
    put("apiserver_current_inflight_requests", "gauge", "Requests being answered.", &one(inflight));
    let watchers = shared.watchers.load(Ordering::Relaxed) as f64;
    put("edged_watchers", "gauge", "Watches that are open.", &one(watchers));
    let ended = shared.half_open.load(Ordering::Relaxed) as f64;
    let help = "Connections without a certificate that had to make room for others.";
    put("edged_api_half_open_ended_total", "counter", help, &one(ended));
    let revision = api.store().revision() as f64;
    put("edged_store_revision", "gauge", "Newest revision of the store.", &one(revision));
    let standing = api.inner.leadership.standing();
    put("edged_term", "counter", "Leaders' terms so far.", &one(standing.term as f64));
    let leads = f64::from(u8::from(standing.ready));
    put("edged_leads", "gauge", "Whether this server leads.", &one(leads));
    let behind = standing.last.saturating_sub(standing.applied) as f64;
    put("edged_log_unapplied", "gauge", "Log entries that are not applied yet.", &one(behind));
    let bad = standing.malformed as f64;
    put(
        "edged_frames_malformed_total",
        "counter",
        "Servers' messages that made no sense.",
        &one(bad),
    );
    let memory = memory_bytes();
    put("process_resident_memory_bytes", "gauge", "Memory in use.", &one(memory));
    put("process_cpu_seconds_total", "counter", "Processor time used.", &one(cpu_seconds()));
    histogram(&mut out, shared);
    out
}

fn histogram(out: &mut String, shared: &Shared) {
    let name = "apiserver_request_duration_seconds";
    let _ = writeln!(out, "# HELP {name} Time to an answer.\n# TYPE {name} histogram");
    let mut total = 0;
    for (slot, count) in shared.buckets.iter().enumerate() {
        total += count.load(Ordering::Relaxed);
        let bound = BUCKETS.get(slot).map_or("+Inf".to_owned(), f64::to_string);
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
    }
    let sum = shared.micros.load(Ordering::Relaxed) as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {total}");
}

fn memory_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The process's name may hold anything; the fields that count follow its closing bracket.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    // USER_HZ is 100 on every Linux that this runs on.
    ticks / 100.0
}
