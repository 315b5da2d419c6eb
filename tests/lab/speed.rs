//! What writes cost: time, and bytes that reach a device. The same clients write to edged and to
//! etcd, spread over all members, each a key of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::board::Board;
use super::cluster::Cluster;
use super::load::runtime;
use super::pulse::Target;

/// Loads so far: each writes to keys of its own.
static RUN: AtomicU32 = AtomicU32::new(0);

/// Writes of one kind of load.
pub(crate) struct Speed {
    /// How long each took, in milliseconds.
    pub(crate) latencies: Vec<f64>,
    /// Acknowledged writes a second.
    pub(crate) rate: f64,
    /// Bytes that a board wrote to its device per write, on average over the boards.
    pub(crate) bytes: f64,
}

/// Bytes that a board's main program caused to be written to a device so far.
pub(crate) fn written(board: &Board) -> u64 {
    let Some(pid) = board.pid() else { return 0 };
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|n| n.parse().ok()).expect("the kernel counts")
}

/// CPU time of a board's main program so far, in seconds.
pub(crate) fn cpu(board: &Board) -> f64 {
    let Some(pid) = board.pid() else { return 0.0 };
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| after.split_whitespace().nth(n).and_then(|t| t.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// Resident memory of a board's main program, in bytes.
pub(crate) fn resident(board: &Board) -> f64 {
    let Some(pid) = board.pid() else { return 0.0 };
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    number.unwrap_or(0.0) * 1024.0
}

/// Writes `bytes` each, by so many clients at once, for so long. `targets` gives each client a
/// set of connections of its own.
pub(crate) fn measure(
    lab: &Cluster,
    targets: impl Fn() -> Target,
    clients: usize,
    bytes: usize,
    length: Duration,
) -> Speed {
    let targets: Vec<Target> = (0..clients).map(|_| targets()).collect();
    let boards: Vec<&Board> = lab.servers().collect();
    let before: u64 = boards.iter().map(|board| written(board)).sum();
    let (latencies, took) = lab.person.within(|| {
        runtime().block_on(async {
            let run = RUN.fetch_add(1, Ordering::Relaxed);
            let names = |n| vec![format!("speed-{run}-{n}")];
            for (n, target) in targets.iter().enumerate() {
                target.prepare(&names(n), bytes).await;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let begin = Instant::now();
            let tasks: Vec<_> = targets
                .into_iter()
                .enumerate()
                .map(|(n, target)| {
                    let (name, stop) = (names(n).remove(0), stop.clone());
                    tokio::spawn(one(target, n, name, bytes, stop))
                })
                .collect();
            tokio::time::sleep(length).await;
            stop.store(true, Ordering::Release);
            let mut latencies = Vec::new();
            for task in tasks {
                latencies.extend(task.await.expect("a client ends"));
            }
            (latencies, begin.elapsed())
        })
    });
    let after: u64 = boards.iter().map(|board| written(board)).sum();
    let writes = latencies.len() as f64;
    Speed {
        rate: writes / took.as_secs_f64(),
        bytes: (after - before) as f64 / boards.len() as f64 / writes,
        latencies,
    }
}

async fn one(
    target: Target,
    n: usize,
    name: String,
    bytes: usize,
    stop: Arc<AtomicBool>,
) -> Vec<f64> {
    let server = n % target.len();
    let mut latencies = Vec::new();
    for n in 1.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let begin = Instant::now();
        let done = target.put(server, &name, n, bytes).await;
        done.unwrap_or_else(|error| panic!("a write to {name}: {error}"));
        latencies.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    latencies
}
