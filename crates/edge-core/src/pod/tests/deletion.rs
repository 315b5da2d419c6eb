//! How pods go: hooks, signals, grace, kills, and what is left behind (nothing).

use serde_json::{Value, json};

use super::board::{Board, one};

fn deleted(mut pod: Value, grace: i64) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    pod
}

fn running(container: Value) -> Board {
    let mut board = Board::new(one("Always", container));
    board.settle();
    board.take_log();
    board
}

fn delete(board: &mut Board, container: Value, grace: i64) {
    board.desire(deleted(one("Always", container), grace));
    board.observed.terminating_ms.get_or_insert(board.now);
}

const TAKE_DOWN: [&str; 4] = ["forget app-0", "remove sandbox", "unmount", "delete"];

#[test]
fn a_polite_container_goes_at_once() {
    let mut board = running(json!({}));
    delete(&mut board, json!({}), 30);
    board.settle();
    assert_eq!(board.log[..2], ["stop app Deleted 30", "term app"]);
    assert_eq!(board.log[2..], TAKE_DOWN);
    assert!(board.done);
    assert_eq!(board.brief(), "Failed app:Error/0");
    let before = board.observed.clone();
    board.settle();
    assert_eq!(board.observed, before);
}

#[test]
fn volumes_of_an_earlier_agent_are_taken_down_too() {
    let mut board = running(json!({}));
    delete(&mut board, json!({}), 30);
    board.observed.volumes = Default::default();
    board.observed.volumes_left = true;
    board.settle();
    assert_eq!(board.log[2..], TAKE_DOWN);
    assert!(board.done);
}

#[test]
fn a_deaf_one_is_killed_after_its_grace() {
    let mut board = running(json!({}));
    board.deaf = true;
    delete(&mut board, json!({}), 30);
    board.pass(29_999);
    assert_eq!(board.take_log(), ["stop app Deleted 30", "term app"]);
    board.pass(30_000);
    assert_eq!(board.take_log()[0], "kill app");
    assert!(board.done);
}

#[test]
fn no_grace_kills_at_once() {
    let mut board = running(json!({}));
    delete(&mut board, json!({}), 0);
    board.settle();
    assert_eq!(board.log[..2], ["stop app Deleted 0", "kill app"]);
}

#[test]
fn a_second_delete_shortens_the_grace() {
    let mut board = running(json!({}));
    board.deaf = true;
    delete(&mut board, json!({}), 300);
    board.pass(10_000);
    delete(&mut board, json!({}), 5);
    board.pass(10_001);
    assert!(board.done);
}

#[test]
fn hooks_run_before_the_signal_and_share_its_grace() {
    let hook = json!({ "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } });
    let mut board = running(hook.clone());
    delete(&mut board, hook.clone(), 30);
    board.settle();
    assert_eq!(board.log[..3], ["stop app Deleted 30", "pre-stop app", "term app"]);

    let mut board = running(hook.clone());
    board.stuck_hooks = true;
    board.deaf = true;
    delete(&mut board, hook, 30);
    board.pass(30_000);
    assert_eq!(board.take_log(), ["stop app Deleted 30", "pre-stop app", "term app"]);
    board.pass(31_999);
    assert!(board.log.is_empty());
    board.pass(32_000);
    assert_eq!(board.log[0], "kill app");
}

#[test]
fn an_orphan_goes_without_a_word_to_the_api() {
    let mut board = running(json!({}));
    board.observed.orphan = true;
    board.settle();
    assert!(board.done);
    assert!(!board.log.contains(&"delete".to_owned()), "{:?}", board.log);
}

#[test]
fn a_pod_deleted_before_it_started_leaves_nothing() {
    let mut board = Board::new(deleted(one("Always", json!({})), 30));
    board.settle();
    assert_eq!(board.log, ["delete"]);
    assert!(board.done);
}

#[test]
fn a_deleted_pod_restarts_nothing() {
    let mut board = running(json!({}));
    board.exit("app", 1);
    delete(&mut board, json!({}), 30);
    board.settle();
    assert_eq!(board.log, TAKE_DOWN);
}

#[test]
fn a_hook_counts_against_the_grace_but_for_a_moment() {
    let table = [(30_000, 0, 30_000), (30_000, 10_000, 20_000), (30_000, 29_000, 2_000)];
    let short = [(30_000, 40_000, 2_000), (1_000, 900, 1_000), (0, 0, 0)];
    for (grace_ms, hook_ms, left) in table.into_iter().chain(short) {
        assert_eq!(
            crate::pod::stop::after_hook_ms(grace_ms, hook_ms),
            left,
            "{grace_ms} {hook_ms}"
        );
    }
}
