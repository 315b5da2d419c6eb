//! How pods stop when their board goes off: as at a deletion, and nothing is taken down.

use serde_json::json;

use super::board::{Board, pod};
use crate::pod::plan_off;

/// A pod with two sidecars that runs, on a board that goes off in 20 s.
fn going(grace: i64) -> Board {
    let sidecar = |name: &str| json!({ "name": name, "image": "s:1", "restartPolicy": "Always" });
    let mut board = Board::new(pod(json!({
        "terminationGracePeriodSeconds": grace,
        "initContainers": [sidecar("net"), sidecar("log")],
        "containers": [{ "name": "app", "image": "a:1" }, { "name": "web", "image": "a:1" }],
    })));
    board.settle();
    board.take_log();
    board.off = true;
    board.desired.cut_grace(20);
    board.observed.terminating_ms = Some(board.now);
    board
}

#[test]
fn sidecars_stop_after_the_rest_and_the_last_one_first() {
    let mut board = going(600);
    board.settle();
    let steps = ["stop app Deleted 20", "stop web Deleted 20", "term app", "term web"];
    assert_eq!(board.log[..4], steps);
    let steps = ["stop log Deleted 20", "term log", "stop net Deleted 20", "term net"];
    assert_eq!(board.log[4..], steps);
    assert!(board.done);
}

#[test]
fn sidecars_have_what_the_rest_left_of_the_grace() {
    let mut board = going(10);
    board.deaf = true;
    board.pass(7_000);
    assert_eq!(board.take_log().len(), 4);
    board.exit("app", 0);
    board.exit("web", 0);
    board.pass(9_999);
    assert_eq!(board.take_log(), ["stop log Deleted 3", "term log"]);
    // The first one's time is up with that of the pod, and a moment is left in any case.
    board.pass(10_000);
    assert_eq!(board.log[0], "stop net Deleted 2");
    board.pass(11_999);
    assert!(!board.done);
    board.pass(12_000);
    assert!(board.done);
}

#[test]
fn all_sidecars_have_a_moment_when_the_rest_took_all_there_was() {
    let mut board = going(600);
    board.deaf = true;
    board.pass(19_999);
    assert_eq!(board.take_log().len(), 4);
    board.pass(20_000);
    let steps = board.take_log();
    for step in ["stop log Deleted 2", "stop net Deleted 2", "kill app", "term log", "term net"] {
        assert!(steps.contains(&step.to_owned()), "{steps:?}");
    }
    board.pass(22_000);
    assert_eq!(board.take_log(), ["kill log", "kill net"]);
    assert!(board.done);
}

#[test]
fn what_no_kill_ends_is_waited_for_no_longer_than_a_moment() {
    let mut board = going(0);
    let plan_at = |board: &Board, ms: i64| plan_off(&board.desired, &board.observed, ms);
    for _ in 0..3 {
        for action in plan_at(&board, 0).actions {
            board.observed.begin(&action, 0);
        }
    }
    let plan = plan_at(&board, 4_999);
    assert!(plan.actions.is_empty() && !plan.done);
    assert_eq!(plan.wake_at_ms, Some(5_000));
    assert!(plan_at(&board, 5_000).done);
}
