//! A pulse of writes: one to each server in turn, every few milliseconds, whether or not the
//! ones before were answered. How long a cluster takes no writes is read from its answers. The
//! same pulse beats against edged and against etcd, over the same client.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use edge_api::kinds;
use edge_client::{Call, Client, Error, WriteParams};
use serde_json::json;

use super::cluster::Cluster;
use super::load::{SPACE, runtime};

/// Time between two writes; each goes to the next server.
pub(crate) const EVERY: Duration = Duration::from_millis(10);

/// Writes to one server that may be without an answer at once.
const OPEN: usize = 100;

/// Pulses so far: each writes to keys of its own.
static RUN: AtomicUsize = AtomicUsize::new(0);

/// How long the first write of all may take.
const FIRST: Duration = Duration::from_secs(20);

/// Between two attempts at it.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is written to.
#[derive(Clone)]
pub(crate) enum Target {
    /// edged's servers, each by a client of its own.
    Edged(Vec<Client>),
    /// etcd's members, by their HTTP/JSON gateway.
    Etcd(Vec<Client>),
}

impl Target {
    pub(crate) fn len(&self) -> usize {
        match self {
            Target::Edged(clients) | Target::Etcd(clients) => clients.len(),
        }
    }

    /// Makes what will be written to, before anything is measured. A member that was started again
    /// may listen late, and leadership may pass on while it is made: then nobody knows whether the
    /// write was, and it is asked for again.
    pub(crate) async fn prepare(&self, names: &[String], bytes: usize) {
        for name in names {
            let since = Instant::now();
            while let Err(error) = self.first(name, bytes).await {
                assert!(since.elapsed() < FIRST, "{name}: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The first write of a name; that it is there already is as good.
    async fn first(&self, name: &str, bytes: usize) -> Result<(), Error> {
        let Target::Edged(clients) = self else { return self.put(0, name, 0, bytes).await };
        let params = WriteParams::default();
        let object = map(name, 0, bytes);
        match clients[0].create(kinds::CONFIG_MAP, SPACE, &object, &params).await {
            Err(Error::Status(status)) if status.code == 409 => Ok(()),
            made => made.map(drop),
        }
    }

    /// One write of so many bytes through a server.
    ///
    /// # Errors
    /// What the server or the network said.
    pub(crate) async fn put(
        &self,
        server: usize,
        name: &str,
        n: u64,
        bytes: usize,
    ) -> Result<(), Error> {
        match self {
            Target::Edged(clients) => {
                let params = WriteParams::default();
                let map = map(name, n, bytes);
                let kind = kinds::CONFIG_MAP;
                clients[server].update(kind, SPACE, name, None, &map, &params).await?;
            }
            Target::Etcd(clients) => {
                let value = format!("{n:<bytes$}");
                let body =
                    json!({"key": base64(name.as_bytes()), "value": base64(value.as_bytes())});
                let call = Call::new(http::Method::POST, "/v3/kv/put").json(&body);
                clients[server].call(&call).await?;
            }
        }
        Ok(())
    }
}

fn map(name: &str, n: u64, bytes: usize) -> edge_api::Object {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SPACE}, "data": {"value": format!("{n:<bytes$}")}})
}

/// As etcd's gateway wants its bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A pulse under way.
pub(crate) struct Pulse {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    target: Target,
    names: Vec<String>,
    epoch: Instant,
    stop: AtomicBool,
    every: Duration,
    /// Writes without an answer, per server.
    open: Vec<AtomicUsize>,
    /// Begin and end of every acknowledged write, in nanoseconds.
    done: Mutex<Vec<(u64, u64)>>,
}

impl Pulse {
    /// Starts to beat; the first write is acknowledged when this returns.
    pub(crate) fn start(cluster: &Cluster, target: Target, what: &str, every: Duration) -> Pulse {
        let open = (0..target.len()).map(|_| AtomicUsize::new(0)).collect();
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let names = (0..8).map(|n| format!("pulse-{what}-{run}-{n}")).collect();
        let shared = Arc::new(Shared {
            target,
            names,
            epoch: Instant::now(),
            stop: AtomicBool::new(false),
            every,
            open,
            done: Mutex::new(Vec::new()),
        });
        let run = shared.clone();
        let thread = cluster.person.thread(move || runtime().block_on(beat(run)));
        let pulse = Pulse { shared, thread: Some(thread) };
        pulse.after(0, Duration::from_secs(30)).expect("a first write");
        pulse
    }

    /// Nanoseconds since the pulse began.
    pub(crate) fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Waits for the first write that began after `since` and is acknowledged; how long after
    /// `since` that was.
    pub(crate) fn after(&self, since: u64, most: Duration) -> Option<Duration> {
        let end = Instant::now() + most;
        while Instant::now() < end {
            let done = self.shared.done.lock().expect("no panic");
            let new = done.iter().rev().take_while(|(_, end)| *end >= since);
            let first = new.filter(|(begin, _)| *begin >= since).map(|(_, end)| *end).min();
            drop(done);
            if let Some(at) = first {
                return Some(Duration::from_nanos(at - since));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// The longest time without an acknowledged write, from `since` on.
    pub(crate) fn longest_gap(&self, since: u64) -> Duration {
        let done = self.shared.done.lock().expect("no panic");
        let mut ends: Vec<u64> = done.iter().map(|(_, end)| *end).filter(|e| *e >= since).collect();
        ends.push(since);
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_nanos(gaps.max().unwrap_or(0))
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("less than 500 years")
    }
}

async fn beat(shared: Arc<Shared>) {
    shared.target.prepare(&shared.names, 16).await;
    let mut every = tokio::time::interval(shared.every);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let servers = shared.target.len();
    for n in 1_u64.. {
        every.tick().await;
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        let at = usize::try_from(n).expect("64 bits");
        let server = at % servers;
        if shared.open[server].load(Ordering::Acquire) >= OPEN {
            continue;
        }
        shared.open[server].fetch_add(1, Ordering::AcqRel);
        let shared = shared.clone();
        tokio::spawn(async move {
            let begin = shared.now();
            let name = &shared.names[at % shared.names.len()];
            if shared.target.put(server, name, n, 16).await.is_ok() {
                let end = shared.now();
                shared.done.lock().expect("no panic").push((begin, end));
            }
            shared.open[server].fetch_sub(1, Ordering::AcqRel);
        });
    }
}
