//! The one who breaks things: a seeded row of faults against the servers of a cluster, each
//! held for a while and then healed, with the time that writes needed to go on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::board::Board;
use super::chance::Chance;
use super::cluster::Cluster;
use super::link::Weather;
use super::load::Load;

/// How long a fault lasts, at least and at most.
const HOLD: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(3000));

/// How long writes may stay away while a majority is well. Far above what is aimed at: this is
/// the check that a cluster lives, not the one that it is quick.
const MOST: Duration = Duration::from_secs(20);

/// What can be done to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and a start again when healed.
    Kill,
    /// SIGSTOP.
    Pause,
    /// The plug pulled, and a boot when healed.
    PowerCut,
    /// The cable pulled.
    Cable,
    /// It hears nobody, and is heard.
    Deaf,
    /// It hears everybody, and is not heard.
    Mute,
    /// It and one other hear each other no more; the third is between them.
    Apart,
    /// It hears one other no more, who hears it.
    HalfApart,
    /// All of its frames late and one in five lost.
    Storm,
    /// All servers killed at once.
    KillAll,
    /// All but one paused.
    PauseMost,
    /// The user's only broker killed, and with it all that it retained.
    BrokerKill,
    /// The user's only broker paused.
    BrokerPause,
}

/// All of them but those of a broker, the frequent ones more than once.
const FAULTS: [Fault; 15] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::Pause,
    Fault::Pause,
    Fault::PowerCut,
    Fault::Cable,
    Fault::Cable,
    Fault::Deaf,
    Fault::Mute,
    Fault::Apart,
    Fault::HalfApart,
    Fault::Storm,
    Fault::KillAll,
    Fault::PauseMost,
];

/// What is done to the user's only broker.
const BROKER_FAULTS: [Fault; 2] = [Fault::BrokerKill, Fault::BrokerPause];

/// The kinds of faults that `EDGED_LAB_KINDS` names (`Kill,PowerCut`), or all of them.
fn wished() -> Vec<Fault> {
    let named = std::env::var("EDGED_LAB_KINDS").unwrap_or_default();
    let is_named = |fault: &Fault| named.split(',').any(|name| name == format!("{fault:?}"));
    let some: Vec<Fault> = FAULTS.into_iter().filter(is_named).collect();
    if some.is_empty() { FAULTS.to_vec() } else { some }
}

impl Fault {
    /// Whether a majority is untouched, so that writes have to go on before it is healed.
    fn leaves_majority(self) -> bool {
        use Fault::{BrokerKill, BrokerPause, KillAll, PauseMost};
        !matches!(self, KillAll | PauseMost | BrokerKill | BrokerPause)
    }
}

/// One fault and what came of it.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "read by people, in a failed test's output")]
pub(crate) struct Episode {
    pub(crate) fault: Fault,
    pub(crate) board: String,
    pub(crate) was_leader: bool,
    /// From the fault to the next acknowledged write, when that came before the healing.
    pub(crate) during: Option<Duration>,
    /// From the healing to the next acknowledged write.
    pub(crate) after: Duration,
}

/// Breaks and heals, `count` times.
pub(crate) fn rage(cluster: &Cluster, load: &Load, count: usize, seed: u64) -> Vec<Episode> {
    let mut chance = Chance::new(seed ^ 0xfa17);
    (0..count).map(|n| one(cluster, load, n, &mut chance)).collect()
}

impl Cluster {
    /// How often the leader has changed so far, as the server has it that saw most.
    pub(crate) fn changes(&self) -> u64 {
        self.opinions().into_iter().flatten().map(|(_, changes)| changes).max().unwrap_or(0)
    }
}

/// How often each fault was inflicted, and how long writes were away at most once it was over:
/// a line each.
pub(crate) fn summary(episodes: &[Episode]) -> String {
    let mut kinds: BTreeMap<String, Vec<&Episode>> = BTreeMap::new();
    for episode in episodes {
        kinds.entry(format!("{:?}", episode.fault)).or_default().push(episode);
    }
    let line = |(kind, all): (&String, &Vec<&Episode>)| {
        let led = all.iter().filter(|episode| episode.was_leader).count();
        let after = all.iter().map(|episode| episode.after).max().unwrap_or_default();
        format!("{kind}: {} times, {led} on the leader; writes {after:.1?} later\n", all.len())
    };
    kinds.iter().map(line).collect()
}

