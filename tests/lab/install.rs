//! A server that is killed while it takes a snapshot over: at whatever moment, it comes back
//! with the whole state from before or the whole one from after, and catches up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_api::kinds;
use edge_client::{Client, ListParams, WriteParams};
use serde_json::json;

use super::board::Board;
use super::cluster::Cluster;
use super::load::{SPACE, clients, runtime};
use crate::board::command::until;

/// Together these are more than the tail of the log that servers keep for those who lag.
const OBJECTS: usize = 48;
const BYTES: usize = 200_000;

/// From the first file of the new state to the kill. The last one lets it be.
const KILLS: [u64; 5] = [0, 3, 15, 60, 200];

/// Writes so much that a server that was away needs a snapshot.
fn outrun(cluster: &Cluster, leader: &Client) {
    let work = async {
        for n in 0..OBJECTS {
            let name = format!("large-{n}");
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": SPACE},
                "data": {"value": "x".repeat(BYTES)}});
            let params = WriteParams::default();
            leader.create(kinds::CONFIG_MAP, SPACE, &map, &params).await.expect("a write");
        }
    };
    cluster.person.within(|| runtime().block_on(work));
}

/// Every ConfigMap and its revision, as one server has it.
fn listed(cluster: &Cluster, client: &Client) -> Result<BTreeMap<String, String>, String> {
    let work = async {
        let list = client.list(kinds::CONFIG_MAP, SPACE, &ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?;
        let word = |object: &edge_api::Object, field: &str| {
            object["metadata"][field].as_str().unwrap_or_default().to_owned()
        };
        let one = |object| (word(object, "name"), word(object, "resourceVersion"));
        Ok(list.items.iter().map(one).collect())
    };
    cluster.person.within(|| runtime().block_on(work))
}

/// States and logs in a store's directory: more than one while a snapshot is taken over.
fn generations(store: &Path) -> usize {
    let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("state")).count()
}

fn current(store: &Path) -> String {
    std::fs::read_to_string(store.join("current")).unwrap_or_default()
}

/// Starts the server, and kills it so long after it began to take a snapshot over. Says whether
/// the kill found it at that; false once it has all it needs.
fn killed_at_it(board: &Board, after: Duration, before: &str) -> bool {
    let store = board.dir.join("data/store");
    board.spawn();
    let end = Instant::now() + Duration::from_secs(60);
    // What the kill before left is removed first, when the store is opened.
    for begun in [false, true] {
        while (generations(&store) > 1) != begun && current(&store) == before {
            assert!(Instant::now() < end, "no snapshot comes: {}", board.log());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    std::thread::sleep(after);
    board.kill();
    generations(&store) > 1
}

#[test]
fn a_server_killed_while_it_takes_a_snapshot_over_is_whole() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    let leader = cluster.wait_leader();
    let lagging = cluster.servers().find(|board| board.port != leader.port).expect("another");
    let store = lagging.dir.join("data/store");
    let of = |board: &Board| clients(&cluster).remove(board.port - 1);
    lagging.kill();
    outrun(&cluster, &of(leader));
    let before = current(&store);
    let (mut kills, mut at_it) = (0, 0);
    for after in KILLS.map(Duration::from_millis) {
        if current(&store) != before {
            break;
        }
        kills += 1;
        at_it += usize::from(killed_at_it(lagging, after, &before));
    }
    let state = if current(&store) == before { "before" } else { "after" };
    eprintln!("{kills} kills, {at_it} in the middle; the last left the state from {state}");
    assert!(at_it > 0, "no kill found it at work");
    lagging.spawn();
    let wanted = listed(&cluster, &of(leader)).expect("the leader answers");
    assert!(wanted.len() >= OBJECTS, "{} objects", wanted.len());
    until("the server has the same as the others", || {
        assert!(lagging.pid().is_some(), "it does not start: {}", lagging.log());
        let found = listed(&cluster, &of(lagging))?;
        (found == wanted).then_some(()).ok_or_else(|| format!("{} objects", found.len()))
    });
    // Another snapshot may be on its way right now, if the others have written meanwhile.
    until("what a kill left is removed", || {
        let left = generations(&store);
        (left == 1).then_some(()).ok_or_else(|| format!("{left} states\n{}", lagging.log()))
    });
}
