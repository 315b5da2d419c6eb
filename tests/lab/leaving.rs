//! Servers that go, by a person's word or for good, and boards that come with a wrong clock.

use std::path::Path;
use std::process::Command;

use super::board::{Board, Role};
use super::cluster::Cluster;
use crate::board::command::{Outcome, run, until};
use crate::board::machine::built;

/// `edged` with a command about this board's own directory.
fn own(board: &Board, words: &[&str]) -> Outcome {
    let mut command = board.inside(built("edged"));
    command.args(words).arg("--data-dir").arg(board.dir.join("data"));
    command.args(["--node-ip", &board.ip.to_string()]);
    run(command)
}

/// The nodes that `get nodes` calls servers.
fn control_plane(cluster: &Cluster, server: &Board) -> Vec<String> {
    let nodes = cluster.ctl(server, &["get", "nodes", "--no-headers"]).ok();
    let servers = nodes.lines().filter(|line| line.contains("control-plane"));
    servers.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[track_caller]
fn until_servers(cluster: &Cluster, asked: &Board, names: &[&str]) {
    until(&format!("{names:?} are the servers"), || {
        let now = control_plane(cluster, asked);
        (now == names).then_some(()).ok_or_else(|| format!("{now:?}"))
    });
}

/// A server that is started and told that it is none any more.
#[track_caller]
fn is_turned_away(board: &Board) {
    board.spawn();
    assert_eq!(board.ended(), 1);
    let log = board.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("was removed from the cluster") && last.contains("join again"), "{last}");
}

/// A former server whose key is revoked, and with it what it made for the person at it.
#[track_caller]
fn is_thrown_out(cluster: &Cluster, former: &Board, other: &Board) {
    let nodes = || {
        let mut command = former.inside(built("edgectl"));
        command.arg("--kubeconfig").arg(former.dir.join("data/admin.kubeconfig"));
        command.args(["--server", &format!("https://{}:6443", other.ip), "get", "nodes"]);
        run(command)
    };
    nodes().ok();
    cluster.ctl(other, &["node", "revoke", &former.name]).ok();
    let told = until("its person is not let in", || match nodes() {
        refused if refused.status != 0 => Ok(refused.stderr),
        answered => Err(answered.stdout),
    });
    assert!(told.contains("You must be logged in") && told.contains("was revoked"), "{told}");
}

#[test]
fn servers_are_removed_and_leave() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 1);
    let asked = &cluster.boards[0];
    until_servers(&cluster, asked, &["s1", "s2", "s3"]);
    until("all three vote", || {
        let servers = cluster.ctl(asked, &["get", "servers"]).ok();
        (!servers.contains("learner")).then_some(()).ok_or(servers)
    });
    // One that is emptied for work on it hands its lead over first.
    let first = until("somebody leads", || cluster.leader().ok_or_else(String::new));
    let drained = cluster.ctl(asked, &["drain", &first.name]).ok();
    let handed = format!("server/{} handed the lead over", first.name);
    assert!(drained.contains(&handed), "{drained}");
    until("another leads", || match cluster.leader() {
        Some(leader) if leader.name != first.name => Ok(()),
        _ => Err(first.name.clone()),
    });
    cluster.ctl(asked, &["uncordon", &first.name]).ok();
    // The leader hands its lead over first; whoever removes it notices a pause at most.
    let leader = until("somebody leads", || cluster.leader().ok_or_else(String::new));
    let kept = cluster.ctl(asked, &["server", "transfer", &leader.name]).ok();
    assert_eq!(kept.trim(), format!("server/{} leads already", leader.name));
    let others: Vec<&Board> = cluster.servers().filter(|board| board.name != leader.name).collect();
    let member = cluster.ctl(others[0], &["node", "revoke", &leader.name]).fails();
    assert!(member.contains(&format!("`edgectl server remove {}` first", leader.name)), "{member}");
    let removed = cluster.ctl(others[0], &["server", "remove", &leader.name]);
    assert_eq!(removed.status, 0, "{removed:?}");
    assert!(removed.stderr.contains("either of them fails"), "an even number: {removed:?}");
    until("the removed server says so", || {
        let log = leader.log();
        log.contains("was removed from the cluster").then_some(()).ok_or(log)
    });
    let names: Vec<&str> = others.iter().map(|board| board.name.as_str()).collect();
    until_servers(&cluster, others[0], &names);
    assert_eq!(leader.stop(), 0);
    is_turned_away(leader);
    is_thrown_out(&cluster, leader, others[0]);
    let left = own(others[1], &["server", "leave"]);
    assert_eq!(left.status, 0, "{left:?}");
    assert!(left.stdout.contains("no server of the cluster any more"), "{left:?}");
    until_servers(&cluster, others[0], &names[..1]);
    until("who left says that it did", || {
        let log = others[1].log();
        log.contains("has left the cluster, as it was asked to").then_some(()).ok_or(log)
    });
    assert!(!others[1].log().contains("was removed from the cluster"), "{}", others[1].log());
    let last = own(others[0], &["server", "leave"]).fails();
    assert!(
        last.contains("the last voting server") && last.trim_end().lines().count() == 1,
        "{last}"
    );
    cluster.ctl(others[0], &["create", "configmap", "after", "--from-literal=a=b"]).ok();
}

