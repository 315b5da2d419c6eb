//! Which paths are tried, what answers mean, and what is said about those that fail, as tables.

use super::board::{Board, Dns, Facts, Sandbox};
use super::explain::{Known, explain};
use super::judge::{judge, settle};
use super::plan::{Check, Front, Outcome, Path, Scene, plan};
use super::report;
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Board `n`: its pods are 10.42.n.0/24, its address 192.0.2.n; it knows the way to 1, 2 and 3.
fn board(n: u8) -> Board {
    let mut routes: Vec<(String, Option<Ipv4Addr>)> = (1..=3)
        .filter(|other| *other != n)
        .map(|other| (format!("10.42.{other}.0/24"), Some(ip(&format!("192.0.2.{other}")))))
        .collect();
    routes.push(("0.0.0.0/0".to_owned(), Some(ip("192.0.2.254"))));
    let listens = if n == 1 { vec![6443, 8883, 10250] } else { vec![10250] };
    Board {
        name: format!("b{n}"),
        address: Some(ip(&format!("192.0.2.{n}"))),
        pods: format!("10.42.{n}.0/24"),
        not_ready: None,
        facts: Ok(Facts {
            mtu: 1500,
            forwarding: Some(true),
            routes,
            listens,
            dns: Some(Dns {
                server: Some(ip("10.43.0.10")),
                domain: "cluster.local".to_owned(),
                upstreams: vec![ip("192.0.2.53")],
                port: 53,
            }),
            ..Facts::default()
        }),
        sandbox: Ok(Sandbox {
            uid: format!("net-check-{n}"),
            address: ip(&format!("10.42.{n}.9")),
            port: 7007,
        }),
    }
}

fn facts(board: &mut Board) -> &mut Facts {
    board.facts.as_mut().unwrap()
}

fn front() -> Front {
    Front {
        name: "net-check-x".to_owned(),
        namespace: "kube-system".to_owned(),
        address: Some(ip("10.43.9.9")),
        port: 20007,
        node_port: Some(30007),
        balancers: vec![ip("192.0.2.1")],
        headless: "net-check-x-headless".to_owned(),
    }
}

fn planned(boards: &[Board], only: Option<&str>, front: Result<&Front, &str>) -> Vec<Check> {
    let timeout = Duration::from_secs(5);
    plan(&Scene { boards, only, front, timeout, strange: "x.example.com" })
}

fn names(checks: &[Check]) -> Vec<&str> {
    checks.iter().map(|check| check.name.as_str()).collect()
}

#[test]
fn every_path_is_there_once() {
    let boards = [board(1), board(2)];
    let front = front();
    let checks = planned(&boards, None, Ok(&front));
    assert_eq!(
        names(&checks),
        [
            "server -> agent of b1",
            "server -> agent of b2",
            "clock of b1",
            "clock of b2",
            "b1 -> b2 port 10250",
            "b2 -> b1 port 10250",
            "b2 -> b1 port 6443",
            "b2 -> b1 port 8883",
            "pod on b1 -> pod on b1",
            "pod on b1 -> pod on b1, packets of 1500",
            "pod on b1 -> pod on b2",
            "pod on b1 -> pod on b2, packets of 1500",
            "pod on b2 -> pod on b1",
            "pod on b2 -> pod on b1, packets of 1500",
            "pod on b2 -> pod on b2",
            "pod on b2 -> pod on b2, packets of 1500",
            "pod on b1 -> service",
            "board b1 -> service",
            "pod on b2 -> service",
            "board b2 -> service",
            "b1 -> node port of b2",
            "b2 -> node port of b1",
            "pod on b1: kubernetes.default",
            "pod on b1: a service",
            "pod on b1: a headless service",
            "pod on b1: a name from outside",
            "pod on b2: kubernetes.default",
            "pod on b2: a service",
            "pod on b2: a headless service",
            "pod on b2: a name from outside",
            "pod on b1 -> outside",
            "board b1 -> outside",
            "pod on b2 -> outside",
            "board b2 -> outside",
            "this computer -> node port of b1",
            "this computer -> node port of b2",
            "this computer -> load balancer at 192.0.2.1",
        ]
    );
    let full = checks.iter().find(|check| check.path == Path::Full(1500)).unwrap();
    assert_eq!(full.probes[0]["bytes"], 1472, "the payload of a packet of 1500 bytes");
    let headless = checks.iter().find(|check| check.name.contains("headless")).unwrap();
    assert_eq!(headless.probes[0]["name"], "net-check-x-headless.kube-system.svc.cluster.local");
    assert_eq!(headless.probes[0]["want"], json!(["10.42.1.9", "10.42.2.9"]));
    let from = planned(&boards, Some("b2"), Ok(&front));
    assert!(from.iter().all(|check| check.from.as_deref() == Some("b2")), "{:?}", names(&from));
}

