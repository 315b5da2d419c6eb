//! What a container may use.

use std::fs;

use edge_node::runtime::Runtime;
use edge_node::seams::{ContainerState, Limits};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::board::{Board, config, within};

fn read(board: &Board, controller: &str, group: &str, file: &str) -> String {
    let tree = if is_v1(board) { controller } else { "" };
    let path = format!("/sys/fs/cgroup/{tree}{}/{group}/{file}", board.cgroup);
    fs::read_to_string(&path).unwrap_or_default().trim().to_owned()
}

fn is_v1(board: &Board) -> bool {
    board.runtime.facts().cgroup_version == "v1"
}

pub(crate) async fn more_memory_than_the_limit_is_an_oom_kill() {
    let mut board = Board::new();
    if let Some(problem) = board.runtime.facts().memory_problem {
        println!("SKIPPED: {problem}");
        return;
    }
    let mut spec = board.script("one", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo no");
    spec.limits.memory_bytes = Some(32 << 20);
    let (exit, lines) = board.run(&spec).await;
    assert!(exit.oom_killed, "{exit:?} {lines:?}");
    let mut spec = board.script("two", "exec awk 'BEGIN { s = \"xxxxxxxx\"; while (1) s = s s }'");
    spec.limits.memory_bytes = Some(32 << 20);
    let (exit, _) = board.run(&spec).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    board.close().await;
}

pub(crate) async fn limits_are_what_the_kernel_has() {
    let board = Board::new();
    let mut spec = board.script("one", "echo up; while :; do :; done");
    spec.limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_limit_milli: Some(250),
        cpu_request_milli: 100,
        pids: Some(20),
    };
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("one") == ["up"]).await;
    let group = "pods/one";
    if is_v1(&board) {
        assert_eq!(read(&board, "memory", group, "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read(&board, "cpu", group, "cpu.cfs_quota_us"), "25000");
        assert_eq!(read(&board, "cpu", group, "cpu.shares"), "102");
    } else {
        assert_eq!(read(&board, "memory", group, "memory.max"), (64 << 20).to_string());
        assert_eq!(read(&board, "memory", group, "memory.oom.group"), "1");
        assert_eq!(read(&board, "cpu", group, "cpu.max"), "25000 100000");
        assert_eq!(read(&board, "cpu", group, "cpu.weight"), "4");
    }
    assert_eq!(read(&board, "pids", group, "pids.max"), "20");
    let (before, since) = (board.runtime.stats("one").unwrap(), std::time::Instant::now());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let (stats, passed) = (board.runtime.stats("one").unwrap(), since.elapsed());
    assert!(stats.memory_bytes > 0 && stats.memory_bytes < 64 << 20, "{stats:?}");
    let share = (stats.cpu_nanos - before.cpu_nanos) as f64 / passed.as_nanos() as f64;
    assert!(share > 0.01 && share < 0.5, "a quarter of a core: {share}");
    board.close().await;
}

pub(crate) async fn a_fork_bomb_stays_within_its_limit_and_can_be_killed() {
    let mut board = Board::new();
    let mut spec = board.script("one", "f() { f & f & }; echo up; f; sleep 1000");
    spec.limits.pids = Some(30);
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("one").first().is_some_and(|l| l == "up")).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    board.runtime.kill("one").await.unwrap();
    board.exit().await;
    board.close().await;
}

pub(crate) async fn a_container_sees_its_own_limits_and_cannot_write_them() {
    let mut board = Board::new();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max \
                  2>/dev/null; echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes || \
                  echo refused";
    let mut spec = board.script("one", script);
    spec.limits.memory_bytes = Some(64 << 20);
    let (_, lines) = board.run(&spec).await;
    assert_eq!(lines[0], (64 << 20).to_string());
    assert!(lines.iter().any(|l| l == "refused"), "{lines:?}");
    board.close().await;
}

pub(crate) async fn a_full_disk_loses_no_end() {
    let mut board = Board::new();
    let data = board.dir.join("data/containers");
    let options = Some("size=300k");
    mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    let spec = board.script("one", "dd if=/dev/zero of=/fill bs=4k 2>/dev/null; exit 7");
    board.runtime.start(&spec).await.unwrap();
    assert_eq!(board.exit().await.code, 7);
    let error = board.runtime.start(&board.script("two", "true")).await.unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    let config = config(&board.dir, &board.cgroup);
    board.exits.close();
    (board.runtime, board.exits) = Runtime::new(config).unwrap();
    let listed = board.runtime.list().unwrap();
    assert!(
        matches!(&listed[0].state, ContainerState::Exited(exit) if exit.code == 7),
        "{listed:?}"
    );
    board.runtime.remove("one").await.unwrap();
    umount2(&data, MntFlags::MNT_DETACH).unwrap();
    board.close().await;
}
