//! The clients: a handful of registers (ConfigMaps), written, swapped and read through all
//! servers at once, without pause, whatever happens to the boards. Each request is sent once
//! and its outcome recorded; watches follow the same registers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edge_api::{Object, kinds};
use edge_client::{Client, Error, ListParams, Patience, WriteParams};
use serde_json::json;

use super::chance::Chance;
use super::cluster::Cluster;
use super::history::{Asked, FIRST, History, Record, Told};
use super::watching::{Account, follow};

/// Where the registers are.
pub(crate) const SPACE: &str = "default";

/// The label that all registers carry.
pub(crate) const LABEL: (&str, &str) = ("lab", "register");

/// How long one request may take. What takes longer has an unknown outcome.
const ANSWER: Duration = Duration::from_secs(3);

/// How much is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) registers: usize,
    pub(crate) clients: usize,
    /// Pause between two requests of one client: up to this.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
}

/// What all clients share.
pub(crate) struct Common {
    pub(crate) clients: Vec<Client>,
    pub(crate) stop: AtomicBool,
    /// The revision up to which watches have to come before they may end.
    pub(crate) until: AtomicU64,
    epoch: Instant,
    values: AtomicU64,
    records: Mutex<Vec<Record>>,
    plan: Plan,
}

/// A load under way.
pub(crate) struct Load {
    common: Arc<Common>,
    thread: std::thread::JoinHandle<Vec<Account>>,
}

/// What a load left.
pub(crate) struct Evidence {
    pub(crate) history: History,
    pub(crate) watches: Vec<Account>,
}

/// One client per server, each with that server only, that sends nothing twice.
pub(crate) fn clients(cluster: &Cluster) -> Vec<Client> {
    let patience =
        Patience { connect: Duration::from_millis(700), answer: ANSWER, attempts: 1, rounds: 1 };
    let one = |server| {
        let path = cluster.kubeconfig(server);
        let config = edge_client::Config::from_kubeconfig(&path, None).expect("a kubeconfig");
        Client::with_patience(config, patience).expect("a client")
    };
    cluster.servers().map(one).collect()
}

/// A runtime for a thread of clients.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

pub(crate) fn register(key: usize) -> String {
    format!("register-{key}")
}

fn object(key: usize, value: u64, revision: Option<u64>) -> Object {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": register(key), "namespace": SPACE, "labels": {LABEL.0: LABEL.1}},
        "data": {"value": value.to_string()}});
    if let Some(revision) = revision {
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
    }
    object
}

/// The value and revision of a register.
pub(crate) fn parse(object: &Object) -> Option<(u64, u64)> {
    let value = object["data"]["value"].as_str()?.parse().ok()?;
    let revision = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
    Some((value, revision))
}

impl Load {
    /// Makes the registers and starts clients and watches: one watch on each server, and one
    /// that goes from server to server.
    pub(crate) fn start(cluster: &Cluster, plan: Plan) -> Load {
        let common = Arc::new(Common {
            clients: clients(cluster),
            stop: AtomicBool::new(false),
            until: AtomicU64::new(0),
            epoch: Instant::now(),
            values: AtomicU64::new(FIRST),
            records: Mutex::new(Vec::new()),
            plan,
        });
        let run = common.clone();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = cluster.person.thread(move || runtime().block_on(work(run, ready)));
        started.recv().expect("the registers can be made");
        Load { common, thread }
    }

    /// Nanoseconds since the load began.
    pub(crate) fn now(&self) -> u64 {
        self.common.now()
    }

    /// The first write that began after `since` and was acknowledged: when that was.
    pub(crate) fn acknowledged_after(&self, since: u64) -> Option<u64> {
        let records = self.common.records.lock().expect("no client panicked");
        let done = records.iter().rev().take_while(|record| record.end >= since);
        let done = done.filter(|record| {
            let written = matches!(record.told, Told::Done { .. }) && record.asked != Asked::Read;
            written && record.begin >= since
        });
        done.map(|record| record.end).min()
    }

