//! What stays when `edged` is killed, when a shim is killed, and when the board goes down.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use edge_node::runtime::Runtime;
use edge_node::seams::{ContainerState, SandboxPaths};

use crate::board::{self, Board, within};

/// Stands for `edged`: opens a board's runtime, starts `count` containers, and waits.
pub(crate) fn agent(args: &[OsString]) -> i32 {
    let dir = PathBuf::from(&args[0]);
    let cgroup = args[1].to_str().unwrap();
    let count: u32 = args[2].to_str().unwrap().parse().unwrap();
    let ns = dir.join("ns");
    let pinned = |name: &str| ns.join(name);
    let namespaces =
        SandboxPaths { net: Some(pinned("net")), ipc: pinned("ipc"), uts: Some(pinned("uts")) };
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let (runtime, _exits) = Runtime::new(board::config(&dir, cgroup)).unwrap();
        let base = runtime.list().unwrap().len();
        for n in base..base + count as usize {
            let script = format!(
                "echo start {n}; i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); \
                 sleep 0.05; done; exit {}",
                n % 100
            );
            let spec = board::spec(&dir, &namespaces, &format!("c{n}"), &["sh", "-c", &script]);
            runtime.start(&spec).await.unwrap();
        }
        println!("ready");
        tokio::time::sleep(Duration::from_secs(1_000)).await;
    });
    0
}

fn spawn_agent(board: &Board, count: u32) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["agent", board.dir.to_str().unwrap(), &board.cgroup, &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) async fn containers_outlive_their_agent_and_nothing_of_them_is_lost() {
    let mut board = Board::new();
    let mut agent = spawn_agent(&board, 3);
    let mut ready = [0u8; 6];
    std::io::Read::read_exact(agent.stdout.as_mut().unwrap(), &mut ready).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    board.exits.close();
    (board.runtime, board.exits) = Runtime::new(board::config(&board.dir, &board.cgroup)).unwrap();
    let listed = board.runtime.list().unwrap();
    assert_eq!(listed.len(), 3);
    let pids: Vec<i32> = listed
        .iter()
        .map(|c| match c.state {
            ContainerState::Running { pid, .. } => pid,
            _ => panic!("{c:?}"),
        })
        .collect();
    assert!(pids.iter().all(|p| fs::exists(format!("/proc/{p}")).unwrap()));
    let mut ends = Vec::new();
    for _ in 0..3 {
        let exit = board.exit().await;
        ends.push((exit.id, exit.code));
    }
    ends.sort();
    assert_eq!(ends, [("c0".into(), 0), ("c1".into(), 1), ("c2".into(), 2)]);
    for n in 0..3 {
        let mut expected = vec![format!("start {n}")];
        expected.extend((0..40).map(|i| format!("line {i}")));
        assert_eq!(board.lines(&format!("c{n}")), expected);
    }
    board.close().await;
}

/// Kills the agent at moments spread over its starts: whatever was under way is either a whole
/// container afterwards, or gone without a trace.
pub(crate) async fn an_agent_killed_while_it_starts_containers_leaves_whole_ones_or_none() {
    let mut board = Board::new();
    for round in 0..12u64 {
        let mut agent = spawn_agent(&board, 20);
        tokio::time::sleep(Duration::from_millis(5 + round * 17)).await;
        agent.kill().unwrap();
        agent.wait().unwrap();
        // The agent before has died, and so has what it watched.
        board.exits.close();
        let (runtime, exits) = Runtime::new(board::config(&board.dir, &board.cgroup)).unwrap();
        (board.runtime, board.exits) = (runtime, exits);
        for container in board.runtime.list().unwrap() {
            match container.state {
                ContainerState::Running { pid, .. } => {
                    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"));
                    let of_it = cgroup.is_ok_and(|c| c.contains(&format!("pods/{}", container.id)));
                    let ended =
                        || board.dir.join("data/containers").join(&container.id).join("exit");
                    assert!(of_it || ended().exists(), "round {round}: {container:?}");
                }
                ContainerState::Exited(exit) => assert_ne!(exit.code, 255, "{exit:?}"),
            }
        }
    }
    board.close().await;
}

pub(crate) async fn a_killed_shim_ends_its_container_as_unknown() {
    let mut board = Board::new();
    let spec = board.script("one", "echo up; sleep 1000");
    let started = board.runtime.start(&spec).await.unwrap();
    let shim = fs::read_to_string(board.dir.join("run/containers/one/shim.pid")).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim.trim().parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let exit = board.exit().await;
    assert_eq!((exit.code, exit.started_at_ms), (255, started.started_at_ms));
    within(|| !fs::exists(format!("/proc/{}", started.pid)).unwrap()).await;
    board.close().await;
}

pub(crate) async fn after_a_boot_all_have_ended() {
    let mut board = Board::new();
    let ended = board.script("ended", "exit 3");
    board.run(&ended).await;
    let spec = board.script("running", "echo up; sleep 1000");
    board.runtime.start(&spec).await.unwrap();
    // What a boot does: no process, no run directory, another boot id.
    board.runtime.kill("running").await.unwrap();
    board.exit().await;
    let data = board.dir.join("data/containers");
    fs::remove_file(data.join("running/exit")).unwrap();
    for id in ["ended", "running"] {
        let record = data.join(id).join("record.json");
        let text = fs::read_to_string(&record).unwrap();
        let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::write(&record, text.replace(own.trim(), "another")).unwrap();
    }
    let _ =
        nix::mount::umount2(&board.dir.join("run/shm/0000-pod"), nix::mount::MntFlags::MNT_DETACH);
    fs::remove_dir_all(board.dir.join("run")).unwrap();
    board.exits.close();
    (board.runtime, board.exits) = Runtime::new(board::config(&board.dir, &board.cgroup)).unwrap();
    let codes: Vec<(String, i32)> = board
        .runtime
        .list()
        .unwrap()
        .into_iter()
        .map(|c| match c.state {
            ContainerState::Exited(exit) => (c.id, exit.code),
            state => panic!("{state:?}"),
        })
        .collect();
    assert_eq!(codes, [("ended".into(), 3), ("running".into(), 255)]);
    board.close().await;
}
