//! How long a cluster takes no writes when it loses its leader: killed, unplugged, or in
//! planned succession. The same is done to etcd in the same run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edge_client::Call;
use nix::sys::signal::Signal;
use serde_json::json;

use super::board::Board;
use super::cluster::Cluster;
use super::etcd::Etcd;
use super::load::{clients, runtime};
use super::pulse::{EVERY, Pulse, Target};
use crate::board::command::until;

/// How long a cluster may take at most; beyond it the run has failed.
const MOST: Duration = Duration::from_secs(30);

/// Pause between two losses, so that the boards are at rest again.
const REST: Duration = Duration::from_millis(700);

/// How the leader is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// `kill -9`.
    Kill,
    /// `kill -9` and a start at once, again and again: as soon as all servers answer, without
    /// the rest after which every session stands.
    Again,
    /// Its cable pulled: no socket closes.
    Cable,
    /// SIGSTOP: no socket closes, and its kernel still acknowledges.
    Pause,
    /// It is asked to hand over.
    Transfer,
    /// SIGTERM: it hands over by itself.
    Stop,
}

impl Cluster {
    /// Waits until every server answers a read that is up to date.
    pub(crate) fn wait_all_read(&self) {
        let clients = clients(self);
        self.person.within(|| {
            for (client, server) in clients.iter().zip(self.servers()) {
                until(&format!("{} answers reads", server.name), || {
                    let read = async {
                        let namespace = edge_api::kinds::NAMESPACE;
                        client.get(namespace, "", "default").await.map(|_| ())
                    };
                    runtime().block_on(read).map_err(|error| error.to_string())
                });
            }
        });
    }

    /// Asks the cluster to make this server its leader.
    pub(crate) fn transfer(&self, to: &Board) {
        let clients = clients(self);
        let path = "/edged/v1/servers/transfer";
        let call = Call::new(http::Method::POST, path).json(&json!({"to": to.name}));
        let answer = self
            .person
            .within(|| runtime().block_on(async { clients[0].call(&call).await.map(|_| ()) }));
        answer.unwrap_or_else(|error| panic!("hand over to {}: {error}", to.name));
    }
}

/// Loses edged's leader so often; milliseconds without an acknowledged write, each.
pub(crate) fn edged(cluster: &Cluster, loss: Loss, times: usize) -> Vec<f64> {
    let every = if loss == Loss::Transfer { EVERY / 3 } else { EVERY };
    let target = Target::Edged(clients(cluster));
    let pulse = Pulse::start(cluster, target, &format!("{loss:?}").to_lowercase(), every);
    let one = |_| {
        let leader = cluster.wait_leader();
        cluster.wait_all_read();
        if loss != Loss::Again {
            std::thread::sleep(REST);
        }
        // What is acknowledged after the signal was sent is not the killed leader's doing.
        if matches!(loss, Loss::Kill | Loss::Again) {
            leader.signal(Signal::SIGKILL);
        }
        let since = pulse.now();
        match loss {
            Loss::Kill => leader.kill(),
            Loss::Again => {
                leader.kill();
                leader.spawn();
            }
            Loss::Cable => leader.pull_cable(),
            Loss::Pause => leader.pause(),
            Loss::Stop => assert_eq!(leader.stop(), 0, "{}", leader.log()),
            Loss::Transfer => {
                let next = cluster.servers().find(|board| board.port != leader.port);
                cluster.transfer(next.expect("another server"));
            }
        }
        let took = outage(&pulse, since, loss);
        match loss {
            Loss::Kill | Loss::Stop => leader.spawn(),
            Loss::Cable => leader.mend_cable(),
            Loss::Pause => leader.resume(),
            Loss::Transfer | Loss::Again => {}
        }
        took
    };
    (0..times).map(one).collect()
}

