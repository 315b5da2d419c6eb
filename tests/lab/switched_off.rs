//! A board that is switched off in order: its pods are told nothing more before they are told to
//! end, its Node says so, and it comes back. A socket in systemd's place says that the machine
//! stops.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::board::Board;
use super::cluster::Cluster;
use crate::board::command::until;

/// Between SIGTERM and the last word of its pods' being ready. Seen: 0.3 s; a board of which
/// nothing is known but that it ends takes 30 s.
const MOST: Duration = Duration::from_secs(10);
/// Between SIGTERM and the end of `edged` where no server answers: it waits for a second.
const MOST_HELD_UP: Duration = Duration::from_secs(4);
/// Keeps new pods away, and drives none out.
const NOT_READY: &str = "node.kubernetes.io/not-ready:NoSchedule";
/// How the machine is, in D-Bus's words: an answer, one field that nobody reads, a text.
const STOPPING: &[u8] = b"l\x02\0\x01\x11\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\
                          \x01s\0\0\x08\0\0\0stopping\0";

/// A service manager that goes down, for as many as ask.
fn manager(listener: UnixListener) {
    let serve = |mut stream: UnixStream| -> std::io::Result<()> {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes)?;
        stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n")?;
        let _ = stream.read(&mut bytes)?;
        stream.write_all(STOPPING)
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream).expect("edged asks");
        }
    });
}

fn one(cluster: &Cluster, kind: &str) -> Value {
    let printed = cluster.ctl(&cluster.boards[0], &["get", kind, "-o", "json"]).ok();
    serde_json::from_str(&printed).expect("JSON")
}

/// Waits until the agent's pod is told what comes for its Service, or nothing more.
#[track_caller]
fn until_served(cluster: &Cluster, served: bool) {
    until(&format!("served: {served}"), || {
        let slices = one(cluster, "endpointslices");
        let endpoints = slices["items"].as_array().into_iter().flatten();
        let mut endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array()).flatten();
        let ours = endpoints.find(|endpoint| endpoint["nodeName"] == "a1");
        let as_wanted = ours.is_some_and(|endpoint| endpoint["conditions"]["ready"] == served);
        as_wanted.then_some(()).ok_or_else(|| slices.to_string())
    });
}

/// Starts `edged` on a board whose service manager says that the machine stops.
fn spawn_going_down(board: &Board) {
    let socket = board.dir.join("systemd");
    let _ = std::fs::remove_file(&socket);
    manager(UnixListener::bind(&socket).expect("a socket"));
    let mut command = board.edged(&[]);
    command.env("EDGED_TEST_SYSTEMD", &socket);
    board.run(command);
}

/// A board as `get nodes` of a server prints it, and what its Node says.
fn node(cluster: &Cluster, server: &Board, name: &str) -> (String, Value) {
    let printed = cluster.ctl(server, &["get", "nodes", name, "--no-headers"]).stdout;
    let word = printed.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let node = cluster.ctl(server, &["get", "node", name, "-o", "json"]).stdout;
    (word, serde_json::from_str(&node).unwrap_or_default())
}

/// Waits until `get nodes` says this of the board, and its taints are these.
#[track_caller]
fn until_node(cluster: &Cluster, at: [&Board; 2], word: &str, taints: &[&str]) -> Value {
    let [server, board] = at;
    until(&format!("{} is {word} with {taints:?}", board.name), || {
        let (said, node) = node(cluster, server, &board.name);
        let list = node["spec"]["taints"].as_array().into_iter().flatten();
        let list: Vec<String> = list.map(|t| format!("{}:{}", t["key"], t["effect"])).collect();
        let list: Vec<String> = list.iter().map(|taint| taint.replace('"', "")).collect();
        (said == word && list == taints).then_some(node.clone()).ok_or(format!("{said} {node:#}"))
    })
}

/// Why a pod is not scheduled, or on which board it runs.
fn place(cluster: &Cluster, pod: &str) -> String {
    let pod = cluster.ctl(&cluster.boards[0], &["get", "pod", pod, "-o", "json"]).ok();
    let pod: Value = serde_json::from_str(&pod).expect("JSON");
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let why = conditions.into_iter().find(|c| c["type"] == "PodScheduled");
    match pod["spec"]["nodeName"].as_str() {
        Some(node) => format!("{} {}", pod["status"]["phase"].as_str().unwrap_or_default(), node),
        None => why.and_then(|c| c["reason"].as_str()).unwrap_or_default().to_owned(),
    }
}

