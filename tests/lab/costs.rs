//! What a cluster costs, as promises with generous bounds; the figures stand in `docs/bench`.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::{cargo, crowd, pods, speed};

/// Seconds of rest; `EDGED_LAB_REST` is how many somebody with time wants.
const REST: u64 = 15;

#[test]
fn a_cluster_at_rest_writes_nothing() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 1);
    let named = std::env::var("EDGED_LAB_REST").ok();
    let rest = named.map_or(REST, |text| text.parse().expect("EDGED_LAB_REST is in seconds"));
    // What a start leaves to do (a batched commit, a first report) is not rest.
    std::thread::sleep(Duration::from_secs(15));
    let before: Vec<u64> = cluster.boards.iter().map(speed::written).collect();
    std::thread::sleep(Duration::from_secs(rest));
    for (board, before) in cluster.boards.iter().zip(before) {
        let bytes = speed::written(board) - before;
        let said = board.log();
        assert_eq!(bytes, 0, "{} wrote {bytes} bytes in {rest} s; it said:\n{said}", board.name);
    }
}

#[test]
fn agents_are_cheap_for_their_server() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 4);
    let burden = crowd::measure(&cluster, 4, Duration::from_secs(5));
    let late = burden.delays.iter().filter(|ms| **ms > 500.0).count();
    eprintln!("CPU {:.3}, with changes {:.3}", burden.cpu, burden.cpu_watched);
    assert!(burden.cpu < 0.25, "beats of four agents take {:.2} of a core", burden.cpu);
    assert!(burden.resident < 200e6, "{} bytes resident", burden.resident);
    assert!(late * 50 < burden.delays.len(), "{late} of {} events", burden.delays.len());
}

/// Twenty megabytes, pushed once: each board gets them once, and the uplink never.
#[test]
fn an_image_is_pushed_once_and_runs_on_all_boards() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 2);
    let (bytes, archive) = (20_000_000, cluster.dir.join("heavy.tar"));
    cargo::archive(&archive, bytes, 1);
    let before = cluster.crossed();
    let begin = Instant::now();
    let server = &cluster.boards[0];
    cluster.ctl(server, &["image", "push", &archive.display().to_string()]).ok();
    let file = cluster.file("heavy.yaml", pods::heavy("heavy", 3));
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    cluster.wait_running("heavy", 3);
    eprintln!("pushed and running on three boards after {:.2?}", begin.elapsed());
    assert_eq!(cluster.nodes_of("heavy").len(), 3);
    let mut to = std::collections::BTreeMap::<usize, u64>::new();
    for ((link, after), (_, before)) in cluster.crossed().into_iter().zip(before) {
        *to.entry(link.1).or_default() += after - before;
    }
    for (port, came) in to {
        let images = came as f64 / bytes as f64;
        assert!(images < 1.3, "port {port} got {images:.2} images");
    }
}
