//! Boards that die under load: how long new connections are still sent there. A pulled cable and a
//! cut of the power in turn, each also after the board had stalled once. `EDGED_LAB_DEATHS` is how
//! often, for somebody with time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::traffic_loss::{Pace, last_failure, late, under_load};
use super::traffic_places::Place;
use super::traffic_ways::{NODE_PORTS, OUTSIDE, THREE_PORT, Traffic};

/// Deaths that CI can afford.
const DEATHS: usize = 3;
/// This long after a board's death some new connections may still be sent there.
const SOON: Duration = Duration::from_millis(1500);
/// How long a board hangs that stalls: with what is left to the next beat, a WiFi's nap.
const STALL: Duration = Duration::from_millis(900);
/// The board without a server.
const AGENT: usize = 3;
/// 100 connections a second, for half a second before and 2.5 s after.
const PACE: Pace = Pace { count: 300, before: 50, every: Duration::from_millis(10) };

fn deaths() -> usize {
    let named = std::env::var("EDGED_LAB_DEATHS").ok();
    named.map_or(DEATHS, |text| text.parse().expect("EDGED_LAB_DEATHS is a number"))
}

/// A death: of which board, while which one is asked.
#[derive(Clone, Copy, Debug)]
struct Death {
    victim: usize,
    asked: usize,
    port: u16,
    cable: bool,
    stalled: bool,
}

/// Some death; how long after it the last connection began that came to nothing.
fn die(traffic: &mut Traffic, death: Death) -> Duration {
    let Death { victim: dying, asked, port, cable, stalled } = death;
    let to = SocketAddr::new(traffic.addresses[asked].into(), port);
    let outside = Place::new(OUTSIDE, traffic.cluster.person.path());
    let victim = &traffic.cluster.boards[dying];
    if stalled {
        victim.pause();
        std::thread::sleep(STALL);
        victim.resume();
        // It is heard again, and the stall is not forgotten.
        std::thread::sleep(2 * STALL);
    }
    traffic.settle("before a board dies");
    let victim = &traffic.cluster.boards[dying];
    let all = under_load(&outside, to, PACE, || {
        if cable { victim.pull_cable() } else { victim.power_cut() }
    });
    let early = all.iter().find(|one| one.before && one.answer.is_err());
    assert!(early.is_none(), "failed before: {early:?}");
    // None at all, when every lost first packet was sent again to a board that lives.
    let last = last_failure(&all).unwrap_or_default();
    let how = if cable { "cable" } else { "power" };
    let stall = if stalled { " after a stall" } else { "" };
    let name = &victim.name;
    println!("{name}: {how}{stall}: the last failed {last:?} after; late: {:?}", late(&all));
    if last > SOON {
        for one in all.iter().filter(|one| one.at > SOON / 2 && !one.before) {
            if let Err(why) = &one.answer {
                println!("  began {:?} after, failed in {:?}: {why}", one.at, one.took);
            }
        }
        // What the asked board still remembers of connections to the dead one.
        let known = traffic.cluster.boards[asked].shell("cat /proc/net/nf_conntrack");
        let dead = format!("src={} ", traffic.pods[dying].ip);
        known.lines().filter(|line| line.contains(&dead)).for_each(|line| println!("  {line}"));
    }
    if cable {
        victim.mend_cable();
        // With a new session nothing is known of the link any more.
        victim.kill();
        victim.spawn();
    } else {
        victim.power_on();
        victim.spawn();
        traffic.revive(dying);
    }
    last
}

/// Which board leads.
fn leading(traffic: &Traffic) -> usize {
    let name = traffic.cluster.wait_leader().name.clone();
    let at = traffic.cluster.boards.iter().position(|board| board.name == name);
    at.expect("a leader is a board")
}

#[test]
fn a_dead_board_is_left_soon() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let begin = Instant::now();
    let mut traffic = Traffic::start();
    let mut all = Vec::new();
    for n in 0..deaths() {
        let (cable, stalled) = (n % 2 == 0, n % 4 >= 2);
        let death = Death { victim: AGENT, asked: 0, port: THREE_PORT, cable, stalled };
        all.push((die(&mut traffic, death), cable, stalled));
    }
    for (cable, stalled) in [(true, false), (false, false), (true, true), (false, true)] {
        let these = all.iter().filter(|(_, c, s)| (*c, *s) == (cable, stalled));
        let mut these: Vec<Duration> = these.map(|(last, _, _)| *last).collect();
        these.sort();
        if let (Some(middle), Some(worst)) = (these.get(these.len() / 2), these.last()) {
            let n = these.len();
            println!("cable {cable}, stalled {stalled}: p50 {middle:?}, worst {worst:?}, n {n}");
        }
    }
    // Nobody is left who could tell the others, until there is a new leader.
    for cable in [true, false] {
        let (victim, asked, port) = (leading(&traffic), AGENT, NODE_PORTS[0].1);
        let death = Death { victim, asked, port, cable, stalled: false };
        all.push((die(&mut traffic, death), cable, false));
    }
    println!("all of it took {:?}", begin.elapsed());
    let late: Vec<_> = all.iter().filter(|(last, _, stalled)| !stalled && *last > SOON).collect();
    assert!(late.is_empty(), "still sent to a dead board: {late:?} of {all:?}");
    // A stall is not taken for a death: as long as the longest that was seen, and a little more.
    let most = SOON + STALL / 3;
    assert!(all.iter().all(|(last, _, _)| *last < most), "{all:?}");
}
