//! Many at once: writers, readers and watchers while the state commits and grows beneath them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use edge_store::{Command, Expect, HISTORY_BYTES_MAX, Op, ProposeError, Store, WatchEnd};

use super::{Directory, all, open, put};

fn op(key: &str, value: Bytes) -> Op {
    Op::Put { key: key.to_owned(), value, stamp: None, expect: Expect::Any }
}

/// Two keys that are always written together are never seen apart, by a list or a watch, however
/// the state is committed and its map grown in the meantime.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_see_whole_commands_while_the_state_moves() {
    let dir = Directory::new();
    let store = open(&dir);
    let done = Arc::new(AtomicBool::new(false));
    let _ends = Ends(done.clone());
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            tokio::task::spawn_blocking(move || read_pairs(&store, &done))
        })
        .collect();
    let mut watch = store.watch("pair/", store.revision()).unwrap();
    // More than the smallest map holds.
    let large = Bytes::from(vec![b'x'; 1_000_000]);
    for number in 0..120u64 {
        let value = Bytes::from(number.to_string());
        let ops = vec![
            op("pair/a", value.clone()),
            op("pair/b", value),
            op(&format!("large/{number}"), large.clone()),
        ];
        let revision = store.propose(Command { ops, term: None }).await.unwrap().revision;
        for key in ["pair/a", "pair/b"] {
            let event = watch.next().await.unwrap();
            assert_eq!((event.revision, &*event.key), (revision, key));
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert!(store.stats().commits > 5);
    drop(store);
    let store = open(&dir);
    assert_eq!(store.list("large/", all(None)).unwrap().entries.len(), 120);
    assert_eq!(store.get("pair/a").unwrap().unwrap().value, "119");
}

/// Ends the readers, however the test ends.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read_pairs(store: &Store, done: &AtomicBool) -> usize {
    let mut reads = 0;
    let mut newest = 0;
    while !done.load(Ordering::Relaxed) {
        let listing = store.list("pair/", all(None)).unwrap();
        assert!(listing.revision >= newest, "revisions never fall");
        newest = listing.revision;
        if let [a, b] = &listing.entries[..] {
            assert_eq!((a.revision, &a.value), (b.revision, &b.value));
            reads += 1;
        }
    }
    reads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn preconditions_make_a_counter_count() {
    let dir = Directory::new();
    let store = open(&dir);
    store.propose(put("counter", "0", Expect::Absent)).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut added = 0;
                while added < 25 {
                    let entry = store.get("counter").unwrap().unwrap();
                    let text = std::str::from_utf8(&entry.value).unwrap();
                    let next = (text.parse::<u64>().unwrap() + 1).to_string();
                    let expect = Expect::Revision(entry.revision);
                    match store.propose(put("counter", &next, expect)).await {
                        Ok(_) => added += 1,
                        Err(ProposeError::Conflict { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get("counter").unwrap().unwrap().value, "200");
}

#[tokio::test]
async fn a_slow_watcher_is_ended_and_holds_nothing() {
    let dir = Directory::new();
    let store = open(&dir);
    let from = store.revision();
    let mut slow = store.watch("k/", from).unwrap();
    let mut quick = store.watch("k/", from).unwrap();
    let value = "v".repeat(500_000);
    for number in 0..2 * HISTORY_BYTES_MAX / value.len() {
        store.propose(put(&format!("k/{number}"), &value, Expect::Any)).await.unwrap();
        quick.next().await.unwrap();
    }
    assert_eq!(slow.next().await, Err(WatchEnd::Lagged));
    assert_eq!(slow.next().await, Err(WatchEnd::Lagged));
    assert_eq!(quick.try_next(), Ok(None));
    let gone = store.watch("k/", from).err().unwrap();
    assert_eq!((gone.from, gone.current), (from, store.revision()));
    assert!(gone.oldest > from);
}
