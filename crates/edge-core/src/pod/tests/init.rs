//! Init containers and sidecars.

use serde_json::{Value, json};

use super::board::{Board, pod};

fn spec(policy: &str) -> Value {
    pod(json!({
        "restartPolicy": policy,
        "initContainers": [
            { "name": "one", "image": "i:1" },
            { "name": "two", "image": "i:1" },
        ],
        "containers": [{ "name": "app", "image": "a:1" }],
    }))
}

#[test]
fn init_containers_run_in_order() {
    let mut board = Board::new(spec("Always"));
    board.settle();
    assert_eq!(board.brief(), "Pending one:running/0 two:PodInitializing/0 app:PodInitializing/0");
    assert_eq!(
        board.condition("Initialized"),
        (
            "False".into(),
            "ContainersNotInitialized".into(),
            "containers with incomplete status: [one two]".into()
        )
    );
    board.exit("one", 0);
    board.settle();
    board.exit("two", 0);
    board.settle();
    assert_eq!(
        board.brief(),
        "Running one:Completed/0/ready two:Completed/0/ready app:running/0/ready"
    );
    assert_eq!(board.condition("Initialized").0, "True");
    board.take_log();
    board.exit("app", 1);
    board.settle();
    assert_eq!(board.take_log(), ["image app", "start app 1"], "init is not run again");
}

#[test]
fn a_failing_init_container_is_retried_or_fails_the_pod() {
    let mut board = Board::new(spec("Always"));
    board.settle();
    board.exit("one", 1);
    board.settle();
    board.now = 100;
    board.exit("one", 1);
    board.pass(5_000);
    assert_eq!(
        board.brief(),
        "Pending one:CrashLoopBackOff/1 two:PodInitializing/0 app:PodInitializing/0"
    );
    let mut board = Board::new(spec("Never"));
    board.settle();
    board.exit("one", 1);
    board.settle();
    assert_eq!(board.brief(), "Failed one:Error/0 two:PodInitializing/0 app:PodInitializing/0");
}

#[test]
fn a_restarted_board_runs_init_again() {
    let mut board = Board::new(spec("Always"));
    for name in ["one", "two"] {
        board.settle();
        board.exit(name, 0);
    }
    board.settle();
    board.take_log();
    board.exit("app", 255);
    board.observed.sandbox_lost();
    board.settle();
    assert_eq!(board.take_log(), ["sandbox", "image one", "start one 1"]);
    board.exit("one", 0);
    board.settle();
    board.exit("two", 0);
    board.settle();
    assert_eq!(board.take_log().last().map(String::as_str), Some("start app 1"));
}

fn sidecar() -> Value {
    pod(json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "initContainers": [
            { "name": "side", "image": "s:1", "restartPolicy": "Always" },
            { "name": "prep", "image": "i:1" },
        ],
        "containers": [{ "name": "app", "image": "a:1" }],
    }))
}

#[test]
fn sidecars_start_first_restart_always_and_stop_last() {
    let mut board = Board::new(sidecar());
    board.settle();
    assert_eq!(board.brief(), "Pending side:running/0/ready prep:running/0 app:PodInitializing/0");
    board.exit("prep", 0);
    board.settle();
    board.exit("side", 1);
    board.settle();
    assert_eq!(
        board.brief(),
        "Running side:running/1/ready prep:Completed/0/ready app:running/0/ready"
    );
    board.take_log();
    board.exit("app", 0);
    board.settle();
    assert_eq!(
        board.take_log(),
        ["stop side Finished 10", "term side", "remove sandbox", "unmount"]
    );
    assert!(board.brief().starts_with("Succeeded"), "{}", board.brief());
}

#[test]
fn a_deleted_pod_stops_its_sidecar_after_the_rest() {
    let mut board = Board::new(sidecar());
    board.settle();
    board.exit("prep", 0);
    board.settle();
    board.take_log();
    board.deaf = true;
    let mut gone = sidecar();
    gone["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    gone["metadata"]["deletionGracePeriodSeconds"] = json!(10);
    board.desire(gone);
    board.observed.terminating_ms = Some(board.now);
    board.pass(9_000);
    assert_eq!(board.take_log(), ["stop app Deleted 10", "term app"]);
    board.pass(13_000);
    assert_eq!(board.log[..4], ["stop side Deleted 2", "kill app", "term side", "kill side"]);
    assert!(board.done);
}
