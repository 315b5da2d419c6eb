//! Probes: when they are due and what follows from them.

use serde_json::{Value, json};

use super::board::{Board, one};
use crate::pod::ProbeKind;

fn probe(extra: Value) -> Value {
    let mut out = json!({ "tcpSocket": { "port": 80 }, "periodSeconds": 10 });
    for (key, value) in extra.as_object().unwrap() {
        out[key.as_str()] = value.clone();
    }
    out
}

fn answer(board: &mut Board, kind: ProbeKind, ok: bool) {
    board.answers.insert(("app".into(), kind), ok);
}

#[test]
fn readiness_makes_ready_and_unready() {
    let c = json!({ "readinessProbe": probe(json!({ "initialDelaySeconds": 5 })) });
    let mut board = Board::new(one("Always", c));
    board.pass(4_999);
    assert_eq!(board.brief(), "Running app:running/0");
    assert_eq!(board.condition("ContainersReady").1, "ContainersNotReady");
    board.pass(5_000);
    assert_eq!(board.brief(), "Running app:running/0/ready");
    answer(&mut board, ProbeKind::Readiness, false);
    board.pass(34_999);
    assert_eq!(board.brief(), "Running app:running/0/ready", "two failures are not three");
    board.pass(35_000);
    assert_eq!(board.brief(), "Running app:running/0");
    answer(&mut board, ProbeKind::Readiness, true);
    board.pass(45_000);
    assert_eq!(board.brief(), "Running app:running/0/ready");
}

#[test]
fn liveness_kills_and_restarts() {
    let c = json!({ "livenessProbe": probe(json!({ "failureThreshold": 2,
        "terminationGracePeriodSeconds": 7 })) });
    let mut board = Board::new(one("Always", c));
    board.settle();
    board.take_log();
    answer(&mut board, ProbeKind::Liveness, false);
    board.deaf = true;
    board.pass(19_999);
    assert_eq!(board.take_log(), ["probe app Liveness"]);
    board.pass(26_999);
    assert_eq!(board.take_log(), ["probe app Liveness", "stop app Liveness 7", "term app"]);
    board.pass(27_000);
    assert_eq!(board.brief(), "Running app:running/1/ready");
    let c = &board.status()["containerStatuses"][0];
    assert_eq!(c["lastState"]["terminated"]["exitCode"], 137);
}

#[test]
fn startup_holds_the_others_back() {
    let c = json!({
        "startupProbe": probe(json!({ "periodSeconds": 1, "failureThreshold": 30 })),
        "livenessProbe": probe(json!({ "initialDelaySeconds": 1 })),
        "readinessProbe": probe(json!({})),
    });
    let mut board = Board::new(one("Always", c));
    answer(&mut board, ProbeKind::Startup, false);
    board.pass(20_500);
    assert!(board.log.iter().all(|a| !a.contains("Liveness") && !a.contains("Readiness")));
    assert_eq!(board.status()["containerStatuses"][0]["started"], false);
    answer(&mut board, ProbeKind::Startup, true);
    board.pass(21_000);
    assert_eq!(board.status()["containerStatuses"][0]["started"], true);
    assert_eq!(board.brief(), "Running app:running/0/ready");
    let startups = board.log.iter().filter(|a| a.contains("Startup")).count();
    board.pass(60_000);
    assert_eq!(board.log.iter().filter(|a| a.contains("Startup")).count(), startups);
}

#[test]
fn a_startup_probe_that_gives_up_restarts() {
    let c = json!({ "startupProbe": probe(json!({ "periodSeconds": 1, "failureThreshold": 3 })) });
    let mut board = Board::new(one("Always", c));
    answer(&mut board, ProbeKind::Startup, false);
    board.pass(2_500);
    assert!(board.log.contains(&"stop app Startup 30".to_owned()), "{:?}", board.log);
}

#[test]
fn a_slow_probe_is_not_asked_twice() {
    let c = json!({ "livenessProbe": probe(json!({ "initialDelaySeconds": 1 })) });
    let mut board = Board::new(one("Always", c));
    board.settle();
    let seen = board.observed.containers.get_mut("app").unwrap();
    let state = seen.probes.entry(ProbeKind::Liveness).or_default();
    state.busy = true;
    board.take_log();
    board.pass(100_000);
    assert!(board.log.is_empty());
}