    /// Waits, within bounds, for a write that begins after `since` to be acknowledged.
    pub(crate) fn recovery(&self, since: u64, most: Duration) -> Option<Duration> {
        let end = Instant::now() + most;
        loop {
            if let Some(at) = self.acknowledged_after(since) {
                return Some(Duration::from_nanos(at - since));
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads every register through every server: what was acknowledged before is there. A server
    /// whose state is no longer that of the others is found here, and not hundreds of faults later.
    pub(crate) fn is_everywhere(&self, cluster: &Cluster) -> Result<(), String> {
        let mut newest = vec![0; self.common.plan.registers];
        for record in &*self.common.records.lock().expect("no client panicked") {
            if let (Told::Done { revision, .. }, true) = (record.told, record.asked != Asked::Read)
            {
                newest[record.key] = newest[record.key].max(revision);
            }
        }
        let read = async |client: &Client, key: usize| {
            let found = client.get(kinds::CONFIG_MAP, SPACE, &register(key)).await;
            found.ok().as_ref().and_then(parse).map(|(_, revision)| revision)
        };
        let work = async {
            for (server, client) in clients(cluster).iter().enumerate() {
                for (key, newest) in newest.iter().enumerate() {
                    // One that is still coming up answers nothing: it is asked the next time.
                    match read(client, key).await {
                        Some(revision) if revision < *newest => {
                            return Err(format!(
                                "s{} has {} of revision {revision}, and {newest} was acknowledged",
                                server + 1,
                                register(key)
                            ));
                        }
                        Some(_) => {}
                        None => break,
                    }
                }
            }
            Ok(())
        };
        cluster.person.within(|| runtime().block_on(work))
    }

    /// Ends the clients, lets the watches come to the last write, and gives what was recorded.
    pub(crate) fn finish(self) -> Evidence {
        self.common.stop.store(true, Ordering::Release);
        let watches = self.thread.join().expect("clients and watches end");
        let records = std::mem::take(&mut *self.common.records.lock().expect("no panic"));
        Evidence { history: History { records }, watches }
    }
}

impl Common {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).expect("less than 500 years")
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Sends one request and records what came of it. Gives what was seen.
    async fn ask(&self, key: usize, server: usize, wish: Wish) -> Option<(u64, u64)> {
        let client = &self.clients[server];
        let params = WriteParams::default();
        let asked = match wish {
            Wish::Read => Asked::Read,
            Wish::Write => Asked::Write { value: self.fresh() },
            Wish::Swap { from, .. } => Asked::Swap { from, to: self.fresh() },
        };
        let begin = self.now();
        let answer = match (asked, wish) {
            (Asked::Read, _) => client.get(kinds::CONFIG_MAP, SPACE, &register(key)).await,
            (Asked::Write { value: to } | Asked::Swap { to, .. }, _) => {
                let revision = if let Wish::Swap { at, .. } = wish { Some(at) } else { None };
                let (object, name) = (object(key, to, revision), register(key));
                client.update(kinds::CONFIG_MAP, SPACE, &name, None, &object, &params).await
            }
        };
        let end = self.now();
        let told = match &answer {
            Ok(object) => match parse(object) {
                Some((value, revision)) => Told::Done { value, revision },
                None => panic!("an answer without value or revision: {object}"),
            },
            Err(error) if refused(error) => Told::Refused,
            Err(_) => Told::Unknown,
        };
        let record = Record { key, server, asked, told, begin, end };
        self.records.lock().expect("no client panicked").push(record);
        match told {
            Told::Done { value, revision } => Some((value, revision)),
            _ => None,
        }
    }

    fn fresh(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[derive(Clone, Copy)]
enum Wish {
    Read,
    Write,
    Swap { from: u64, at: u64 },
}

/// Whether an error promises that nothing has happened.
fn refused(error: &Error) -> bool {
    error.is_unreachable() || matches!(error.code(), 400..=404 | 409 | 422)
}

/// Makes the registers, runs clients and watches, and ends when all have.
async fn work(common: Arc<Common>, ready: std::sync::mpsc::SyncSender<()>) -> Vec<Account> {
    let first = &common.clients[0];
    for key in 0..common.plan.registers {
        let object = object(key, FIRST, None);
        let params = WriteParams::default();
        first.create(kinds::CONFIG_MAP, SPACE, &object, &params).await.expect("a register");
    }
    let list = ListParams::default();
    let from = first.list(kinds::CONFIG_MAP, SPACE, &list).await.expect("a list");
    let from: u64 = from.resource_version.parse().expect("a revision");
    let servers = common.clients.len();
    let homes = (0..servers).map(Some).chain([None]);
    let watches: Vec<_> =
        homes.map(|home| tokio::spawn(follow(common.clone(), home, from))).collect();
    let clients: Vec<_> =
        (0..common.plan.clients).map(|n| tokio::spawn(client(common.clone(), n))).collect();
    ready.send(()).expect("somebody waits");
    for client in clients {
        client.await.expect("a client ends");
    }
    common.until.store(last_write(&common).await, Ordering::Release);
    let mut accounts = Vec::new();
    for watch in watches {
        accounts.push(watch.await.expect("a watch ends"));
    }
    accounts
}

/// One last write to each register, when all boards are well again; the newest revision.
async fn last_write(common: &Common) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    let mut newest = 0;
    for key in 0..common.plan.registers {
        for server in (0..common.clients.len()).cycle() {
            if let Some((_, revision)) = common.ask(key, server, Wish::Write).await {
                newest = newest.max(revision);
                break;
            }
            assert!(Instant::now() < end, "no server takes a write after all is healed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    newest
}

/// One client: a request at a time, each to a server of its choice.
async fn client(common: Arc<Common>, n: usize) {
    let seed = common.plan.seed.wrapping_add(u64::try_from(n).expect("few"));
    let mut chance = Chance::new(seed);
    let mut known: Vec<Option<(u64, u64)>> = vec![None; common.plan.registers];
    while !common.stopped() {
        let key = chance.below(common.plan.registers);
        let server = chance.below(common.clients.len());
        let wish = match (chance.below(10), known[key]) {
            (0..=3, _) => Wish::Write,
            (4..=6, Some((from, at))) => Wish::Swap { from, at },
            _ => Wish::Read,
        };
        let seen = common.ask(key, server, wish).await;
        known[key] = seen.or(known[key]);
        let rest = chance.up_to(common.plan.pause).max(Duration::from_micros(200));
        // Whoever is refused comes back a little later, as real clients do.
        let rest = if seen.is_none() { rest.max(Duration::from_millis(5)) } else { rest };
        tokio::time::sleep(rest).await;
    }
}
