//! A server that is paused: no socket closes, its kernel acknowledges, it answers nothing. The
//! boards whose watches and beats went through it go on with another one.

use std::time::{Duration, Instant};

use super::board::Board;
use super::cluster::Cluster;
use crate::board::command::until;

/// Generous; what was seen stands in the log.
const MOST: Duration = Duration::from_secs(15);

/// A pod for each of these boards, past the scheduler.
fn pods(app: &str, boards: &[&Board]) -> String {
    let one = |board: &&Board| {
        let name = &board.name;
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {app}-{name}, labels: {{app: {app}}}}}
spec:
  nodeName: {name}
  containers:
  - {{name: c, image: 'edged/webserver:1', imagePullPolicy: IfNotPresent}}
---"
        )
    };
    boards.iter().map(one).collect()
}

/// Pauses a server; how long until a pod that is made then runs on every other board, and that is
/// known.
fn paused(cluster: &Cluster, app: &str, server: &Board) -> Duration {
    let others: Vec<&Board> = cluster.boards.iter().filter(|b| b.port != server.port).collect();
    let file = cluster.file(&format!("{app}.yaml"), pods(app, &others));
    server.pause();
    let begin = Instant::now();
    cluster.ctl(others[0], &["apply", "-f", &file]).ok();
    let phases = "jsonpath={range .items[*]}{.metadata.name}={.status.phase} {end}";
    let selector = format!("app={app}");
    until("the pods run", || {
        let said = cluster.ctl(others[0], &["get", "pods", "-l", &selector, "-o", phases]);
        let running = said.stdout.split_whitespace().filter(|pod| pod.ends_with("=Running"));
        (running.count() == others.len()).then_some(()).ok_or_else(|| format!("{said:?}"))
    });
    let took = begin.elapsed();
    server.resume();
    let names: Vec<&str> = cluster.boards.iter().map(|board| board.name.as_str()).collect();
    cluster.wait_ready(others[0], &names);
    took
}

#[test]
fn boards_go_on_when_a_server_is_paused() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    // Three agents: it would be strange if none of them were at the one that is paused.
    let cluster = Cluster::start(3, 3);
    cluster.load_example();
    let leader = cluster.wait_leader();
    let took = paused(&cluster, "leader", leader);
    eprintln!("the leader paused: pods run on all other boards after {took:.1?}");
    assert!(took < MOST, "{took:?}");
    let leader = cluster.wait_leader();
    let follower = cluster.servers().find(|board| board.port != leader.port).expect("another");
    let took = paused(&cluster, "follower", follower);
    eprintln!("a follower paused: pods run on all other boards after {took:.1?}");
    assert!(took < MOST, "{took:?}");
    most_paused(&cluster);
}

/// With the leader and one more paused nobody can answer a write, and whoever waits for one through
/// the third is told so.
fn most_paused(cluster: &Cluster) {
    let leader = cluster.wait_leader();
    let others: Vec<&Board> = cluster.servers().filter(|b| b.port != leader.port).collect();
    leader.pause();
    others[1].pause();
    let begin = Instant::now();
    let told = cluster.ctl(others[0], &["create", "configmap", "hangs"]).fails();
    let took = begin.elapsed();
    leader.resume();
    others[1].resume();
    // By how far the paused leader's kernel got with the connection.
    let words = ["no server leads", "the write was not made"];
    assert!(words.iter().any(|words| told.contains(words)), "{told}");
    assert!(took < MOST, "{took:?}");
}
