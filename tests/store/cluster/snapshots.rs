//! Snapshots: whoever lags too far gets one, and a kill at any step leaves a whole state.

use std::path::Path;

use edge_core::consensus::Tuning;
use edge_store::{Expect, Founding, Store, WatchEnd};

use super::{Cluster, pairs, settled, write};
use crate::store::{Directory, put};

/// A cluster that keeps next to nothing in memory for those who lag.
fn forgetful() -> Tuning {
    Tuning { tick_ms: 20, tail_bytes: 2048, tail_bytes_idle: 1024, ..Tuning::default() }
}

/// Cuts a follower off until it lags too far; answers it.
async fn leave_behind(cluster: &Cluster) -> u64 {
    let (leads, leader) = cluster.leader().await;
    let slow = leads % 3 + 1;
    write(&leader, "early", "v").await;
    settled(&cluster.store(slow)).await;
    cluster.wire.set_alone(slow, true);
    for number in 0..40 {
        write(&leader, &format!("k/{number:02}"), &"v".repeat(500)).await;
    }
    slow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lags_too_far_fetches_a_snapshot() {
    let cluster = Cluster::with(forgetful()).await;
    let slow = leave_behind(&cluster).await;
    let store = cluster.store(slow);
    let mut watch = store.watch("", store.revision()).unwrap();
    let before = *cluster.wire.fetches.lock().unwrap();
    // The first one arrives damaged: nothing is lost, and another is fetched.
    *cluster.wire.damage.lock().unwrap() = 1;
    cluster.wire.set_alone(slow, false);
    assert_eq!(watch.next().await, Err(WatchEnd::Lagged), "its watchers list again");
    assert_eq!(cluster.agree().await.len(), 41);
    assert!(*cluster.wire.fetches.lock().unwrap() >= before + 2);
    let mut watch = store.watch("", store.revision()).unwrap();
    let revision = write(&cluster.leader().await.1, "later", "v").await;
    assert_eq!(watch.next().await.unwrap().revision, revision);
    drop((store, watch));
    cluster.stop(slow);
    cluster.start(slow);
    assert_eq!(cluster.agree().await.len(), 42);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The directories of a member before and after it installed a snapshot, both at rest.
async fn before_and_after() -> (Cluster, u64, Directory, Directory) {
    let cluster = Cluster::with(forgetful()).await;
    let slow = leave_behind(&cluster).await;
    cluster.stop(slow);
    let (before, after) = (Directory::quick(), Directory::quick());
    copy(&cluster.dirs[&slow].0, &before.0);
    cluster.wire.set_alone(slow, false);
    cluster.start(slow);
    cluster.agree().await;
    cluster.stop(slow);
    copy(&cluster.dirs[&slow].0, &after.0);
    (cluster, slow, before, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_an_installation_leaves_a_whole_state() {
    let (cluster, slow, before, after) = before_and_after().await;
    let [(old, _), (state, log)] = [&before, &after].map(|dir| {
        let current = std::fs::read_to_string(dir.0.join("current")).unwrap();
        let generation = current.trim_end().rsplit(' ').next().unwrap();
        let names = (format!("state-{generation}"), format!("log-{generation}"));
        assert!(dir.0.join(&names.0).is_dir() && dir.0.join(&names.1).is_dir());
        names
    });
    assert!(old != state && !after.0.join(&old).exists(), "the old state is gone");
    // In the order of an installation: what lies there when the kill comes.
    let steps: [&[&str]; 5] = [
        &[],
        &[&state],
        &[&state, &log],
        &[&state, &log, "current.new"],
        &[&state, &log, "current"],
    ];
    for (number, parts) in steps.iter().enumerate() {
        for torn in [false, true] {
            let dir = Directory::quick();
            copy(&before.0, &dir.0);
            for part in *parts {
                let (from, to) = (after.0.join(part.trim_end_matches(".new")), dir.0.join(part));
                if from.is_dir() {
                    copy(&from, &to)
                } else {
                    drop(std::fs::copy(&from, &to))
                };
            }
            // What was being written when the kill came is there in part.
            let renamed = parts.contains(&"current");
            if torn && !renamed && parts.contains(&&*state) {
                let data = dir.0.join(&state).join("data.mdb");
                std::fs::OpenOptions::new().write(true).open(data).unwrap().set_len(9000).unwrap();
            }
            let options = cluster.options(slow, Founding::Join);
            let store = Store::open(&dir.0, options).unwrap();
            let keys = pairs(&store, "k/", None).len();
            assert_eq!(keys, if renamed { 40 } else { 0 }, "step {number}");
            // Alone, it need not know that what its log has is committed.
            let early = pairs(&store, "early", None).len();
            assert!(early == 1 || !renamed, "step {number}");
            drop(store);
            assert_eq!(dir.0.join(&old).exists(), !renamed, "what does not count is removed");
            assert_eq!(dir.0.join(&state).exists(), renamed, "step {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_begins_with_a_snapshot_of_everything() {
    let mut cluster = Cluster::with(forgetful()).await;
    let (_, leader) = cluster.leader().await;
    for number in 0..60 {
        let command = put(&format!("k/{number:02}"), &"v".repeat(400), Expect::Absent);
        leader.propose(command).await.unwrap();
    }
    cluster.join(4).await;
    assert_eq!(cluster.agree().await.len(), 60);
}
