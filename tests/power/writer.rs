//! A program that writes to a store and says what was acknowledged, and the judge of what a cut
//! left of its store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use edge_store::{Command, Expect, Op, Options, Store};

use crate::store::{CHILD, Random, pairs};

const TASKS: usize = 6;
const KEYS: u64 = 12;
/// Small segments, so that the log goes on to a new one often.
const SEGMENT: u64 = 64 * 1024;
/// Longest filler of a value.
const FILLER: u64 = 5000;
/// How many writes the program makes before it rests.
pub(super) const WRITES: &str = "EDGE_POWER_WRITES";

/// Set if it shall end then, without closing the store.
pub(super) const END: &str = "EDGE_POWER_END";

/// What was acknowledged, and how far the disk's record was when the word of it came.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    pub(super) moment: usize,
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) number: u64,
}

pub(super) fn options() -> Options {
    Options { segment_bytes: SEGMENT, ..Options::default() }
}

/// The value of a number: nothing of it can change without being seen.
pub(crate) fn body(number: u64) -> String {
    let length = Random(number | 1).below(FILLER) as usize;
    let letter = char::from(b'a' + (number % 26) as u8);
    format!("{number} {}", letter.to_string().repeat(length))
}

/// The same number under two keys, in one command.
fn pair(key: &str, number: u64) -> Command {
    let put = |side: &str| Op::Put {
        key: format!("{side}/{key}"),
        value: Bytes::from(body(number)),
        stamp: None,
        expect: Expect::Any,
    };
    Command { ops: vec![put("a"), put("b")], term: None }
}

/// The program. It makes so many writes, says `done`, and waits for its end.
#[test]
fn writes() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let count: u64 = std::env::var(WRITES).expect("a count").parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&dir, options()).unwrap();
        let base = store.revision() << 20;
        let out = Arc::new(Mutex::new(std::io::stdout()));
        let tasks = (0..TASKS).map(|task| {
            let (store, out) = (store.clone(), out.clone());
            tokio::spawn(async move {
                let mut random = Random(base << 8 | task as u64 | 1);
                for turn in 0..count / TASKS as u64 {
                    let key = format!("{task}-{:02}", random.below(KEYS));
                    let number = base + turn * TASKS as u64 + task as u64;
                    let applied = store.propose(pair(&key, number)).await.unwrap();
                    let line = format!("ack {key} {} {number}\n", applied.revision);
                    out.lock().unwrap().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        writeln!(out.lock().unwrap(), "done").unwrap();
        if std::env::var_os(END).is_none() {
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        // Without a word to the store, as if it were killed.
        std::process::exit(0);
    });
}

/// The acknowledgement that a line of the program tells; a line cut short tells none.
pub(super) fn parse(line: &str, moment: usize) -> Option<Ack> {
    let words: Vec<&str> = line[line.find("ack ")?..].split(' ').collect();
    let [_, key, revision, number] = words[..] else { return None };
    let (revision, number) = (revision.parse().ok()?, number.trim_end().parse().ok()?);
    Some(Ack { moment, key: key.to_owned(), revision, number })
}

/// What a store holds, key by key.
type Content = BTreeMap<String, String>;

/// Opens the store that a cut has left in `dir`, twice, and holds it to what was acknowledged
/// before the cut.
pub(super) fn judge(dir: &Path, acks: &[Ack]) -> Result<(), String> {
    let open = || Store::open(dir, options()).map_err(|error| format!("it does not open: {error}"));
    let read = |store: &Store| pairs(store, "", None).into_iter().collect::<Content>();
    let store = open()?;
    let (first, content) = (store.revision(), read(&store));
    drop(store);
    whole(&content)?;
    let newest = acks.iter().map(|ack| ack.revision).max().unwrap_or_default();
    if first < newest {
        return Err(format!("revision {first}, though {newest} was acknowledged"));
    }
    for ack in acks {
        let found = content.get(&format!("a/{}", ack.key)).and_then(|value| number(value));
        if found < Some(ack.number) {
            let Ack { key, revision, number, .. } = ack;
            return Err(format!(
                "lost: {key} is {found:?}, {number} was acknowledged ({revision})"
            ));
        }
    }
    let store = open()?;
    if store.revision() < first || read(&store) != content {
        return Err("it opens a second time as another one".to_owned());
    }
    Ok(())
}

fn number(value: &str) -> Option<u64> {
    value.split(' ').next()?.parse().ok()
}

/// Nothing half-applied: both keys of a command, and each value whole.
fn whole(content: &Content) -> Result<(), String> {
    for (key, value) in content {
        let (side, rest) = key.split_once('/').ok_or_else(|| format!("a key {key}"))?;
        let other = if side == "a" { "b" } else { "a" };
        if content.get(&format!("{other}/{rest}")) != Some(value) {
            return Err(format!("half a command: {key} and its other side differ"));
        }
        if number(value).is_none_or(|number| body(number) != *value) {
            return Err(format!("half a value: {key}"));
        }
    }
    Ok(())
}
