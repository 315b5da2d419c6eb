//! A writer that is killed at random moments: what it acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;

use edge_store::{Expect, Options, Store};

use super::{CHILD, Directory, Random, child, name_of, put};

const TASKS: usize = 16;
const KEYS: u64 = 40;
const ROUNDS: u64 = 12;

fn options() -> Options {
    Options { segment_bytes: 256 * 1024, ..Options::default() }
}

/// The child: writes rising numbers and says which of them were acknowledged.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&dir, options()).unwrap();
        let out = Arc::new(std::sync::Mutex::new(std::io::stdout()));
        writeln!(out.lock().unwrap(), "ready {}", store.revision()).unwrap();
        let tasks = (0..TASKS).map(|task| {
            let (store, out) = (store.clone(), out.clone());
            tokio::spawn(async move {
                let mut random = Random(u64::from(std::process::id()) << 8 | task as u64 | 1);
                for number in 0u64.. {
                    let key = format!("task/{task}/{:02}", random.below(KEYS));
                    let filler = "x".repeat(random.below(6000) as usize);
                    let base = store.revision();
                    let value = format!("{base}.{number} {filler}");
                    let applied = store.propose(put(&key, &value, Expect::Any)).await.unwrap();
                    let line = format!("ack {key} {} {base}.{number}\n", applied.revision);
                    out.lock().unwrap().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_killed_writer_keeps_what_it_acknowledged() {
    let dir = Directory::new();
    let mut random = Random(0x1234_5678_9abc);
    // Per key: the revision and the words of its last acknowledged write.
    let mut acknowledged: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut newest = 1;
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut process = child(&name_of(module_path!(), "writer"), &dir.0).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let stop_after = random.below(1200);
        let mut seen = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            seen += u64::from(note(&line, &mut acknowledged, &mut newest));
            if seen == stop_after {
                process.kill().unwrap();
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        total += seen;
        let store = Store::open(&dir.0, options()).unwrap();
        assert!(store.revision() >= newest, "round {round}");
        for (key, (revision, words)) in &acknowledged {
            let entry = store.get(key).unwrap().expect("invariant: acknowledged");
            assert!(entry.revision >= *revision, "round {round}: {key} fell back");
            let text = String::from_utf8_lossy(&entry.value);
            let same = text.split(' ').next() == Some(words);
            assert!(entry.revision > *revision || same, "round {round}: {key} changed");
        }
    }
    assert!(total > 500, "only {total} writes were acknowledged");
}

/// Notes an acknowledgement; a line that the kill cut short is none.
fn note(line: &str, seen: &mut BTreeMap<String, (u64, String)>, newest: &mut u64) -> bool {
    // The test harness writes its own words on the first line.
    let Some(at) = line.find("ack ") else {
        if let Some((_, revision)) = line.split_once("ready ") {
            let revision: u64 = revision.parse().unwrap();
            assert!(revision >= *newest, "a restart went back to {revision} from {newest}");
        }
        return false;
    };
    let words: Vec<&str> = line[at..].split(' ').collect();
    let [_, key, revision, text] = words[..] else { return false };
    let Ok(revision) = revision.parse::<u64>() else { return false };
    let slot = seen.entry(key.to_owned()).or_default();
    if revision > slot.0 {
        *slot = (revision, text.to_owned());
    }
    *newest = (*newest).max(revision);
    true
}