/// The same for etcd.
pub(crate) fn etcd(etcd: &Etcd, loss: Loss, times: usize) -> Vec<f64> {
    let every = if loss == Loss::Transfer { EVERY / 3 } else { EVERY };
    let pulse = Pulse::start(&etcd.lab, etcd.target(), "etcd", every);
    let one = |_| {
        let leader = etcd.wait_leader();
        let board = &etcd.lab.boards[leader];
        if loss != Loss::Again {
            std::thread::sleep(REST);
        }
        if matches!(loss, Loss::Kill | Loss::Again) {
            board.signal(Signal::SIGKILL);
        }
        let since = pulse.now();
        match loss {
            Loss::Kill => board.kill(),
            Loss::Again => {
                board.kill();
                etcd.spawn(board);
            }
            Loss::Cable => board.pull_cable(),
            Loss::Pause => board.pause(),
            Loss::Stop => drop(board.stop()),
            Loss::Transfer => etcd.transfer(leader, (leader + 1) % etcd.lab.boards.len()),
        }
        let took = outage(&pulse, since, loss);
        match loss {
            Loss::Kill | Loss::Stop => etcd.spawn(board),
            Loss::Cable => board.mend_cable(),
            Loss::Pause => board.resume(),
            Loss::Transfer | Loss::Again => {}
        }
        took
    };
    (0..times).map(one).collect()
}

/// From a loss to the next acknowledged write that began after it; in a planned succession, the
/// longest time between two acknowledged writes in the second around it.
fn outage(pulse: &Pulse, since: u64, loss: Loss) -> f64 {
    let took = match loss {
        Loss::Transfer | Loss::Stop => {
            std::thread::sleep(Duration::from_secs(1));
            let took = pulse.after(since, MOST).map(|_| pulse.longest_gap(since));
            took.unwrap_or_else(|| panic!("{loss:?}: no write within {MOST:?}"))
        }
        Loss::Kill | Loss::Again | Loss::Cable | Loss::Pause => {
            pulse.after(since, MOST).unwrap_or_else(|| panic!("{loss:?}: no write within {MOST:?}"))
        }
    };
    eprintln!("{loss:?}: {took:.3?}");
    took.as_secs_f64() * 1e3
}

/// How often the leader changed under 1 % loss, 300 ms jitter and two busy cores.
pub(crate) fn changes_in_bad_weather(cluster: &Cluster, length: Duration) -> u64 {
    cluster.wait_leader();
    let before = leaders(cluster);
    cluster.fabric.set_among(&cluster.ports(cluster.servers()), |weather| {
        weather.loss = 0.01;
        weather.jitter = Duration::from_millis(300);
    });
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let mut chance = super::chance::Chance::new(1);
                while busy.load(Ordering::Relaxed) {
                    std::hint::black_box(chance.next());
                }
            });
        }
        std::thread::sleep(length);
        busy.store(false, Ordering::Relaxed);
    });
    cluster.fabric.heal();
    cluster.wait_leader();
    let after = leaders(cluster);
    assert_eq!(before.0, after.0, "another leader");
    after.1 - before.1
}

/// The leader, and how often it has changed so far.
fn leaders(cluster: &Cluster) -> (String, u64) {
    cluster.opinions().into_iter().flatten().next().expect("a server answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instrument on a cluster that everybody knows: etcd loses its leader and finds another
    /// one, in about the second that its own documentation promises.
    #[test]
    fn etcd_loses_its_leader_as_expected() {
        if !crate::lab::can_run() || !crate::lab::etcd::is_installed() {
            return;
        }
        let _alone = crate::lab::alone();
        let peer = Etcd::start(3);
        for (loss, times, least, most) in [
            (Loss::Kill, 2, 300.0, 6000.0),
            (Loss::Cable, 1, 300.0, 6000.0),
            (Loss::Transfer, 1, 0.0, 1500.0),
        ] {
            let took = etcd(&peer, loss, times);
            assert!(took.iter().all(|ms| *ms >= least && *ms <= most), "{loss:?}: {took:?}");
        }
    }
}
