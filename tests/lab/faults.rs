//! Nothing acknowledged is lost, history is linearizable, watches are whole: over a row of
//! faults against three servers, under a load that never pauses.

use std::time::Duration;

use super::broker;
use super::cluster::{Cluster, seed};
use super::load::{Load, Plan};
use super::nemesis;
use super::served::Served;
use super::watching;
use crate::board::command::run;

/// Faults that CI can afford; `EDGED_LAB_FAULTS` is how many somebody with time wants.
const FAULTS: usize = 8;

/// How long the only broker is away while pods are watched: longer than any board may be silent
/// before its endpoints are dropped and its pods replaced.
const SILENCE: Duration = Duration::from_secs(7);

fn faults() -> usize {
    let named = std::env::var("EDGED_LAB_FAULTS").ok();
    named.map_or(FAULTS, |text| text.parse().expect("EDGED_LAB_FAULTS is a number"))
}

/// The load that the judges can still judge after hundreds of faults.
pub(crate) fn plan() -> Plan {
    let pause = Duration::from_millis(if faults() > 50 { 60 } else { 15 });
    Plan { registers: 4, clients: 8, pause, seed: seed() }
}

/// Runs the faults and judges what is left. What is wrong is said at once, all of it.
fn survive(cluster: &Cluster, faults: usize) {
    let load = Load::start(cluster, plan());
    let before = cluster.changes();
    let episodes = nemesis::rage(cluster, &load, faults, seed());
    let elections = cluster.changes().saturating_sub(before);
    let evidence = load.finish();
    let writes = evidence.history.acknowledged().count();
    eprint!("{}", nemesis::summary(&episodes));
    eprintln!(
        "{} faults, {elections} new terms, {} requests, {writes} acknowledged writes, {} \
         watches with {} events, resumed {} times",
        episodes.len(),
        evidence.history.records.len(),
        evidence.watches.len(),
        evidence.watches.iter().map(|watch| watch.events.len()).sum::<usize>(),
        evidence.watches.iter().map(|watch| watch.resumed).sum::<u32>(),
    );
    let mut offences = evidence.history.check();
    offences.extend(watching::check(&evidence.watches, &evidence.history));
    let shown = offences.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(offences.is_empty(), "{} offences:\n  {shown}\n{episodes:#?}", offences.len());
    assert!(writes > 20 * episodes.len(), "{writes} writes are no load");
}

#[test]
fn three_servers_lose_nothing_whatever_is_broken() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    survive(&cluster, faults());
}

/// The same with no broker but the user's own, which is killed and paused as well. What runs on
/// the boards does not notice: its processes are the same ones afterwards.
#[test]
fn a_broker_of_the_users_own_is_enough() {
    if !super::can_run() || !broker::is_installed() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(3, 1);
    let broker = cluster.on_mosquitto();
    cluster.form(&[]);
    let listens = |port: &str| {
        let mut command = cluster.boards[0].inside("ss");
        command.args(["-Hltn", "sport", "=", port]);
        !run(command).ok().trim().is_empty()
    };
    assert!(listens(":6443") && !listens(":8883"), "no broker of the cluster's own");
    let service = Served::start(&cluster);
    service.untouched("a dead broker", || {
        broker.kill();
        std::thread::sleep(SILENCE);
        broker.spawn();
    });
    service.untouched("a broker that hangs", || {
        broker.pause();
        std::thread::sleep(SILENCE);
        broker.resume();
    });
    let agent = cluster.board("a1");
    let before = super::pods::programs(agent);
    survive(&cluster, faults().div_ceil(2));
    let kept = super::pods::programs(agent);
    assert!(before.iter().all(|pid| kept.contains(pid)), "{before:?} became {kept:?}");
}
