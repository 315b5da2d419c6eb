//! Traffic between boards: from every pod, every board and a host beside them, to pods, Services
//! and names wherever they are, by TCP and UDP; while agents are away, without the leader, after a
//! board's address has changed, and while a board dies under load.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Instant;

use super::traffic_places::{PORT, Place, Transport, ask};
use super::traffic_ways::{OUTSIDE, STICKY_PORT, THREE_PORT, Traffic};
use crate::board::command::until;

/// Connections that have to spread evenly, and how unevenly they may at most: chi-squared with
/// two degrees of freedom is above this once in a thousand runs.
const CONNECTIONS: usize = 3000;
const UNEVEN: f64 = 13.8;
/// The board that is asked for pods on others; those of three boards are among them.
const ASKED: usize = 0;
/// A board that has one of them, and no server.
const VICTIM: usize = 3;

#[test]
fn everybody_reaches_everything_on_every_board() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let begin = Instant::now();
    let mut traffic = Traffic::start();
    let started = begin.elapsed();
    let first = traffic.settle("at first");
    let count = traffic.matrix().expect("again");
    // Every table is shown, with all that is in it.
    for board in &traffic.cluster.boards {
        let rules = board.shell("nft list ruleset");
        assert!(rules.contains("table ip edged {") && rules.contains("@services"), "{rules}");
    }
    println!("{count} ways; cluster {started:?}, then settled in {first:?}");

    // While agents are away, and while they start, nothing changes for anybody.
    traffic.cluster.boards[2].kill();
    traffic.cluster.boards[3].kill();
    traffic.matrix().expect("without two of the agents");
    traffic.cluster.boards[2].spawn();
    traffic.cluster.boards[3].spawn();
    for _ in 0..4 {
        traffic.by_address().expect("while they start again");
    }
    let started = traffic.settle("after two agents have started again");
    println!("two agents started again: names settled in another {started:?}");

    lead_anew(&traffic);

    traffic.move_board(VICTIM, Ipv4Addr::new(192, 168, 78, 112));
    let moved = traffic.settle("after a board's address has changed");
    println!("another address: settled in {moved:?}");

    traffic.flap(2);
    let flapped = traffic.settle("after a link flapped");
    println!("a link that flapped: settled in {flapped:?}");

    spread(&traffic);
    stick(&traffic);
    leave(&traffic);
    println!("all of it took {:?}", begin.elapsed());
}

/// The leader is killed: nobody notices, and the next one goes on with Services and their names.
fn lead_anew(traffic: &Traffic) {
    let cluster = &traffic.cluster;
    let leader = cluster.wait_leader();
    leader.kill();
    traffic.matrix().expect("without the leader");
    let other = cluster.servers().find(|server| server.name != leader.name).expect("servers");
    let file = cluster.file(
        "late.yaml",
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: late}}\nspec:\n  selector: {{app: \
             traffic}}\n  clusterIP: None\n  ports: [{{port: {PORT}}}]\n"
        ),
    );
    until("the next leader takes a Service", || {
        let outcome = cluster.ctl(other, &["apply", "-f", &file]);
        if outcome.status == 0 { Ok(()) } else { Err(outcome.stderr) }
    });
    let begin = Instant::now();
    let home = cluster.boards.iter().position(|board| board.name != leader.name);
    let place = traffic.pods[home.expect("another board")].place.clone();
    until("a Service that the next leader made has its pods", || {
        let place = place.clone();
        let asked = std::thread::spawn(move || {
            place.enter();
            super::lookup::addresses(Transport::Udp, "late.default.svc.cluster.local")
        });
        let found = asked.join().expect("no panic")?;
        // The leader's own board counts as lost, and its pod with it.
        if found.len() == 3 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    println!("a new Service after the leader's end: found after {:?}", begin.elapsed());
    leader.spawn();
    let settled = traffic.settle("after the leader's end");
    println!("the leader started again: settled in {settled:?}");
}

/// Three replicas, and a client that asks the board that has none of them.
fn spread(traffic: &Traffic) {
    let to = SocketAddr::new(traffic.addresses[ASKED].into(), THREE_PORT);
    let counts = Mutex::new(BTreeMap::<String, usize>::new());
    let outside = Place::new(OUTSIDE, traffic.cluster.person.path());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                outside.enter();
                for _ in 0..CONNECTIONS / 6 {
                    let answer = ask(Transport::Tcp, to).expect("an answer");
                    *counts.lock().expect("counts").entry(answer.server).or_default() += 1;
                }
            });
        }
    });
    let counts = counts.into_inner().expect("counts");
    let expected = CONNECTIONS as f64 / 3.0;
    let chi: f64 = counts.values().map(|n| (*n as f64 - expected).powi(2) / expected).sum();
    println!("{CONNECTIONS} connections in {:?}: {counts:?}, chi {chi:.2}", begin.elapsed());
    assert!(counts.len() == 3 && chi < UNEVEN, "{counts:?}: chi-squared {chi:.1}");
}

/// Whoever asks, at whichever board, is sent to the same pod each time.
fn stick(traffic: &Traffic) {
    let outside = Place::new(OUTSIDE, traffic.cluster.person.path());
    for place in [outside, traffic.pods[1].place.clone()] {
        let to = SocketAddr::new(traffic.addresses[ASKED].into(), STICKY_PORT);
        let asked = std::thread::spawn(move || {
            place.enter();
            let answers = (0..30).map(|_| ask(Transport::Tcp, to).expect("an answer").server);
            answers.collect::<std::collections::BTreeSet<_>>()
        });
        let servers = asked.join().expect("no panic");
        assert_eq!(servers.len(), 1, "{servers:?}");
    }
}

/// A board that is removed for good loses its route, and nobody else does.
fn leave(traffic: &Traffic) {
    let (first, gone) = (&traffic.cluster.boards[ASKED], &traffic.cluster.boards[VICTIM]);
    let routes = || first.shell("ip route show proto 237");
    assert_eq!(routes().lines().count(), 3, "{}", routes());
    // As long as it lives it would come back.
    gone.pull_cable();
    traffic.cluster.ctl(first, &["delete", "node", &gone.name]).ok();
    let address = traffic.addresses[VICTIM].to_string();
    until("the route to a removed board goes", || {
        let left = routes();
        let right = left.lines().count() == 2 && !left.contains(&address);
        right.then_some(()).ok_or(left)
    });
}