#[test]
fn what_can_not_be_tried_says_why() {
    let mut boards = [board(1), board(2), board(3)];
    facts(&mut boards[0]).routes.clear();
    facts(&mut boards[0]).dns.as_mut().unwrap().upstreams.clear();
    boards[1].sandbox = Err("no address left".to_owned());
    boards[2].facts = Err("no answer in time".to_owned());
    boards[2].sandbox = Err("its agent can't be asked".to_owned());
    let checks = planned(&boards, None, Err("no Service"));
    let told = |name: &str| {
        let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| {
            panic!("{name} in {:?}", names(&checks));
        });
        match &check.known {
            Some(Outcome::Skipped(why)) => format!("skipped: {why}"),
            Some(Outcome::Failed(_, why)) => format!("failed: {why}"),
            other => format!("{other:?}"),
        }
    };
    for (name, wanted) in [
        ("pod on b1 -> outside", "skipped: the board has no default route: nothing is outside"),
        ("pod on b1: a name from outside", "skipped: the board's resolv.conf names nobody to ask"),
        ("pod on b1 -> pod on b2", "skipped: board b2 has nothing to try with: no address left"),
        ("board b1 -> service", "skipped: no Service"),
        ("server -> agent of b3", "failed: no answer in time"),
        ("b1 -> b3 port 10250", "None"),
    ] {
        assert_eq!(told(name), wanted, "{name}");
    }
    assert!(!names(&checks).iter().any(|name| name.starts_with("b3")));
}

#[test]
fn answers_are_judged() {
    let boards = [board(1), board(2)];
    let front = front();
    let checks = planned(&boards, None, Ok(&front));
    let judged = |name: &str, answers: &[serde_json::Value]| {
        let check = checks.iter().find(|check| check.name == name).unwrap();
        judge(check, answers)
    };
    let ok = |by: &str, ms: f64| json!({"ok": true, "by": by, "ms": ms});
    let late = json!({"ok": false, "code": "timeout", "error": "no answer in time"});
    let refused = json!({"ok": false, "code": "refused", "error": "refused"});
    let failed = |code: &str, words: &str| Outcome::Failed(code.to_owned(), words.to_owned());
    let pod = "pod on b1 -> pod on b2";
    assert_eq!(judged(pod, &[ok("b2", 1.0), ok("b2", 2.0)]), Outcome::Passed(2.0));
    assert_eq!(judged(pod, &[ok("b2", 1.0), late.clone()]), failed("timeout", "no answer in time"));
    assert_eq!(
        judged(pod, &[ok("b2", 1.0), ok("b1", 2.0)]),
        failed("wrong", "b1 answered instead")
    );
    assert!(matches!(judged(pod, &[]), Outcome::Failed(..)));
    // A router that refuses has been reached.
    let outside = "pod on b1 -> outside";
    assert_eq!(judged(outside, &[refused, late.clone()]), Outcome::Passed(0.0));
    assert_eq!(judged(outside, &[late.clone(), late]), failed("timeout", "no answer in time"));
    let headless = "pod on b1: a headless service";
    let answer = |list: &[&str]| json!({"ok": true, "ms": 1.0, "addresses": list});
    assert_eq!(judged(headless, &[answer(&["10.42.2.9", "10.42.1.9"])]), Outcome::Passed(1.0));
    assert_eq!(
        judged(headless, &[answer(&["10.42.2.9"])]),
        failed("wrong", "the name stands for 10.42.2.9, not 10.42.1.9, 10.42.2.9")
    );
    assert_eq!(
        judged("pod on b1: kubernetes.default", &[answer(&[])]),
        failed("wrong", "the name is not known")
    );
}

