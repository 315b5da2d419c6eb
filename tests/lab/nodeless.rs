//! Servers that run no pods, whose joining finds no room, and whose files are damaged or gone: each
//! error's advice is followed to the letter, and works.

use std::fs;
use std::process::Command;

use super::board::Board;
use super::cluster::Cluster;
use super::pods::{deployment, programs};
use crate::board::command::{run, until};

/// The last line of an `edged` that ended by itself with status 1.
#[track_caller]
fn refused(board: &Board) -> String {
    assert_eq!(board.ended(), 1, "{}", board.log());
    board.log().lines().last().unwrap_or_default().to_owned()
}

/// The names of the cluster's Nodes, and of its servers that are up and vote.
fn known(cluster: &Cluster, asked: &Board) -> (Vec<String>, Vec<String>) {
    let nodes = cluster.ctl(asked, &["get", "nodes", "-o", "name"]).ok();
    let nodes = nodes.lines().filter_map(|line| line.strip_prefix("node/")).map(str::to_owned);
    let servers = cluster.ctl(asked, &["get", "servers", "--no-headers"]).ok();
    let up = servers.lines().filter(|line| line.contains("follower") || line.contains("leader"));
    let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let mut servers: Vec<String> = up.map(name).collect();
    servers.sort();
    (nodes.collect(), servers)
}

#[track_caller]
fn until_known(cluster: &Cluster, asked: &Board, nodes: &[&str], servers: &[&str]) {
    until(&format!("{nodes:?} are Nodes, {servers:?} are servers"), || {
        let now = known(cluster, asked);
        let right = now.0 == nodes && now.1 == servers;
        right.then_some(()).ok_or_else(|| format!("{now:?}"))
    });
}

/// A join that finds no room leaves nothing behind, and the same token serves once there is some.
fn joins_when_there_is_room(cluster: &Cluster, board: &Board) {
    let first = &cluster.boards[0];
    let data = board.dir.join("data");
    fs::create_dir_all(&data).expect("a directory");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&data);
    run(mount).ok();
    let token = cluster.token("--server");
    let url = format!("https://{}:6443", first.ip);
    let arguments = ["--join", &url, "--token", &token, "--no-agent"];
    board.spawn_with(&arguments);
    let line = refused(board);
    assert!(
        line.contains("needed there as server") && line.contains("can still be used"),
        "{line}"
    );
    let servers = cluster.ctl(first, &["get", "servers"]).ok();
    assert!(!servers.contains(&board.name), "{servers}");
    let mut larger = Command::new("mount");
    larger.args(["-o", "remount,size=64m"]).arg(&data);
    run(larger).ok();
    board.spawn_with(&arguments);
}

/// A file that is the same on every server is copied from another one, as the error says.
fn gets_its_key_back(board: &Board, other: &Board) {
    let key = |board: &Board| board.dir.join("data/pki/cluster.key");
    fs::remove_file(key(board)).expect("it has one");
    board.spawn_with(&["--no-agent"]);
    let line = refused(board);
    assert!(line.contains("cluster.key is missing") && line.contains("another server"), "{line}");
    assert!(!key(board).exists(), "none was made in its place");
    fs::copy(key(other), key(board)).expect("copied");
}

/// Waits until pods that ask for the API are led to these servers.
#[track_caller]
fn until_led_to(cluster: &Cluster, asked: &Board, wanted: &[&str]) {
    let path = "jsonpath={range .endpoints[*]}{.nodeName}={.conditions.ready} {end}";
    until(&format!("pods are led to {wanted:?}"), || {
        let told = cluster.ctl(asked, &["get", "endpointslices", "kubernetes", "-o", path]).ok();
        let mut now: Vec<&str> = told.split_whitespace().collect();
        now.sort_unstable();
        (now == wanted).then_some(()).ok_or(told.clone())
    });
}

/// Puts a new server in the place of one whose `cluster.json` and its copy are damaged.
fn is_replaced(cluster: &Cluster, board: &Board) {
    let (name, data) = (&board.name, board.dir.join("data"));
    let first = &cluster.boards[0];
    until_led_to(cluster, first, &["s1=true", "s2=true", "s3=true"]);
    board.kill();
    // It has no Node and does not beat: pods are not led to it all the same.
    until_led_to(cluster, first, &["s1=true", "s2=true", "s3=false"]);
    for file in ["cluster.json", "pki/cluster.json"] {
        fs::write(data.join(file), "{").expect("damaged");
    }
    board.spawn_with(&["--no-agent"]);
    let line = refused(board);
    assert!(line.contains(&format!("`edgectl server remove {name}`")), "{line}");
    assert!(line.contains(&format!("empty {}", data.display())), "{line}");
    cluster.ctl(first, &["server", "remove", name]).ok();
    assert!(line.contains(&format!("`edgectl delete node {name} --ignore-not-found`")), "{line}");
    cluster.ctl(first, &["delete", "node", name, "--ignore-not-found"]).ok();
    for entry in fs::read_dir(&data).expect("a directory") {
        let path = entry.expect("an entry").path();
        let emptied =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        emptied.expect("emptied");
    }
    let (token, url) = (cluster.token("--server"), format!("https://{}:6443", first.ip));
    board.spawn_with(&["--join", &url, "--token", &token, "--no-agent"]);
}

#[test]
fn servers_may_run_no_pods_and_lose_files() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(3, 0);
    let [first, second, third] = &cluster.boards[..] else { panic!("three boards") };
    cluster.found(&[]);
    cluster.join(second);
    cluster.wait_ready(first, &["s1", "s2"]);
    joins_when_there_is_room(&cluster, third);
    let all = ["s1", "s2", "s3"];
    until_known(&cluster, first, &["s1", "s2"], &all);
    // Two run pods; then one of them doesn't any more.
    cluster.load_example();
    let file = cluster.file("web.yaml", deployment("web", 4));
    cluster.ctl(first, &["apply", "-f", &file]).ok();
    cluster.ctl(first, &["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    assert!(!programs(second).is_empty());
    assert_eq!(second.stop(), 0);
    gets_its_key_back(second, first);
    fs::write(second.dir.join("data/cluster.json"), "{\"cluster\": \"").expect("damaged");
    second.spawn_with(&["--no-agent"]);
    until_known(&cluster, first, &["s1"], &all);
    assert!(programs(second).is_empty(), "its pods ended before others took their place");
    cluster.ctl(first, &["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    is_replaced(&cluster, third);
    until_known(&cluster, first, &["s1"], &all);
    // With an agent again, it has a Node again.
    assert_eq!(second.stop(), 0);
    second.spawn();
    cluster.wait_ready(third, &["s1", "s2"]);
    until_known(&cluster, third, &["s1", "s2"], &all);
}
