//! How long a cluster takes no writes when its leader goes, beside etcd; and that none goes
//! without need.

use std::time::Duration;

use super::Effort;
use crate::lab::cluster::Cluster;
use crate::lab::etcd::{self, Etcd};
use crate::lab::failover::{self, Loss, changes_in_bad_weather};
use crate::table::{Table, percentile};

/// Losses of one leader before it is the other's turn: the machine's mood is the same for both.
const TURN: usize = 5;

/// What is lost, what it is called, and the aim for the 99th percentile in milliseconds.
const LOSSES: [(Loss, &str, f64); 6] = [
    (Loss::Kill, "kill -9 of the leader → next write", 1000.0),
    (Loss::Again, "the same, started at once and the next killed → next write", 1000.0),
    (Loss::Cable, "cable of the leader pulled → next write", 2500.0),
    (Loss::Pause, "SIGSTOP of the leader → next write", 2500.0),
    (Loss::Transfer, "planned transfer, longest pause of writes", 50.0),
    (Loss::Stop, "SIGTERM of the leader, longest pause of writes", 50.0),
];

/// Loses edged's leader in one way only, named by its first word.
pub(crate) fn lose(how: &str, times: usize) -> Table {
    let word = |loss: Loss| format!("{loss:?}").to_lowercase();
    let named = LOSSES.into_iter().find(|(loss, ..)| word(*loss) == how);
    let (loss, what, aim) = named.expect("kill, again, cable, pause, transfer or stop");
    let cluster = Cluster::start(3, 0);
    let mut table = Table::new();
    table.add(what, "ms", &failover::edged(&cluster, loss, times), Some(aim), None);
    table
}

pub(crate) fn measure(table: &mut Table, effort: &Effort) {
    let cluster = Cluster::start(3, 0);
    let peer = etcd::is_installed().then(|| Etcd::start(3));
    for (loss, what, aim) in LOSSES {
        let often = matches!(loss, Loss::Kill | Loss::Again);
        let times = if often { effort.losses } else { effort.losses.div_ceil(5) };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        while ours.len() < times {
            let turn = TURN.min(times - ours.len());
            ours.extend(failover::edged(&cluster, loss, turn));
            theirs.extend(peer.iter().flat_map(|peer| failover::etcd(peer, loss, turn)));
        }
        let median = percentile(&theirs, 0.5);
        let ratio = (!theirs.is_empty()).then_some(("etcd", median));
        table.add(what, "ms", &ours, Some(aim), ratio);
        if !theirs.is_empty() {
            table.add(&format!("etcd: {what}"), "ms", &theirs, None, None);
        }
    }
    drop(peer);
    let changes = changes_in_bad_weather(&cluster, Duration::from_secs(effort.calm_s));
    let what = format!("elections in {} s of loss, jitter and busy cores", effort.calm_s);
    table.one(&what, "", changes as f64, Some(0.0));
}