#[test]
fn a_lost_majority_is_recovered_by_a_persons_word() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 1);
    let [lost, gone, left] = [0, 1, 2].map(|n| &cluster.boards[n]);
    cluster.ctl(left, &["create", "configmap", "before", "--from-literal=a=b"]).ok();
    let revision = |server: &Board, name: &str| -> u64 {
        let path = "jsonpath={.metadata.resourceVersion}";
        let text = cluster.ctl(server, &["get", "configmap", name, "-o", path]).ok();
        text.trim().parse().expect("a revision")
    };
    let before = revision(left, "before");
    lost.power_cut();
    gone.power_cut();
    let busy = own(left, &["recover", "--force"]).fails();
    assert!(busy.contains("in use"), "it runs: {busy}");
    left.kill();
    let asks = own(left, &["recover"]).fails();
    assert!(asks.contains("loses what the others acknowledged") && asks.contains("--force"));
    let report = own(left, &["recover", "--force"]).ok();
    assert!(report.contains("goes on alone, without s1, s2"), "{report}");
    assert!(report.contains("are lost") && report.contains("join them anew"), "{report}");
    left.spawn();
    // The agent has seen what this server may never have: it takes the new state all the same.
    cluster.wait_ready(left, &["s3", "a1"]);
    cluster.ctl(left, &["create", "configmap", "after", "--from-literal=a=b"]).ok();
    assert!(revision(left, "after") > before);
    cluster.ctl(left, &["get", "configmap", "before"]).ok();
    until_servers(&cluster, left, &["s3"]);
    // Who was lost may turn up again, and does no harm.
    lost.power_on();
    is_turned_away(lost);
    // A new server comes, on the board of one that was lost.
    gone.power_on();
    std::fs::remove_dir_all(gone.dir.join("data")).expect("its old data");
    cluster.ctl(left, &["delete", "node", "s2"]).ok();
    let token = cluster.token_of(left, "--server");
    gone.spawn_with(&["--join", &format!("https://{}:6443", left.ip), "--token", &token]);
    cluster.wait_ready(gone, &["s2", "s3", "a1"]);
    cluster.ctl(gone, &["get", "configmap", "after"]).ok();
}

/// Lets an agent join whose clock is off by so much.
fn join_with_clock(cluster: &Cluster, agent: &Board, skew_ms: i64) {
    let token = cluster.token("--agent");
    let url = format!("https://{}:6443", cluster.boards[0].ip);
    let mut command = agent.edged(&["--join", &url, "--token", &token]);
    skewed(&mut command, skew_ms);
    agent.run(command);
}

fn skewed(command: &mut Command, skew_ms: i64) {
    command.env(edge_server::clock::SKEW, skew_ms.to_string());
}

/// The floor that a board keeps: the cluster's time when it joined.
fn floor_ms(data: &Path) -> i64 {
    let text = std::fs::read_to_string(data.join("cluster.json")).expect("what the join left");
    let saved: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    saved["floorMs"].as_i64().expect("a floor")
}

#[test]
fn boards_with_wrong_clocks_join() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(1, 2);
    cluster.found(&[]);
    let now = edge_server::clock::read().wall_ms;
    let years = 5 * 365 * 86_400_000;
    let agents: Vec<&Board> = cluster.boards.iter().filter(|b| b.role == Role::Agent).collect();
    for (agent, skew) in agents.iter().zip([-now, years]) {
        join_with_clock(&cluster, agent, skew);
    }
    cluster.wait_ready(&cluster.boards[0], &["s1", "a1", "a2"]);
    for (agent, skew) in agents.iter().zip([-now, years]) {
        let floor = floor_ms(&agent.dir.join("data"));
        assert!((floor - now).abs() < 120_000, "{}: the cluster's time is kept", agent.name);
        // Started again it still does not know the time, and is let in all the same.
        agent.kill();
        let mut command = agent.edged(&[]);
        skewed(&mut command, skew);
        agent.run(command);
        until("the agent is in touch again", || {
            let outcome =
                cluster.kubectl(&cluster.boards[0], &["get", "--raw", &ping(&agent.name)]);
            (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
        });
    }
}

/// A path that the server answers by asking the agent, over TLS in which both are judged.
fn ping(node: &str) -> String {
    format!("/api/v1/nodes/{node}/proxy/healthz")
}
