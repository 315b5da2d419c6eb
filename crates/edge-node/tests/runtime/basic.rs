//! The ordinary life of a container.

use crate::board::Board;

pub(crate) async fn a_container_runs_and_its_end_is_told() {
    let mut board = Board::new();
    let spec = board.script("one", "echo out; echo err >&2; printf rest; exit 3");
    let (exit, mut lines) = board.run(&spec).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, None, false));
    assert!(exit.started_at_ms > 0 && exit.finished_at_ms >= exit.started_at_ms);
    lines.sort();
    assert_eq!(lines, ["err", "out", "rest"]);
    let log = board.log("one");
    assert!(log.contains(" stderr F err\n") && log.contains(" stdout P rest\n"), "{log}");
    board.close().await;
}
