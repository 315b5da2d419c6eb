//! Upgrades on three boards under load: a Service is asked without pause at every board while each
//! gets a new edged, and while boards are brought programs that crash, hang, are never well, or
//! crash once they have passed. No request fails, and no pod is touched.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use edge_core::upgrade::{MOST_CRASHES, State};
use nix::sys::signal::Signal;

use super::Ended;
use super::board::Board;
use super::cluster::Cluster;
use super::traffic_places::Place;
use super::traffic_rolling::{Seen, load};
use crate::board::command::until;
use crate::board::machine::built;

const NODE_PORT: u16 = 30711;
/// Requests a second at each board.
const RATE: u32 = 100;
/// Seconds that a program which is never well is given.
const DEADLINE: &str = "8";

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady}
spec:
  replicas: 3
  selector: {matchLabels: {app: steady}}
  template:
    metadata:
      labels: {app: steady}
    spec:
      containers:
      - name: c
        image: edged/webserver:1
        imagePullPolicy: IfNotPresent
        readinessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {name: steady}
spec:
  type: NodePort
  selector: {app: steady}
  ports: [{port: 80, targetPort: 8080, nodePort: 30711}]
";

/// This very program, without what debuggers read; or the one of another commit that
/// `EDGED_UPGRADE_TO` names, which boards that run this one are to understand.
pub(crate) fn program() -> Vec<u8> {
    if let Some(other) = std::env::var_os("EDGED_UPGRADE_TO") {
        return std::fs::read(other).expect("EDGED_UPGRADE_TO is a program");
    }
    static LAST: AtomicU32 = AtomicU32::new(0);
    let (process, one) = (std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    let slim = std::env::temp_dir().join(format!("edged-slim-{process}-{one}"));
    let stripped = Command::new("strip").arg("-o").arg(&slim).arg(built("edged")).status();
    let from = if stripped.is_ok_and(|s| s.success()) { slim.clone() } else { built("edged") };
    let bytes = std::fs::read(from).expect("edged is built");
    let _ = std::fs::remove_file(slim);
    bytes
}

/// The places of `what` in a program.
pub(crate) fn places(file: &[u8], what: &[u8]) -> Vec<usize> {
    let first = |at: &usize| file[*at..].starts_with(what);
    let starts = file.iter().enumerate().filter(|(_, byte)| **byte == what[0]).map(|(at, _)| at);
    starts.filter(first).collect()
}

/// The same program, of another version.
pub(crate) fn versioned(file: &[u8], version: &str) -> Vec<u8> {
    let mark = edge_api::release::mark(version);
    let found = places(file, b"EDGED-VERSION:");
    assert_eq!(found.len(), 1, "one mark");
    let mut new = file.to_vec();
    new[found[0]..found[0] + mark.len()].copy_from_slice(&mark);
    new
}

/// The program with other machine code at the place where it begins.
fn beginning(mut file: Vec<u8>, code: &[u8]) -> Vec<u8> {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes"));
    let half = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let (entry, table) = (word(24), usize::try_from(word(32)).expect("an offset"));
    let (size, count) = (half(54), half(56));
    // The segment that the first instruction is loaded from: offset, address, length in the file.
    let segments = (0..count).map(|row| table + row * size);
    let (offset, address) = segments
        .map(|row| (word(row + 8), word(row + 16), word(row + 32)))
        .find(|(_, address, length)| (*address..address + length).contains(&entry))
        .map(|(offset, address, _)| (offset, address))
        .expect("a segment with the entry");
    let at = usize::try_from(entry - address + offset).expect("an offset");
    file[at..at + code.len()].copy_from_slice(code);
    file
}

/// What stops at once, and what never stops.
fn machine_code() -> (&'static [u8], &'static [u8]) {
    match std::env::consts::ARCH {
        "aarch64" => (&[0, 0, 0, 0], &[0, 0, 0, 0x14]),
        _ => (&[0x0f, 0x0b], &[0xeb, 0xfe]),
    }
}

/// Restarts whatever ends, as systemd does on a board.
fn restart(cluster: &Cluster, done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        for board in &cluster.boards {
            if board.pid().is_none() {
                board.kill();
                board.spawn();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs `edgectl upgrade` at the first board, for as long as it takes.
fn upgrade(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = cluster.person(built("edgectl"), &cluster.boards[0]);
    command.arg("upgrade").args(arguments).stdin(Stdio::null());
    command.output().expect("edgectl runs")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The pods, each with what would change if it were touched.
fn pods(cluster: &Cluster) -> Vec<String> {
    let mut pods: Vec<String> = cluster.pods("steady").iter().map(touched).collect();
    pods.sort();
    pods
}

fn touched(pod: &edge_api::Object) -> String {
    let status = &pod["status"]["containerStatuses"][0];
    let (uid, node) = (&pod["metadata"]["uid"], &pod["spec"]["nodeName"]);
    format!("{uid} {node} {} {}", status["restartCount"], status["containerID"])
}

/// What each board runs, as the Nodes say.
fn versions(cluster: &Cluster) -> Vec<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.status.nodeInfo.kubeletVersion} {end}";
    let told = cluster.ctl(&cluster.boards[0], &["get", "nodes", "-o", path]).ok();
    told.split_whitespace().map(|word| word.replace("v1.33.0+edged.", "")).collect()
}

#[test]
fn boards_are_upgraded_and_go_back_under_load() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    cluster.load_example();
    let file = cluster.file("steady.yaml", MANIFEST);
    cluster.ctl(&cluster.boards[0], &["apply", "-f", &file]).ok();
    let wait = ["rollout", "status", "deployment/steady", "--timeout=50s"];
    cluster.ctl(&cluster.boards[0], &wait).ok();
    assert_eq!(cluster.nodes_of("steady").len(), 3, "one on each board");
    until("the pods are reported", || {
        let told = pods(&cluster);
        let all = told.iter().all(|pod| !pod.contains("null"));
        all.then_some(()).ok_or_else(|| format!("{told:?}"))
    });
    let before = pods(&cluster);
    let place = Place::new("outside", cluster.person.path());
    let (done, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let (load_ends, all_ends) = (Ended(&done), Ended(&ended));
        scope.spawn(|| restart(&cluster, &ended));
        let clients: Vec<_> = cluster
            .boards
            .iter()
            .map(|board| SocketAddr::new(board.ip.into(), NODE_PORT))
            .map(|to| {
                scope.spawn({
                    let (place, done) = (&place, &done);
                    move || load(place, to, RATE, done)
                })
            })
            .collect();
        let file = program();
        refused(&cluster, &file);
        good(&cluster, &file);
        assert_eq!(pods(&cluster), before, "after the upgrade");
        broken(&cluster, &file);
        assert_eq!(pods(&cluster), before, "after the programs that were given up");
        restarted(&cluster);
        crashing(&cluster, &file);
        assert_eq!(pods(&cluster), before, "after the program that crashed later");
        drop(load_ends);
        let seen = clients.into_iter().map(|seen| seen.join().expect("no panic")).collect();
        drop(all_ends);
        seen
    });
    for (board, seen) in cluster.boards.iter().zip(&seen) {
        let count: u32 = seen.servers.values().sum();
        let (slowest, failed) = (seen.slowest, seen.failed.len());
        println!("{}: {count} requests, slowest {slowest:?}, {failed} failed", board.name);
    }
    let failed: Vec<_> = seen.iter().flat_map(|seen| &seen.failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// What is no upgrade is one line, and changes nothing.
fn refused(cluster: &Cluster, file: &[u8]) {
    let new = versioned(file, "0.2.0");
    let good = cluster.file("edged-0.2.0", &new);
    let cut = cluster.file("edged-cut", &new[..new.len() / 2]);
    let mut other = new.clone();
    other[18] = if other[18] == 62 { 183 } else { 62 };
    let other = cluster.file("edged-other", &other);
    let far = cluster.file("edged-far", versioned(file, "0.3.0"));
    let text = cluster.file("edged-text", "#!/bin/sh\n");
    for (path, allowed, word) in [
        (&good, false, "no upgrade-keys"),
        (&cut, true, "is cut off"),
        (&other, true, "give a --file for it"),
        (&far, true, "too new"),
        (&text, true, "no program"),
    ] {
        let mut arguments = vec!["--file", path];
        arguments.extend(allowed.then_some("--allow-unsigned"));
        let output = upgrade(cluster, &arguments);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(word), "{word}: {said}");
    }
    assert_eq!(versions(cluster), ["s1=0.1.0", "s2=0.1.0", "s3=0.1.0"]);
}

/// All boards get a new one.
fn good(cluster: &Cluster, file: &[u8]) {
    let new = cluster.file("edged-0.2.0", versioned(file, "0.2.0"));
    let arguments = ["--file", &new, "--allow-unsigned", "--settle", "2"];
    let plan = said(&upgrade(cluster, &[&arguments[..], &["--dry-run"]].concat()));
    assert_eq!(plan.lines().filter(|line| line.contains("dry run")).count(), 3, "{plan}");
    let begin = Instant::now();
    let output = upgrade(cluster, &arguments);
    let words = said(&output);
    println!("{words}three boards in {:?}", begin.elapsed());
    assert!(output.status.success(), "{words}");
    assert_eq!(versions(cluster), ["s1=0.2.0", "s2=0.2.0", "s3=0.2.0"]);
    let again = said(&upgrade(cluster, &arguments));
    assert!(again.contains("every board runs edged 0.2.0 already"), "{again}");
}

/// Each board gets another kind of bad one, and goes back by itself.
fn broken(cluster: &Cluster, file: &[u8]) {
    let (stops, hangs) = machine_code();
    let unwell = || {
        let mut file = versioned(file, "0.2.3");
        let asked = places(&file, b"/api/v1/nodes/");
        assert!(!asked.is_empty(), "where a board looks whether it is well");
        for at in asked {
            file[at..at + 14].copy_from_slice(b"/api/v1/nodez/");
        }
        file
    };
    for (board, version, program, word) in [
        ("s2", "0.2.1", beginning(versioned(file, "0.2.1"), stops), "ended 3 times"),
        ("s3", "0.2.2", beginning(versioned(file, "0.2.2"), hangs), "not healthy within 8 s"),
        ("s1", "0.2.3", unwell(), "not healthy within 8 s"),
    ] {
        let path = cluster.file(&format!("edged-{version}"), program);
        let begin = Instant::now();
        let arguments =
            ["--file", &path, "--allow-unsigned", "--node", board, "--deadline", DEADLINE];
        let output = upgrade(cluster, &arguments);
        let words = said(&output);
        println!("{words}given up after {:?}", begin.elapsed());
        assert!(!output.status.success(), "{words}");
        let told = words.contains(word) && words.contains("0.2.0 runs again");
        assert!(told, "{words}");
        until("the board is back with what it ran before", || {
            let now = versions(cluster);
            let back = now == ["s1=0.2.0", "s2=0.2.0", "s3=0.2.0"];
            back.then_some(()).ok_or_else(|| format!("{now:?}"))
        });
        let shown = said(&upgrade(cluster, &["--node", board]));
        assert!(shown.contains("was given up") && shown.contains(word), "{shown}");
    }
}

/// What a board keeps of its programs.
fn state(board: &Board) -> State {
    let file = board.dir.join("data/upgrade/state.json");
    State::read(&std::fs::read(file).unwrap_or_default()).unwrap_or_default()
}

/// A person restarts a board that has passed its trial a moment ago, again and again: it stays.
fn restarted(cluster: &Cluster) {
    let board = &cluster.boards[2];
    let (mut pid, mut last) = (board.pid(), state(board).watch.expect("it passed just now").life);
    for _ in 0..3 {
        board.signal(Signal::SIGTERM);
        until("the board is watched as another process", || {
            let life = state(board).watch.and_then(|watch| watch.life);
            let runs = board.pid().filter(|now| Some(*now) != pid).is_some();
            let other = runs && life.is_some() && life != last;
            other.then_some(()).ok_or_else(|| format!("{life:?}"))?;
            (pid, last) = (board.pid(), life);
            Ok(())
        });
        until("it is Ready", || {
            let ready = cluster.ctl(&cluster.boards[2], &["get", "nodes"]);
            (ready.status == 0).then_some(()).ok_or(ready.stderr)
        });
    }
    assert_eq!(state(board).watch.map(|watch| watch.crashes), Some(0));
    assert_eq!(versions(cluster), ["s1=0.2.0", "s2=0.2.0", "s3=0.2.0"]);
}

/// A board passes its trial with a program that then crashes, and crashes: it goes back, and the
/// roll that is still on tells of it.
fn crashing(cluster: &Cluster, file: &[u8]) {
    let board = &cluster.boards[1];
    let path = cluster.file("edged-0.2.4", versioned(file, "0.2.4"));
    let arguments = ["--file", &path, "--allow-unsigned", "--node", "s2", "--settle", "30"];
    let begin = Instant::now();
    let output = std::thread::scope(|scope| {
        let rolls = scope.spawn(|| upgrade(cluster, &arguments));
        for crashes in 0..MOST_CRASHES {
            until("the board runs what has passed", || {
                let state = state(board);
                let runs = state.current.and_then(|slot| state.slot(slot));
                let new = runs.is_some_and(|program| program.version.to_string() == "0.2.4");
                let watched = state.watch.as_ref().is_some_and(|watch| watch.crashes == crashes);
                (new && watched).then_some(()).ok_or_else(|| format!("{state:?}"))
            });
            board.signal(Signal::SIGKILL);
        }
        rolls.join().expect("no panic")
    });
    let words = said(&output);
    println!("{words}gone back after {:?}", begin.elapsed());
    let why = "edged 0.2.4 was given up, 0.2.0 runs again: it passed its trial, and then crashed";
    assert!(!output.status.success() && words.contains(why), "{words}");
    assert_eq!(state(board).watch, None, "from what ran before nothing leads back");
    let shown = said(&upgrade(cluster, &["--node", "s2"]));
    assert!(shown.contains("0.2.4 was given up: it passed"), "{shown}");
}
