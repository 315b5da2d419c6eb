//! What agents cost their server: a few, then many.

use std::time::Duration;

use super::Effort;
use crate::lab::cluster::Cluster;
use crate::lab::crowd;
use crate::table::{Table, percentile};

pub(crate) fn measure(table: &mut Table, effort: &Effort) {
    let (few, many) = effort.agents;
    let cluster = Cluster::dark(1, many);
    cluster.found(&[]);
    let length = Duration::from_secs(effort.load_s * 2);
    let mut first: Option<(f64, f64)> = None;
    let mut joined = 0;
    for count in [few, many] {
        for agent in &cluster.boards[1 + joined..=count] {
            cluster.join(agent);
        }
        joined = count;
        let names: Vec<&str> = cluster.boards[..=count].iter().map(|b| b.name.as_str()).collect();
        cluster.wait_ready(&cluster.boards[0], &names);
        std::thread::sleep(Duration::from_secs(5));
        let burden = crowd::measure(&cluster, count, length);
        let name = |what: &str| format!("{count} agents: {what}");
        let of_few = first.map(|(cpu, _)| ("fewer agents", cpu));
        table.add(&name("CPU of the server"), "% of a core", &[burden.cpu * 100.0], None, of_few);
        let cpu = burden.cpu_watched * 100.0;
        table.one(&name("CPU with 10 changes/s to all"), "% of a core", cpu, None);
        table.one(&name("RSS of the server"), "MiB", burden.resident / 1024.0 / 1024.0, None);
        let of_few = first.map(|(_, delay)| ("fewer agents", delay));
        table.add(&name("write → event at a watcher"), "ms", &burden.delays, None, of_few);
        first.get_or_insert((burden.cpu * 100.0, percentile(&burden.delays, 0.5)));
    }
}
