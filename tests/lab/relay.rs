//! A push to every board at once: each link carries the archive once, and only the API server may
//! have boards take it.

use std::time::{Duration, Instant};

use super::board::Board;
use super::cargo;
use super::cluster::Cluster;
use crate::board::command::{run, until};

/// Bytes of the image; three layers of noise.
const BYTES: usize = 50_000_000;

/// Bytes a second of each link while a chain is broken: 100 Mbit/s.
const RATE: u64 = 12_500_000;

/// What curl says of a port that wants a certificate.
const NO_HANDSHAKE: &str = "000";

/// The code that a board's agent answers another's certificate with, or nobody's.
fn code(from: &Board, to: &Board, secured: bool, method: &str, path: &str) -> String {
    let mut curl = from.inside("curl");
    let url = format!("https://{}:10250{path}", to.ip);
    curl.args(["-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, &url]);
    if secured {
        let pki = from.dir.join("data/pki");
        curl.arg("--cert").arg(pki.join("node.crt")).arg("--key").arg(pki.join("board.key"));
    }
    run(curl).stdout
}

#[test]
fn a_push_to_all_boards_passes_each_link_once() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::start(1, 2);
    let [first, second, third] = &lab.boards[..] else { unreachable!("three boards") };
    let archive = lab.dir.join("heavy.tar");
    cargo::archive(&archive, BYTES, 1);
    let archive = archive.display().to_string();
    let before = lab.crossed();
    let told = lab.ctl(first, &["image", "push", &archive, "--everywhere"]).ok();
    let crossed: Vec<_> =
        lab.crossed().iter().zip(before).map(|(now, old)| (now.0, now.1 - old.1)).collect();
    for (from, node) in [(first, second), (second, third)] {
        let has = format!("node/{} has {} (", node.name, cargo::NAME);
        let along = format!("read along with node/{})", from.name);
        let line = told.lines().find(|line| line.starts_with(&has));
        assert!(line.is_some_and(|line| line.ends_with(&along)), "{told}");
    }
    let images = |from: usize, to: usize| {
        let bytes = crossed.iter().find(|(link, _)| *link == (from, to)).map_or(0, |l| l.1);
        bytes as f64 / BYTES as f64
    };
    for (from, to, times) in [
        (first.port, second.port, 1.0),
        (second.port, third.port, 1.0),
        (first.port, third.port, 0.0),
        (third.port, second.port, 0.0),
    ] {
        let images = images(from, to);
        assert!((images - times).abs() < 0.1, "{from} to {to}: {images} images, not {times}");
    }
    let listed = lab.ctl(first, &["image", "list"]).ok();
    for board in &lab.boards {
        let here = |line: &str| line.starts_with(&board.name) && line.contains("heavy:1");
        assert!(listed.lines().any(here), "{}: {listed}", board.name);
        let ingest = board.dir.join("data/images/ingest");
        assert_eq!(std::fs::read_dir(ingest).map_or(0, Iterator::count), 0, "{}", board.name);
    }
    // What every board has travels no more.
    let again = lab.ctl(first, &["image", "push", &archive, "--everywhere"]).ok();
    assert!(again.lines().all(|line| !line.contains("read along")), "{again}");

    let id = "0123456789abcdef0123456789abcdef";
    let (load, push) = (format!("/images/load?push={id}&follower=1"), format!("/images/push/{id}"));
    let follow = format!("/images/follow?push={id}&from={}", first.name);
    for path in [&load, &follow] {
        assert_eq!(code(third, second, true, "POST", path), "403", "{path}");
        assert_eq!(code(third, second, false, "POST", path), NO_HANDSHAKE, "{path}");
    }
    assert_eq!(code(third, second, false, "GET", &push), NO_HANDSHAKE);
    // A board may, but there is no such push.
    assert_eq!(code(third, second, true, "GET", &push), "404");
    assert_eq!(code(third, second, true, "GET", "/images/push/x"), "400");
    let mut proxied = third.inside("curl");
    let pki = third.dir.join("data/pki");
    proxied.args(["-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"]);
    proxied.arg("--cert").arg(pki.join("node.crt")).arg("--key").arg(pki.join("board.key"));
    let api = format!("https://{}:6443/api/v1/nodes/{}/proxy", first.ip, second.name);
    proxied.arg(format!("{api}{follow}"));
    assert_eq!(run(proxied).stdout, "403");
    is_refused_once_revoked(&lab, first, second, third);
}

/// A board whose key is revoked is refused by the agents of the others within two seconds: of a
/// board, and of the one beside a server.
fn is_refused_once_revoked(lab: &Cluster, server: &Board, other: &Board, thief: &Board) {
    let push = "/images/push/0123456789abcdef0123456789abcdef";
    for agent in [server, other] {
        assert_eq!(code(thief, agent, true, "GET", push), "404", "{}", agent.name);
    }
    lab.ctl(server, &["node", "revoke", &thief.name]).ok();
    let begin = Instant::now();
    for agent in [server, other] {
        until("its certificate is refused", || {
            let code = code(thief, agent, true, "GET", push);
            (code == "401").then_some(()).ok_or(code)
        });
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "after {:?}", begin.elapsed());
    assert_eq!(code(other, server, true, "GET", push), "404", "others stay trusted");
}

#[test]
fn a_chain_that_breaks_costs_time_and_never_the_image() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let lab = Cluster::start(1, 2);
    let [first, second, third] = &lab.boards[..] else { unreachable!("three boards") };
    let archive = lab.dir.join("heavy.tar");
    cargo::archive(&archive, BYTES, 2);
    let archive = archive.display().to_string();
    for port in 0..lab.fabric.ports() {
        lab.fabric.set_all_of(port, |weather| weather.rate = Some(RATE));
    }
    let push = ["image", "push", &archive, "--everywhere"];
    let outcome = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| lab.ctl(first, &push));
        let begin = Instant::now();
        let before = lab.fabric.count(second.port, third.port).bytes;
        while lab.fabric.count(second.port, third.port).bytes - before < BYTES as u64 / 5 {
            assert!(begin.elapsed() < Duration::from_secs(20), "nothing is handed on");
            std::thread::sleep(Duration::from_millis(20));
        }
        second.kill();
        pushing.join().expect("edgectl ran")
    });
    // The board that is down is named, and no other suffers.
    assert!(outcome.status != 0 && outcome.stderr.contains(&second.name), "{outcome:?}");
    assert!(!outcome.stderr.contains(&third.name), "{outcome:?}");
    let has = format!("node/{} has {} (afterwards: ", third.name, cargo::NAME);
    assert!(outcome.stdout.contains(&has), "{outcome:?}");
    second.spawn();
    until("the killed board answers again", || {
        let outcome = lab.ctl(first, &["image", "list", "--node", &second.name]);
        (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
    });
    lab.wait_ready(first, &[&second.name]);
    lab.ctl(first, &push).ok();
    let listed = lab.ctl(first, &["image", "list"]).ok();
    for board in &lab.boards {
        let here = |line: &str| line.starts_with(&board.name) && line.contains("heavy:1");
        assert!(listed.lines().any(here), "{}: {listed}", board.name);
        let ingest = board.dir.join("data/images/ingest");
        assert_eq!(std::fs::read_dir(ingest).map_or(0, Iterator::count), 0, "{}", board.name);
    }
}