fn one(cluster: &Cluster, load: &Load, n: usize, chance: &mut Chance) -> Episode {
    let servers: Vec<&Board> = cluster.servers().collect();
    let fault = match chance.below(4) {
        0 if cluster.broker.get().is_some() => *chance.pick(&BROKER_FAULTS),
        _ => *chance.pick(&wished()),
    };
    let leader = cluster.leader();
    // The leader is half of the interesting cases, whoever it is.
    let drawn = *chance.pick(&servers);
    let board = if chance.below(2) == 0 { leader.unwrap_or(drawn) } else { drawn };
    let others: Vec<&Board> = servers.iter().copied().filter(|b| b.port != board.port).collect();
    let was_leader = leader.is_some_and(|leader| leader.port == board.port);
    let hold = HOLD.0 + chance.up_to(HOLD.1 - HOLD.0);
    let since = load.now();
    inflict(cluster, fault, board, &others, chance);
    std::thread::sleep(hold);
    let during = if fault.leaves_majority() {
        load.recovery(since, MOST)
    } else {
        load.acknowledged_after(since).map(|at| Duration::from_nanos(at - since))
    };
    let healed = load.now();
    heal(cluster, fault, board, &others);
    let after = load.recovery(healed, MOST);
    let episode = |after| Episode { fault, board: board.name.clone(), was_leader, during, after };
    let Some(after) = after else {
        panic!("no write within {MOST:?} after fault {n} was healed: {:?}", episode(MOST));
    };
    let episode = episode(after);
    eprintln!("fault {n}, held {hold:.1?}: {episode:?}");
    assert!(
        during.is_some() || !fault.leaves_majority(),
        "no write within {MOST:?} although two of three servers were well: {episode:?}"
    );
    if let Err(why) = load.is_everywhere(cluster) {
        panic!("after fault {n}, {episode:?}: {why}");
    }
    std::thread::sleep(chance.up_to(Duration::from_millis(500)));
    episode
}

fn inflict(cluster: &Cluster, fault: Fault, board: &Board, others: &[&Board], chance: &mut Chance) {
    let fabric = &cluster.fabric;
    let broker = || cluster.broker.get().expect("there is one");
    let cut = |weather: &mut Weather| weather.cut = true;
    let ports = || (0..fabric.ports()).filter(|port| *port != board.port);
    match fault {
        Fault::Kill => board.kill(),
        Fault::Pause => board.pause(),
        Fault::PowerCut => board.power_cut(),
        Fault::Cable => board.pull_cable(),
        Fault::Deaf => ports().for_each(|port| fabric.set(port, board.port, cut)),
        Fault::Mute => ports().for_each(|port| fabric.set(board.port, port, cut)),
        Fault::Apart => fabric.set_both(board.port, chance.pick(others).port, cut),
        Fault::HalfApart => fabric.set(chance.pick(others).port, board.port, cut),
        Fault::Storm => fabric.set_all_of(board.port, |weather| {
            weather.loss = 0.2;
            weather.delay = Duration::from_millis(20);
            weather.jitter = Duration::from_millis(200);
        }),
        Fault::KillAll => {
            board.kill();
            others.iter().for_each(|other| other.kill());
        }
        Fault::PauseMost => others.iter().for_each(|other| other.pause()),
        Fault::BrokerKill => broker().kill(),
        Fault::BrokerPause => broker().pause(),
    }
}

fn heal(cluster: &Cluster, fault: Fault, board: &Board, others: &[&Board]) {
    cluster.fabric.heal();
    let broker = || cluster.broker.get().expect("there is one");
    match fault {
        Fault::Kill => board.spawn(),
        Fault::Pause => board.resume(),
        Fault::PowerCut => {
            board.power_on();
            board.spawn();
        }
        Fault::KillAll => {
            board.spawn();
            others.iter().for_each(|other| other.spawn());
        }
        Fault::PauseMost => others.iter().for_each(|other| other.resume()),
        Fault::BrokerKill => broker().spawn(),
        Fault::BrokerPause => broker().resume(),
        _ => {}
    }
}
