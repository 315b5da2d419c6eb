//! How soon the pods of a lost board run on others.

use super::Effort;
use crate::lab::cluster::Cluster;
use crate::lab::lost::{Gone, replaced};
use crate::lab::pods;
use crate::table::Table;

/// Pods of the Deployment.
const PODS: usize = 5;

pub(crate) fn measure(table: &mut Table, effort: &Effort) {
    let cluster = Cluster::start(3, 2);
    cluster.load_example();
    let replicas = u32::try_from(PODS).expect("few");
    let file = cluster.file("web.yaml", pods::deployment("web", replicas));
    cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
    cluster.wait_running("web", PODS);
    for (gone, what, aim) in [
        (Gone::Crashed, "edged of a board killed → its pods run elsewhere", 2.0),
        (Gone::Silent, "power of a board cut → its pods run elsewhere", 5.0),
    ] {
        let times = 0..effort.losses.div_ceil(5);
        let took = times.map(|_| replaced(&cluster, "web", PODS, gone).as_secs_f64());
        table.add(what, "s", &took.collect::<Vec<_>>(), Some(aim), None);
    }
}
