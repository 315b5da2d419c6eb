//! Boards without a clock: they wake in 1970 with no server in reach and run their pods; then they
//! hear the time, and nothing notices. Others join while they are in 1970.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use edge_api::Object;

use super::board::Board;
use super::cluster::Cluster;
use super::pods::programs;
use crate::board::command::until;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// What a board may say in the seconds after its clock has jumped.
const LINES: usize = 30;

fn real_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine has a clock");
    i64::try_from(now.as_millis()).expect("milliseconds fit")
}

/// As after a boot without a battery: some seconds of 1970 have passed.
fn in_1970() -> i64 {
    5_000 - real_ms()
}

/// As after a boot with systemd, which goes on from the day that it was made: some day since 2026.
fn at_an_epoch() -> i64 {
    (edge_core::clock::BUILT_MS - real_ms()) / 2
}

/// How far a board's clock is ahead of the machine's.
fn ahead_ms(board: &Board) -> i64 {
    let text = std::fs::read_to_string(board.clock()).expect("a clock");
    text.trim().parse().expect("milliseconds")
}

fn pod(board: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: on-{board}, labels: {{app: clock}}}}
spec:
  nodeName: {board}
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: edged/webserver:1
    imagePullPolicy: IfNotPresent
    readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
    livenessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"
    )
}

/// The last line that the board's pod wrote.
fn logged(board: &Board) -> Option<String> {
    let below = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let pods = below(board.dir.join("data/log/pods"));
    let files = pods.into_iter().flat_map(below).flat_map(below);
    let newest = files.max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok())?;
    let text = std::fs::read_to_string(newest).ok()?;
    text.lines().last().map(str::to_owned)
}

/// Waits until one pod runs on a board, and says something of this century.
#[track_caller]
fn runs_its_pod(board: &Board) {
    until(&format!("the pod of {} runs", board.name), || {
        let running = programs(board).len();
        (running == 1).then_some(()).ok_or_else(|| format!("{running}: {}", board.log()))
    });
    let this_year = edge_api::time::format(real_ms())[..4].to_owned();
    until(&format!("the pod of {} has a log", board.name), || {
        let line = logged(board).unwrap_or_default();
        line.starts_with(&this_year).then_some(()).ok_or(line)
    });
}

/// Which containers there are, and how often they were started again.
fn containers(pods: &[Object]) -> Vec<(String, u64)> {
    let of = |pod: &Object| {
        let status = &pod["status"]["containerStatuses"][0];
        let id = status["containerID"].as_str().unwrap_or_default().to_owned();
        (id, status["restartCount"].as_u64().unwrap_or(99))
    };
    pods.iter().map(of).collect()
}

fn wait_pods(cluster: &Cluster, count: usize) -> Vec<Object> {
    until("pods are Ready", || {
        let pods = cluster.pods("clock");
        let ready = |pod: &&Object| pod["status"]["containerStatuses"][0]["ready"] == true;
        let all = pods.iter().filter(ready).count() == count;
        all.then_some(pods.clone()).ok_or_else(|| format!("{pods:#?}"))
    })
}

#[test]
fn boards_wake_in_1970_and_hear_the_time_later() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(1, 3);
    let [server, agent, new, stuck] = &cluster.boards[..] else { panic!("four boards") };
    [server, agent].iter().for_each(|board| board.set_clock(0));
    cluster.found(&[]);
    cluster.join(agent);
    cluster.wait_ready(server, &["s1", "a1"]);
    cluster.load_example();
    let file = cluster.file("clock.yaml", pod("s1") + &pod("a1"));
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    let before = containers(&wait_pods(&cluster, 2));

    // The power goes. The boards come back without the time, and no cable leads anywhere.
    for (board, wakes) in [(server, in_1970()), (agent, at_an_epoch())] {
        board.power_cut();
        board.set_clock(wakes);
        board.power_on();
        board.pull_cable();
        board.spawn();
    }
    for board in [server, agent] {
        runs_its_pod(board);
        assert!(board.log().contains("clock was never set"), "{}", board.log());
        assert!(ahead_ms(board).abs() < DAY_MS, "its clock goes on from what its disk knows");
    }
    [server, agent].iter().for_each(|board| board.mend_cable());
    cluster.wait_ready(server, &["s1", "a1"]);
    until("the server knows the containers that the boot has started", || {
        let now = containers(&cluster.pods("clock"));
        let new = now.iter().zip(&before).all(|((id, _), (old, _))| id != old);
        new.then_some(()).ok_or_else(|| format!("{now:?}"))
    });
    let woken = containers(&wait_pods(&cluster, 2));
    assert!(woken.iter().all(|(_, restarts)| *restarts <= 1), "{woken:?}");

    // The server hears the time: a month has passed. The agent, which hears none, follows it.
    let run: Vec<_> = [server, agent].iter().map(|board| programs(board)).collect();
    let said: Vec<usize> = [server, agent].iter().map(|b| b.log().lines().count()).collect();
    server.set_clock(30 * DAY_MS);
    // It asks every ten seconds at first, and at once when its certificate is refused. Killed in
    // this moment it would be away for a month, and its pod with it.
    until("the agent's clock is the server's", || {
        let apart = ahead_ms(agent) - 30 * DAY_MS;
        (apart.abs() < 60_000).then_some(()).ok_or_else(|| format!("{apart}: {}", agent.log()))
    });
    cluster.wait_ready(server, &["s1", "a1"]);
    assert_eq!(containers(&wait_pods(&cluster, 2)), woken, "no pod notices");
    let now: Vec<_> = [server, agent].iter().map(|board| programs(board)).collect();
    assert_eq!(now, run);
    for (board, before) in [server, agent].iter().zip(said) {
        let lines = board.log().lines().count() - before;
        assert!(lines < LINES, "{} said {lines} lines: {}", board.name, board.log());
    }

    set_by_hand(agent, 30 * DAY_MS - 10 * 60_000);
    join_in_1970(&cluster, server, new, stuck);
}

/// A person knows the time better than the cluster, whatever that says.
fn set_by_hand(board: &Board, ahead: i64) {
    board.set_clock(ahead);
    until("the board sees that its clock was set", || {
        let log = board.log();
        log.contains("this board's clock has been set").then_some(()).ok_or(log)
    });
    assert_eq!(ahead_ms(board), ahead);
}

/// A new board joins in 1970 and takes the cluster's time, a month from now; one whose clock can't
/// be set lives in 1970.
fn join_in_1970(cluster: &Cluster, server: &Board, new: &Board, stuck: &Board) {
    new.set_clock(in_1970());
    let fixed = in_1970().to_string();
    cluster.join(new);
    let token = cluster.token("--agent");
    let url = format!("https://{}:6443", server.ip);
    let mut command = stuck.edged(&["--join", &url, "--token", &token]);
    command.env(edge_node::clock::SKEW, &fixed);
    stuck.run(command);
    cluster.wait_ready(server, &["s1", "a1", "a2", "a3"]);
    until("the new board's clock is the cluster's", || {
        let apart = ahead_ms(new) - 30 * DAY_MS;
        (apart.abs() < 60_000).then_some(()).ok_or_else(|| format!("{apart}: {}", new.log()))
    });
    let file = cluster.file("more.yaml", pod("a2") + &pod("a3"));
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    let pods = wait_pods(cluster, 4);
    assert!(stuck.log().contains("nor can it be"), "{}", stuck.log());
    let created = |pod: &Object| pod["metadata"]["creationTimestamp"].to_string();
    assert!(pods.iter().all(|pod| !created(pod).contains("1970")), "{pods:#?}");
}
