//! ConfigMaps written to a board from outside, with what was acknowledged, and when; and what is
//! read of them later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_api::{Object, kinds};
use edge_client::{Client, ListParams, WriteParams};
use serde_json::json;

use crate::lab::load::runtime;
use crate::lab::namespace::Namespace;
use crate::power::{Disk, body};
use crate::store::Random;

const SPACE: &str = "default";
const WRITERS: u64 = 4;
const KEYS: u64 = 8;
/// How long a writer rests that was refused.
const REST: Duration = Duration::from_millis(20);
/// Numbers of all writers and lives, so that a later value is known as one.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// An acknowledged write, and how long the disk's record was when the word of it came.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    moment: usize,
    name: String,
    number: u64,
    revision: u64,
}

/// All that was acknowledged.
#[derive(Default)]
pub(super) struct Acks {
    pub(super) maps: Vec<Ack>,
    pub(super) images: BTreeSet<usize>,
    pub(super) pods: BTreeSet<usize>,
    /// When the word of each image came in this life; 0 if in an earlier one.
    moments: BTreeMap<usize, usize>,
}

impl Acks {
    /// Notes what the board's script says that is done.
    pub(super) fn done(&mut self, moment: usize, text: &str) {
        for line in text.lines() {
            let Some((what, number)) = line.split_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            if what == "image" && self.images.insert(number) {
                self.moments.insert(number, moment);
            }
            if what == "pod" {
                self.pods.insert(number);
            }
        }
    }

    /// Writes that were acknowledged before a moment of this life.
    pub(super) fn before(&self, moment: usize) -> Vec<Ack> {
        self.maps.iter().filter(|ack| ack.moment <= moment).cloned().collect()
    }

    pub(super) fn images_before(&self, moment: usize) -> BTreeSet<usize> {
        let known = |number: &&usize| self.moments.get(number).is_none_or(|at| *at <= moment);
        self.images.iter().filter(known).copied().collect()
    }

    /// The power was cut: what was acknowledged in this life holds from the first moment of the
    /// next one on.
    pub(super) fn rebase(&mut self) {
        self.maps.iter_mut().for_each(|ack| ack.moment = 0);
        self.moments.clear();
    }
}

/// What a board has: by name, number and revision of each ConfigMap; and the list's revision.
pub(super) struct Found {
    maps: BTreeMap<String, (u64, u64)>,
    revision: u64,
}

/// Those who write, until they are stopped.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Ack>>,
}

impl Writer {
    pub(super) fn start(from: &Namespace, client: Client, disk: Arc<Disk>) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let end = stop.clone();
        let thread = from.thread(move || {
            runtime().block_on(async {
                let writers: Vec<_> = (0..WRITERS)
                    .map(|n| tokio::spawn(write(n, client.clone(), disk.clone(), end.clone())))
                    .collect();
                let mut acks = Vec::new();
                for writer in writers {
                    acks.extend(writer.await.expect("a writer ends"));
                }
                acks
            })
        });
        Writer { stop, thread }
    }

    pub(super) fn stop(self) -> Vec<Ack> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the writers end")
    }
}

async fn write(n: u64, client: Client, disk: Arc<Disk>, stop: Arc<AtomicBool>) -> Vec<Ack> {
    let mut random = Random(n + 1);
    let mut acks = Vec::new();
    let params = WriteParams::default();
    while !stop.load(Ordering::Acquire) {
        let name = format!("map-{n}-{}", random.below(KEYS));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let object = object(&name, number);
        let request = async {
            match client.update(kinds::CONFIG_MAP, SPACE, &name, None, &object, &params).await {
                Err(error) if error.is_not_found() => {
                    client.create(kinds::CONFIG_MAP, SPACE, &object, &params).await
                }
                answer => answer,
            }
        };
        match tokio::time::timeout(Duration::from_secs(3), request).await {
            Ok(Ok(object)) => {
                let moment = disk.moment();
                let (_, revision) = parse(&object).expect("an answer that is whole");
                acks.push(Ack { moment, name, number, revision });
            }
            _ => tokio::time::sleep(REST).await,
        }
    }
    acks
}

fn object(name: &str, number: u64) -> Object {
    let value = body(number);
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SPACE},
        "data": {"a": value, "b": value}})
}

/// Number and revision of a ConfigMap that is whole.
fn parse(object: &Object) -> Option<(u64, u64)> {
    let (a, b) = (object["data"]["a"].as_str()?, object["data"]["b"].as_str()?);
    let number = a.split(' ').next()?.parse().ok()?;
    let revision = object["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
    (a == b && a == body(number)).then_some((number, revision))
}

/// Reads all of them, as soon as somebody answers.
pub(super) fn read(client: &Client, patience: Duration) -> Result<Found, String> {
    let list = ListParams::default();
    let end = Instant::now() + patience;
    loop {
        let answer = runtime().block_on(async {
            let asked = client.list(kinds::CONFIG_MAP, SPACE, &list);
            tokio::time::timeout(Duration::from_secs(5), asked).await
        });
        let why = match answer {
            Ok(Ok(list)) => {
                let revision = list.resource_version.parse().map_err(|_| "no revision")?;
                let mut maps = BTreeMap::new();
                for object in &list.items {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    if name.starts_with("map-") {
                        let parsed = parse(object);
                        let whole = parsed.ok_or_else(|| format!("half a value: {object}"))?;
                        maps.insert(name.to_owned(), whole);
                    }
                }
                return Ok(Found { maps, revision });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() > end {
            return Err(format!("it does not answer: {why}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Holds what was found to what was acknowledged.
pub(super) fn check(found: &Found, acks: &[Ack]) -> Result<(), String> {
    for ack in acks {
        let Ack { name, number, revision, .. } = ack;
        if found.revision < *revision {
            return Err(format!("revision {}, {revision} was acknowledged", found.revision));
        }
        match found.maps.get(name) {
            Some((later, _)) if later > number => {}
            Some((same, at)) if same == number && at == revision => {}
            other => {
                return Err(format!("lost: {name} is {other:?}, {number} at {revision} was acked"));
            }
        }
    }
    Ok(())
}
