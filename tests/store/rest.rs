//! What the flash is spared: one sync for many writers, and nothing at all at rest.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_store::{Disk, DiskFile, Expect, Options, ProposeError, RealDisk, Store};

use super::{CHILD, Directory, all, child, name_of, open, put};

/// A disk whose syncs take a while, as a card's do.
struct SlowDisk;

impl Disk for SlowDisk {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(5));
        RealDisk.sync(file)
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        RealDisk.allocate(file, length)
    }
}

#[tokio::test]
async fn those_who_wait_together_share_a_sync() {
    let dir = Directory::new();
    let options = Options { disk: Arc::new(SlowDisk), ..Options::default() };
    let store = Store::open(&dir.0, options).unwrap();
    let tasks: Vec<_> = (0..400)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = format!("k/{number}");
                store.propose(put(&key, "value", Expect::Absent)).await.unwrap().revision
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.push(task.await.unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..402).collect::<Vec<u64>>());
    let syncs = store.stats().log_syncs;
    assert!(syncs < 100, "{syncs} syncs for 400 writes");
}

#[tokio::test]
async fn a_certain_conflict_costs_the_log_nothing() {
    let dir = Directory::new();
    let store = open(&dir);
    store.propose(put("k", "1", Expect::Absent)).await.unwrap();
    let before = store.stats();
    let again = store.propose(put("k", "2", Expect::Absent)).await;
    assert!(matches!(again, Err(ProposeError::Conflict { .. })));
    assert_eq!(store.stats(), before);
}

/// The child: works a little, then rests while it is read, and says what the kernel counted.
#[test]
fn resting() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&dir, Options::default()).unwrap();
        for number in 0..50 {
            let value = "v".repeat(10_000);
            store.propose(put(&format!("k/{number}"), &value, Expect::Any)).await.unwrap();
        }
        // Half a megabyte is committed a few seconds after the last write.
        for _ in 0..200 {
            if store.stats().commits > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut watch = store.watch("k/", store.revision()).unwrap();
        let (stats, before) = (store.stats(), written());
        for _ in 0..30 {
            assert_eq!(store.list("k/", all(None)).unwrap().entries.len(), 50);
            assert!(store.get("k/7").unwrap().is_some());
            assert_eq!(watch.try_next(), Ok(None));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(store.stats(), stats);
        println!("commits {} written {}", stats.commits, written() - before);
    });
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find(|line| line.starts_with("write_bytes: ")).unwrap();
    line["write_bytes: ".len()..].parse().unwrap()
}

#[test]
fn a_store_at_rest_writes_nothing_though_it_is_read() {
    let dir = Directory::new();
    let output = child(&name_of(module_path!(), "resting"), &dir.0).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("commits 1 written 0\n"), "{text}");
}