/// What is said about the first of the failing paths, when these (by the beginnings of their names)
/// fail with these codes and all others work.
fn said(boards: &[Board], fails: &[(&str, &str)]) -> String {
    let front = front();
    let mut results: Vec<(Check, Outcome)> = planned(boards, None, Ok(&front))
        .into_iter()
        .map(|check| {
            let fails = fails.iter().find(|(name, _)| check.name.starts_with(name));
            let outcome = match (&check.known, fails) {
                (Some(known), _) => known.clone(),
                (None, Some((_, code))) => Outcome::Failed((*code).to_owned(), format!("({code})")),
                (None, None) => Outcome::Passed(1.0),
            };
            (check, outcome)
        })
        .collect();
    settle(&mut results, true);
    let first = fails.first().map_or("", |(name, _)| name);
    let (check, outcome) = results.iter().find(|(check, _)| check.name.starts_with(first)).unwrap();
    let Outcome::Failed(code, error) = outcome else { return format!("{outcome:?}") };
    explain(&Known { boards, results: &results }, check, code, error)
}

/// Beginnings of the names of failing paths, with their codes.
type Fails = &'static [(&'static str, &'static str)];
const PODS: Fails = &[("pod on b1 -> pod on b2", "timeout")];

/// What it is about, which paths fail, what is different about the boards, and what is said.
type Case = (&'static str, Fails, fn(&mut [Board]), &'static str);
const CASES: &[Case] = &[
    (
        "no route",
        PODS,
        |b| facts(&mut b[0]).routes.retain(|(to, _)| to != "10.42.2.0/24"),
        "board b1 has no route to the pods of b2 (10.42.2.0/24 via 192.0.2.2)",
    ),
    (
        "no way back",
        PODS,
        |b| facts(&mut b[1]).routes.clear(),
        "board b2 has no route to the pods of b1 (10.42.1.0/24 via 192.0.2.1)",
    ),
    (
        "a stolen route",
        PODS,
        |b| facts(&mut b[0]).routes[0].1 = Some(ip("192.0.2.99")),
        "board b1 sends what is for the pods of b2 (10.42.2.0/24) to 192.0.2.99 instead of",
    ),
    (
        "forwarding",
        PODS,
        |b| facts(&mut b[1]).forwarding = Some(false),
        "forwarding is off on board b2 (net.ipv4.ip_forward=0)",
    ),
    (
        "a firewall",
        PODS,
        |b| facts(&mut b[1]).drops = vec!["fw/forward".to_owned()],
        "board b2 has rules of its own that drop packets (nftables chain fw/forward)",
    ),
    (
        "the Node's word",
        PODS,
        |b| facts(&mut b[0]).problem = Some("no link".to_owned()),
        "board b1 says itself that its pod network is not whole: no link",
    ),
    ("nothing known", PODS, |_| {}, "neither board knows why"),
    (
        "boards apart",
        &[PODS[0], ("b1 -> b2 port", "timeout")],
        |_| {},
        "the boards b1 and b2 themselves don't reach each other: that comes first",
    ),
    (
        "two boards apart",
        &[("b1 -> b2 port", "timeout")],
        |_| {},
        "board b1 gets no answer from b2 (192.0.2.2) at all. Others reach it: look at",
    ),
    (
        "a board apart",
        &[("b1 -> b2 port", "noRoute"), ("b3 -> b2 port", "noRoute")],
        |_| {},
        "board b1 finds no way to b2 (192.0.2.2): nobody has that address, or the link is down",
    ),
    (
        "one port",
        &[("b2 -> b1 port 8883", "timeout")],
        |_| {},
        "port 8883 of b1 does not answer b2 while others do",
    ),
    (
        "a refused port",
        &[("b2 -> b1 port 8883", "refused")],
        |_| {},
        "board b1 (192.0.2.1) refuses port 8883",
    ),
    (
        "different links",
        &[("pod on b1 -> pod on b2, packets", "timeout")],
        |b| facts(&mut b[1]).mtu = 1400,
        "the link of b1 takes 1500 bytes and that of b2 1400",
    ),
    (
        "a small link",
        &[("pod on b1 -> pod on b2, packets", "tooLarge")],
        |_| {},
        "packets of 1500 bytes don't get from b1 to b2 while small ones do: (tooLarge)",
    ),
    (
        "a silent link",
        &[("pod on b1 -> pod on b2, packets", "timeout")],
        |_| {},
        "something between them loses large packets without a word",
    ),
    (
        "rules",
        &[("pod on b1 -> service", "timeout")],
        |_| {},
        "the board itself reaches the Service, its pods don't: the rules for Services on b1",
    ),
    (
        "names",
        &[("pod on b1: kubernetes", "timeout"), ("pod on b1: a", "timeout")],
        |_| {},
        "the board's own name server does not answer pods",
    ),
    (
        "upstream",
        &[("pod on b1: a name from", "timeout")],
        |_| {},
        "whom b1 asks for other names (192.0.2.53, from its /etc/resolv.conf) does not answer",
    ),
    (
        "masquerade",
        &[("pod on b1 -> outside", "timeout")],
        |_| {},
        "board b1 itself gets out, its pods don't",
    ),
    (
        "router",
        &[("board b1 -> outside", "timeout")],
        |_| {},
        "board b1 gets no answer from its router (192.0.2.254)",
    ),
];

