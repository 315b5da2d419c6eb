//! Boards that are lost: how soon their pods run elsewhere, and that what may only run once
//! never runs twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::pods;

/// How a board is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// `kill -9` of `edged`: its sockets close, its will is sent.
    Crashed,
    /// The plug pulled: silence.
    Silent,
}

/// Takes an agent away; how long until as many pods as before run on the other boards. The
/// agent is back, and so is rest, when this returns.
pub(crate) fn replaced(cluster: &Cluster, app: &str, count: usize, gone: Gone) -> Duration {
    let on = cluster.nodes_of(app);
    let agent = cluster.boards.iter().rev().find(|board| on.contains(&board.name));
    let agent = agent.expect("pods are on boards");
    match gone {
        Gone::Crashed => agent.kill(),
        Gone::Silent => agent.power_cut(),
    }
    let took = cluster.elsewhere(app, count, agent);
    eprintln!("{} {gone:?}: {count} pods run elsewhere after {took:.3?}", agent.name);
    if gone == Gone::Silent {
        agent.power_on();
    }
    agent.spawn();
    let names: Vec<&str> = cluster.boards.iter().map(|board| board.name.as_str()).collect();
    cluster.wait_ready(&cluster.boards[0], &names);
    took
}

/// Runs `work` while counting, over and over, how many of a laboratory's programs run at once;
/// gives the most.
pub(crate) fn most_at_once(cluster: &Cluster, work: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Ended(&done);
        let count = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                let now: usize = cluster.boards.iter().map(|b| pods::programs(b).len()).sum();
                most = most.max(now);
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        work();
        drop(ended);
        count.join().expect("the count goes on")
    })
}

/// The board that a single pod is on.
pub(crate) fn home<'a>(cluster: &'a Cluster, app: &str) -> &'a Board {
    let on = cluster.nodes_of(app);
    cluster.board(on.iter().next().expect("the pod is on a board"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::command::until;

    /// Generous bounds; what is reached stands in `docs/bench`.
    const CRASHED: Duration = Duration::from_secs(10);
    const SILENT: Duration = Duration::from_secs(15);

    #[test]
    fn pods_of_a_lost_board_run_elsewhere() {
        if !crate::lab::can_run() {
            return;
        }
        let _alone = crate::lab::alone();
        let cluster = Cluster::start(3, 2);
        cluster.load_example();
        let file = cluster.file("web.yaml", pods::deployment("web", 5));
        cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
        cluster.wait_running("web", 5);
        assert!(replaced(&cluster, "web", 5, Gone::Crashed) < CRASHED);
        assert!(replaced(&cluster, "web", 5, Gone::Silent) < SILENT);
        until("the stale pods are gone everywhere", || {
            let running: usize = cluster.boards.iter().map(|b| pods::programs(b).len()).sum();
            (running == 5).then_some(()).ok_or_else(|| format!("{running} programs"))
        });
    }

    #[test]
    fn a_singleton_never_runs_twice() {
        if !crate::lab::can_run() {
            return;
        }
        let _alone = crate::lab::alone();
        let cluster = Cluster::start(3, 2);
        cluster.load_example();
        let file = cluster.file("one.yaml", pods::singleton("one"));
        cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
        cluster.wait_running("one", 1);
        let most = most_at_once(&cluster, || {
            let board = home(&cluster, "one");
            board.pull_cable();
            std::thread::sleep(Duration::from_secs(7));
            assert_eq!(pods::programs(board).len(), 1, "a board cut off keeps its pods");
            board.mend_cable();
            cluster.wait_running("one", 1);
            home(&cluster, "one").kill();
            std::thread::sleep(Duration::from_secs(5));
            cluster.boards.iter().filter(|b| b.pid().is_none()).for_each(Board::spawn);
            cluster.wait_running("one", 1);
            home(&cluster, "one").reboot();
            cluster.wait_running("one", 1);
        });
        assert_eq!(most, 1, "programs of a singleton at once");
    }
}
