//! An image of 60 MB, pushed once, on five boards: what crossed each link, and how long it took
//! against one board.

use std::time::{Duration, Instant};

use crate::lab::cluster::{Cluster, PERSON};
use crate::lab::{cargo, pods};
use crate::table::Table;

/// Bytes of the image.
const BYTES: usize = 60_000_000;

pub(crate) fn measure(table: &mut Table) {
    let alone = spread(&Cluster::start(1, 0), 1);
    table.one("60 MB image: push → running on one board", "s", alone.as_secs_f64(), None);
    let cluster = Cluster::start(3, 2);
    let before = cluster.crossed();
    let five = spread(&cluster, 5);
    let (five, aim) = (five.as_secs_f64(), 1.3 * alone.as_secs_f64());
    let ratio = Some(("one board", alone.as_secs_f64()));
    table.add("60 MB image: push → running on five boards", "s", &[five], Some(aim), ratio);
    for (((from, to), bytes), (_, before)) in cluster.crossed().into_iter().zip(before) {
        let link = format!("{} → {}", name(&cluster, from), name(&cluster, to));
        let images = (bytes - before) as f64 / BYTES as f64;
        if images > 0.05 {
            table.one(&format!("{link}: bytes, in images"), "×", images, None);
        }
    }
}

/// From the push until a pod of it runs on every board.
fn spread(cluster: &Cluster, boards: u32) -> Duration {
    let archive = cluster.dir.join("heavy.tar");
    cargo::archive(&archive, BYTES, 1);
    let file = cluster.file("heavy.yaml", pods::heavy("heavy", boards));
    let server = &cluster.boards[0];
    let begin = Instant::now();
    cluster.ctl(server, &["image", "push", &archive.display().to_string()]).ok();
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    let wanted = usize::try_from(boards).expect("few");
    cluster.wait_running("heavy", wanted);
    let nodes = cluster.nodes_of("heavy");
    assert_eq!(nodes.len(), wanted, "a pod on each board: {nodes:?}");
    begin.elapsed()
}

/// What a port is called.
fn name(cluster: &Cluster, port: usize) -> &str {
    match port {
        PERSON => "person",
        n => &cluster.boards[n - 1].name,
    }
}