const WEB: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: a1
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: \"edged/webserver:1\", imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
";
const LATE: &str = "apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  nodeSelector: {kubernetes.io/hostname: a1}
  tolerations: [{operator: Exists}]
  containers: [{name: c, image: \"edged/webserver:1\", imagePullPolicy: IfNotPresent}]
";

#[test]
fn a_board_that_is_switched_off_gets_no_traffic_and_no_pods_at_once() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let [server, agent] = &cluster.boards[..] else { panic!("two boards") };
    cluster.load_example();
    cluster.ctl(server, &["apply", "-f", &cluster.file("web.yaml", WEB)]).ok();
    until_served(&cluster, true);
    // Edged alone is stopped, as an upgrade does: nothing is known of a machine that goes off.
    assert_eq!(agent.stop(), 0);
    until_served(&cluster, true);
    assert_eq!(node(&cluster, server, "a1").0, "Ready");
    spawn_going_down(agent);
    cluster.wait_ready(server, &["s1", "a1"]);
    until_served(&cluster, true);
    let before = cluster.pods("web")[0]["metadata"]["uid"].clone();
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let begin = Instant::now();
    until_served(&cluster, false);
    let took = begin.elapsed();
    let gone = until_node(&cluster, [server, agent], "NotReady", &[NOT_READY]);
    let told = begin.elapsed();
    println!("no traffic after {} ms, not ready after {} ms", took.as_millis(), told.as_millis());
    assert!(took < MOST && told < MOST, "{took:?} {told:?}: {}", agent.log());
    let conditions = gone["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|c| c["type"] == "Ready").expect("Ready");
    assert_eq!(ready["reason"], "KubeletNotReady");
    assert_eq!(ready["message"], "node is shutting down");
    assert!(conditions.len() > 3, "the other conditions stay: {conditions:#?}");
    assert_eq!(agent.stop(), 0);
    // Not even a pod that tolerates everything goes there.
    cluster.ctl(server, &["apply", "-f", &cluster.file("late.yaml", LATE)]).ok();
    until("nothing is placed there", || match place(&cluster, "late").as_str() {
        "Unschedulable" => Ok(()),
        other => Err(other.to_owned()),
    });
    // It may be a restart: its pods are moved only later.
    let pods = cluster.pods("web");
    assert!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()), "{pods:#?}");
    assert_eq!(pods[0]["status"]["phase"], "Running");
    until("nobody counts on its pod", || {
        let pods = cluster.pods("web");
        let conditions = pods[0]["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|c| c["type"] == "Ready");
        let unready = ready.any(|c| c["status"] == "False");
        unready.then_some(()).ok_or_else(|| format!("{pods:#?}"))
    });
    agent.spawn();
    until_node(&cluster, [server, agent], "Ready", &[]);
    until_served(&cluster, true);
    until("the late pod runs", || match place(&cluster, "late").as_str() {
        "Running a1" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(cluster.pods("web")[0]["metadata"]["uid"], before, "it stayed");
}

#[test]
fn a_board_goes_off_soon_though_nobody_hears_that() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let [server, agent] = &cluster.boards[..] else { panic!("two boards") };
    let heard = || {
        let of = "jsonpath={.spec.renewTime}";
        let lease = ["get", "lease", "a1", "-n", "kube-node-lease", "-o", of];
        cluster.ctl(server, &lease).ok()
    };
    assert_eq!(agent.stop(), 0);
    for (how, mute) in [("hangs", Board::pause as fn(&Board)), ("is dead", Board::kill)] {
        server.resume();
        let before = heard();
        spawn_going_down(agent);
        // Once it beats, it has somebody to say it to.
        until("it beats", || (heard() > before).then_some(()).ok_or_else(|| agent.log()));
        mute(server);
        let begin = Instant::now();
        assert_eq!(agent.stop(), 0);
        let took = begin.elapsed();
        println!("the only server {how}: edged ended after {} ms", took.as_millis());
        assert!(took < MOST_HELD_UP, "{took:?}: {}", agent.log());
    }
}

#[test]
fn a_leader_that_is_switched_off_says_so() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    for board in &cluster.boards {
        assert_eq!(board.stop(), 0);
        spawn_going_down(board);
        cluster.wait_ready(board, &["s1", "s2", "s3"]);
    }
    let leader = cluster.wait_leader();
    let other = cluster.boards.iter().find(|board| board.name != leader.name).expect("another");
    leader.signal(nix::sys::signal::Signal::SIGTERM);
    let begin = Instant::now();
    until_node(&cluster, [other, leader], "NotReady", &[NOT_READY]);
    let told = begin.elapsed();
    println!("the leader {} is not ready after {} ms", leader.name, told.as_millis());
    assert!(told < MOST, "{told:?}: {}", leader.log());
    assert_eq!(leader.stop(), 0);
    leader.spawn();
    until_node(&cluster, [other, leader], "Ready", &[]);
}