#[test]
fn failures_are_explained_by_what_lies_under_them() {
    for (what, fails, change, wanted) in CASES {
        let mut boards = [board(1), board(2), board(3)];
        change(&mut boards);
        let said = said(&boards, fails);
        assert!(said.contains(wanted), "{what}: {said}");
    }
}

#[test]
fn large_packets_are_no_news_where_small_ones_fail() {
    let boards = [board(1), board(2)];
    let fails = [("pod on b1 -> pod on b2, packets", "timeout"), ("pod on b1 -> pod on b2", "x")];
    assert_eq!(said(&boards, &fails), "Skipped(\"small packets don't pass either\")");
}

#[test]
fn clocks_and_silent_boards() {
    let mut boards = [board(1), board(2), board(3)];
    facts(&mut boards[1]).ahead_ms = -180_000;
    assert!(said(&boards, &[("clock of b2", "")]).contains("180 s behind most boards"));
    boards[2].facts = Err("dial tcp: i/o timeout".to_owned());
    boards[2].not_ready = Some("no beat".to_owned());
    let said = said(&boards, &[("server -> agent of b3", "")]);
    assert!(said.contains("board b3 is not Ready (no beat)"), "{said}");
}

#[test]
fn a_report_is_short_where_all_is_well() {
    let boards = [board(1), board(2)];
    let front = front();
    let mut results: Vec<(Check, Outcome)> = planned(&boards, None, Ok(&front))
        .into_iter()
        .map(|check| (check.clone(), check.known.unwrap_or(Outcome::Passed(1.0))))
        .collect();
    let lines = report::lines(&boards, &results, false);
    assert_eq!(lines.len(), 11, "{lines:#?}");
    assert_eq!(lines[3], "ok   pod to pod          8 of 8, at most 1.0 ms");
    assert_eq!(lines[10], "All 37 paths work.");
    for (check, outcome) in &mut results {
        if check.name.starts_with("pod on b1 -> pod on b2") {
            *outcome = Outcome::Failed("timeout".to_owned(), "no answer in time".to_owned());
        }
    }
    settle(&mut results, true);
    let lines = report::lines(&boards, &results, false);
    assert!(lines.contains(&"FAIL pod on b1 -> pod on b2: no answer in time".to_owned()));
    assert_eq!(lines.last().unwrap(), "1 of 36 paths fail.");
}
