//! Writes of 1 kB through three servers: how long, how many, and how many bytes reach each
//! board's device; and that a cluster at rest writes nothing.

use std::time::{Duration, Instant};

use super::Effort;
use crate::lab::cluster::Cluster;
use crate::lab::etcd::{self, Etcd};
use crate::lab::load::clients;
use crate::lab::pulse::Target;
use crate::lab::speed::{self, Speed};
use crate::table::{Table, percentile};

/// Bytes of a written value.
const VALUE: usize = 1000;

/// Turns of each, so that the machine's mood is the same for both.
const TURNS: u32 = 3;

/// Clients at once, and what etcd 3.4 writes per 1 kB with so many, in KiB.
const LOADS: [(usize, f64); 2] = [(1, 8.6), (32, 3.5)];

pub(crate) fn measure(table: &mut Table, effort: &Effort) {
    let cluster = Cluster::start(3, 0);
    at_rest(table, &cluster, effort);
    let peer = etcd::is_installed().then(|| Etcd::start(3));
    let length = Duration::from_secs(effort.load_s).div_f64(TURNS.into());
    for (count, aim) in LOADS {
        let (mut ours, mut theirs) = (Sum::default(), Sum::default());
        for _ in 0..TURNS {
            let target = || Target::Edged(clients(&cluster));
            ours.add(speed::measure(&cluster, target, count, VALUE, length));
            if let Some(peer) = &peer {
                let target = || peer.target();
                theirs.add(speed::measure(&peer.lab, target, count, VALUE, length));
            }
        }
        let name = |what: &str| format!("{what}, {count} clients");
        let etcd = |value: f64| peer.is_some().then_some(("etcd", value));
        let their_median = percentile(&theirs.latencies, 0.5);
        table.add(&name("write of 1 kB"), "ms", &ours.latencies, None, etcd(their_median));
        table.add(&name("writes a second"), "/s", &ours.rates, None, etcd(theirs.rate()));
        let kib: Vec<f64> = ours.bytes.iter().map(|bytes| bytes / 1024.0).collect();
        let what = name("bytes to each device per write of 1 kB");
        table.add(&what, "KiB", &kib, Some(aim), etcd(percentile(&theirs.bytes, 0.5) / 1024.0));
        if peer.is_some() {
            table.add(&name("etcd: write of 1 kB"), "ms", &theirs.latencies, None, None);
            table.add(&name("etcd: writes a second"), "/s", &theirs.rates, None, None);
            let kib: Vec<f64> = theirs.bytes.iter().map(|bytes| bytes / 1024.0).collect();
            table.add(&name("etcd: bytes per write of 1 kB"), "KiB", &kib, None, None);
        }
    }
}

/// What several turns gave.
#[derive(Default)]
struct Sum {
    latencies: Vec<f64>,
    rates: Vec<f64>,
    bytes: Vec<f64>,
}

impl Sum {
    fn add(&mut self, speed: Speed) {
        self.latencies.extend(speed.latencies);
        self.rates.push(speed.rate);
        self.bytes.push(speed.bytes);
    }

    fn rate(&self) -> f64 {
        percentile(&self.rates, 0.5)
    }
}

/// Three servers with nothing to do.
fn at_rest(table: &mut Table, cluster: &Cluster, effort: &Effort) {
    // What a start leaves to do (a batched commit, a first report) is not rest.
    std::thread::sleep(Duration::from_secs(15));
    let before: Vec<_> =
        cluster.boards.iter().map(|b| (speed::written(b), speed::cpu(b))).collect();
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs(effort.rest_s));
    let length = begin.elapsed().as_secs_f64();
    for (board, (bytes, cpu)) in cluster.boards.iter().zip(before) {
        let written = speed::written(board) - bytes;
        if written > 0 {
            println!("{} wrote at rest; what it said:\n{}", board.name, board.log());
        }
        let what = format!("written by {} in {} s at rest", board.name, effort.rest_s);
        table.one(&what, "bytes", written as f64, Some(0.0));
        let used = (speed::cpu(board) - cpu) / length * 100.0;
        table.one(&format!("CPU of {} at rest", board.name), "% of a core", used, Some(0.5));
        let rss = speed::resident(board) / 1024.0 / 1024.0;
        table.one(&format!("{} at rest, RSS", board.name), "MiB", rss, Some(20.0));
    }
}
