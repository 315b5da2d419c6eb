//! An image of 60 MB, pushed once, on five boards: what crossed each link, and how long it took
//! against one board. Boards have links of 100 Mbit/s, as a Pi 3 or a cheap switch has; without a
//! limit, five boards on one machine share its processors and its disk, which real ones don't.

use std::time::Instant;

use super::Effort;
use crate::lab::cluster::{Cluster, PERSON};
use crate::lab::{cargo, pods};
use crate::table::{Table, percentile};

/// Bytes of the image.
const BYTES: usize = 60_000_000;
/// Bytes a second that a link of 100 Mbit/s carries.
const FAST_ETHERNET: u64 = 12_500_000;

/// A way to bring an image onto boards.
#[derive(Clone, Copy)]
struct Way {
    /// Bytes a second of each link.
    rate: Option<u64>,
    /// Pushed onto every board at once, or to one, from which the others take it for their pods.
    everywhere: bool,
}

pub(crate) fn measure(table: &mut Table, effort: &Effort) {
    let alone = Cluster::start(1, 0);
    let five = Cluster::start(3, 2);
    let mut seed = 0;
    let mut spread = |cluster: &Cluster, boards, way: Way| {
        seed += 1;
        limit(cluster, way.rate);
        let took = spread(cluster, boards, way.everywhere, seed);
        limit(cluster, None);
        took
    };
    for (rate, links) in [(Some(FAST_ETHERNET), "links of 100 Mbit/s"), (None, "no limit")] {
        let (mut one, mut pushed, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        let mut crossed = Vec::new();
        for _ in 0..effort.images {
            one.push(spread(&alone, 1, Way { rate, everywhere: false }));
            let before = five.crossed();
            pushed.push(spread(&five, 5, Way { rate, everywhere: true }));
            crossed = five.crossed();
            crossed.iter_mut().zip(before).for_each(|(now, (_, before))| now.1 -= before);
            taken.push(spread(&five, 5, Way { rate, everywhere: false }));
        }
        let (alone, aim) = (percentile(&one, 0.5), 1.3 * percentile(&one, 0.5));
        let against = Some(("one board", alone));
        let what = format!("60 MB image, {links}: push → running on");
        table.add(&format!("{what} one board"), "s", &one, None, None);
        let everywhere = format!("{what} five boards (--everywhere)");
        table.add(&everywhere, "s", &pushed, rate.map(|_| aim), against);
        table.add(&format!("{what} five boards, on demand"), "s", &taken, None, against);
        if rate.is_some() {
            links_of(table, &five, &crossed);
        }
    }
}

/// What crossed each link, in images.
fn links_of(table: &mut Table, cluster: &Cluster, crossed: &[((usize, usize), u64)]) {
    let images = |bytes: u64| bytes as f64 / BYTES as f64;
    for ((from, to), bytes) in crossed {
        if images(*bytes) > 0.05 {
            let link = format!("{} → {}", name(cluster, *from), name(cluster, *to));
            table.one(&format!("{link}: bytes, in images"), "×", images(*bytes), None);
        }
    }
    for board in &cluster.boards {
        let sum = |pick: fn(&(usize, usize)) -> usize| -> u64 {
            crossed
                .iter()
                .filter(|(link, _)| pick(link) == board.port)
                .map(|(_, bytes)| bytes)
                .sum()
        };
        let (into, out) = (images(sum(|link| link.1)), images(sum(|link| link.0)));
        table.one(&format!("into {}, in images", board.name), "×", into, None);
        table.one(&format!("out of {}, in images", board.name), "×", out, None);
    }
}

/// Sets the rate of all links.
fn limit(cluster: &Cluster, rate: Option<u64>) {
    for port in 0..cluster.fabric.ports() {
        cluster.fabric.set_all_of(port, |weather| weather.rate = rate);
    }
}

/// Seconds from the push until a pod of it runs on every board.
fn spread(cluster: &Cluster, boards: u32, everywhere: bool, seed: u64) -> f64 {
    let (name, image) = (format!("heavy-{seed}"), format!("example.org/heavy:{seed}"));
    let archive = cluster.dir.join("heavy.tar");
    cargo::named(&archive, &image, BYTES, seed);
    let pods = pods::heavy(&name, boards).replace(cargo::NAME, &image);
    let file = cluster.file("heavy.yaml", pods);
    let server = &cluster.boards[0];
    let archive = archive.display().to_string();
    let mut push = vec!["image", "push", archive.as_str()];
    push.extend(everywhere.then_some("--everywhere"));
    let begin = Instant::now();
    cluster.ctl(server, &push).ok();
    let pushed = begin.elapsed();
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    let wanted = usize::try_from(boards).expect("few");
    cluster.wait_running(&name, wanted);
    let took = begin.elapsed();
    eprintln!("{boards} boards, everywhere {everywhere}: pushed {pushed:?}, running {took:?}");
    let nodes = cluster.nodes_of(&name);
    assert_eq!(nodes.len(), wanted, "a pod on each board: {nodes:?}");
    cluster.ctl(server, &["delete", "deployment", &name]).ok();
    took.as_secs_f64()
}

/// What a port is called.
fn name(cluster: &Cluster, port: usize) -> &str {
    match port {
        PERSON => "person",
        n => &cluster.boards[n - 1].name,
    }
}
