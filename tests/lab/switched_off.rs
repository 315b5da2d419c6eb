//! A board that is switched off in order: its pods are told nothing more before they are told to
//! end. A socket in systemd's place says that the machine stops.

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

fn spawn(board: &Board, systemd: &std::path::Path) {
    let mut command = board.edged(&[]);
    command.env("EDGED_TEST_SYSTEMD", systemd);
    board.run(command);
}

#[test]
fn a_board_that_is_switched_off_gets_no_traffic_at_once() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let [server, agent] = &cluster.boards[..] else { panic!("two boards") };
    cluster.load_example();
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec:\n  \
                nodeName: a1\n  terminationGracePeriodSeconds: 1\n  containers: [{name: c, image: \
                \"edged/webserver:1\", imagePullPolicy: IfNotPresent}]\n---\napiVersion: v1\nkind: \
                Service\nmetadata: {name: web}\n\
                spec: {selector: {app: web}, ports: [{port: 80}]}\n";
    let file = cluster.file("web.yaml", text);
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    until_served(&cluster, true);
    // Edged alone is stopped, as an upgrade does: nothing is known of a machine that goes off.
    assert_eq!(agent.stop(), 0);
    until_served(&cluster, true);
    let socket = agent.dir.join("systemd");
    manager(UnixListener::bind(&socket).expect("a socket"));
    spawn(agent, &socket);
    cluster.wait_ready(server, &["s1", "a1"]);
    until_served(&cluster, true);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let begin = Instant::now();
    until_served(&cluster, false);
    let took = begin.elapsed();
    println!("its pod got no traffic after {} ms", took.as_millis());
    assert!(took < MOST, "{took:?}: {}", agent.log());
    assert_eq!(agent.stop(), 0);
    // It may be a restart: its pods are moved only later.
    let pods = cluster.pods("web");
    assert!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()), "{pods:#?}");
}
