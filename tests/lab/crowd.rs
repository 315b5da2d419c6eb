//! Many agents on one server: real `edged agent` processes that run no containers, so that what
//! the server carries is their beats and watches; and how late a change reaches a watcher.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_api::kinds;
use edge_client::{Client, WatchEvent, WatchParams, WriteParams};
use serde_json::json;

use super::cluster::Cluster;
use super::load::{SPACE, clients, runtime};
use super::speed;

/// Changes a second that are watched.
const CHANGES: u64 = 10;

/// What a server carries.
pub(crate) struct Burden {
    /// Of a core, while nothing changes: beats, and what they cause.
    pub(crate) cpu: f64,
    /// Bytes of resident memory.
    pub(crate) resident: f64,
    /// From the begin of a write to its event at a watcher, in milliseconds: all of them.
    pub(crate) delays: Vec<f64>,
    /// Of a core, while ten changes a second go to all watchers.
    pub(crate) cpu_watched: f64,
}

/// Measures the first server for so long, with so many watchers beside the agents' own.
pub(crate) fn measure(cluster: &Cluster, watchers: usize, length: Duration) -> Burden {
    let server = &cluster.boards[0];
    let used = |work: &dyn Fn()| {
        let (before, begin) = (speed::cpu(server), Instant::now());
        work();
        (speed::cpu(server) - before) / begin.elapsed().as_secs_f64()
    };
    let cpu = used(&|| std::thread::sleep(length));
    let delays = Mutex::new(Vec::new());
    let cpu_watched = used(&|| {
        *delays.lock().expect("no panic") = watch_delays(cluster, watchers, length);
    });
    let delays = delays.into_inner().expect("no panic");
    Burden { cpu, resident: speed::resident(server), delays, cpu_watched }
}

/// Writes ten times a second, and gives how late each watcher saw each write.
fn watch_delays(cluster: &Cluster, watchers: usize, length: Duration) -> Vec<f64> {
    // The writer has its own; a few watchers share a client, as controllers in a process do.
    let writer = clients(cluster).remove(0);
    let readers: Vec<Client> = (0..watchers).map(|_| clients(cluster).remove(0)).collect();
    let seconds = length.as_secs();
    cluster.person.within(|| {
        runtime().block_on(async {
            let begins = Arc::new(Mutex::new(Vec::<Instant>::new()));
            let params = WriteParams::default();
            let name = format!("crowd-{watchers}");
            let map = |n: u64| {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"n": n.to_string()},
                    "metadata": {"name": name, "namespace": SPACE}})
            };
            let last = seconds * CHANGES;
            writer.create(kinds::CONFIG_MAP, SPACE, &map(0), &params).await.expect("made");
            let mut tasks = Vec::new();
            for reader in readers {
                let selector = Some(format!("metadata.name={name}"));
                let watch = WatchParams { field_selector: selector, ..WatchParams::default() };
                let stream = reader.watch(kinds::CONFIG_MAP, SPACE, &watch).await;
                tasks.push(tokio::spawn(follow(stream.expect("a watch"), begins.clone(), last)));
            }
            let mut every = tokio::time::interval(Duration::from_millis(1000 / CHANGES));
            for n in 1..=last {
                every.tick().await;
                begins.lock().expect("no panic").push(Instant::now());
                let map = map(n);
                let done = writer.update(kinds::CONFIG_MAP, SPACE, &name, None, &map, &params);
                done.await.expect("a write");
            }
            let mut delays = Vec::new();
            for task in tasks {
                let one = tokio::time::timeout(Duration::from_secs(20), task).await;
                delays.extend(one.expect("every watcher sees the last write").expect("no panic"));
            }
            delays
        })
    })
}

async fn follow(
    mut stream: edge_client::WatchStream,
    begins: Arc<Mutex<Vec<Instant>>>,
    last: u64,
) -> Vec<f64> {
    let mut delays = Vec::new();
    loop {
        let event = stream.next().await.expect("the watch goes on").expect("no error");
        let (WatchEvent::Added(map) | WatchEvent::Modified(map)) = event else { continue };
        let n: u64 = map["data"]["n"].as_str().and_then(|n| n.parse().ok()).expect("a number");
        if let Some(at) = n.checked_sub(1) {
            let at = usize::try_from(at).expect("small");
            let begin = begins.lock().expect("no panic")[at];
            delays.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        if n == last {
            return delays;
        }
    }
}
