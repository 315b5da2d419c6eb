//! The ordinary life of a container.

use std::fs;
use std::os::unix::fs::symlink;

use edge_node::runtime::RuntimeError;
use edge_node::seams::{ContainerState, Mount};

use crate::board::{Board, is_running, within};

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
    let listed = board.runtime.list().unwrap();
    assert_eq!(listed[0].state, ContainerState::Exited(exit));
    assert!(matches!(board.runtime.start(&spec).await, Err(RuntimeError::Exists { .. })));
    board.runtime.remove("one").await.unwrap();
    board.runtime.remove("one").await.unwrap();
    assert!(board.runtime.list().unwrap().is_empty());
    assert!(board.log("one").contains("out"), "the log outlives its container");
    board.close().await;
}

pub(crate) async fn environment_user_directory_and_host_name_are_as_asked() {
    let mut board = Board::new();
    let script = "echo $GREETING $HOME $PATH; id; pwd; hostname; echo $$; ls /proc | head -1; \
                  cat /proc/self/oom_score_adj";
    let mut spec = board.script("one", script);
    spec.env = ["GREETING=first", "GREETING=last", "EMPTY="].map(Into::into).to_vec();
    spec.cwd = "/deep/new/dir".into();
    spec.image_user = "web".into();
    spec.security.supplemental_groups = vec![77];
    spec.oom_score_adj = 500;
    let (exit, lines) = board.run(&spec).await;
    assert_eq!(exit.code, 0, "{lines:?}");
    assert!(lines[0].starts_with("last /data /usr/local/sbin:"), "{lines:?}");
    assert!(lines[1].starts_with("uid=33(web) gid=34(www) groups=34(www),40(log),77"), "{lines:?}");
    assert_eq!(lines[2..], ["/deep/new/dir", "pod", "1", "1", "500"]);
    board.close().await;
}

pub(crate) async fn a_command_that_cannot_run_is_told_in_known_words() {
    let board = Board::new();
    fs::write(board.dir.join("layer/bin/text"), "no program").unwrap();
    let mode = fs::metadata(board.dir.join("layer/bin/busybox")).unwrap().permissions();
    fs::set_permissions(board.dir.join("layer/bin/text"), mode).unwrap();
    let prefix = "unable to start container process: ";
    for (command, words) in [
        ("nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/bin/text", "exec /bin/text: exec format error"),
    ] {
        let mut spec = board.script("bad", "");
        spec.args = vec![command.into()];
        let error = board.runtime.start(&spec).await.unwrap_err();
        assert_eq!((error.reason(), error.exit_code()), ("StartError", 128), "{error}");
        assert_eq!(error.message(), format!("{prefix}{words}"));
    }
    let mut spec = board.script("root", "true");
    spec.security.run_as_non_root = true;
    let error = board.runtime.start(&spec).await.unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    assert!(error.message().contains("image will run as root"), "{error}");
    spec.image_user = "nobody-here".into();
    spec.security.run_as_non_root = false;
    let error = board.runtime.start(&spec).await.unwrap_err();
    assert!(error.message().contains("unable to find user nobody-here"), "{error}");
    assert!(board.runtime.list().unwrap().is_empty());
    board.close().await;
}

pub(crate) async fn signals_reach_init_and_kill_ends_all() {
    let mut board = Board::new();
    let spec = board
        .script("polite", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("polite") == ["up"]).await;
    board.runtime.signal("polite", libc::SIGTERM).unwrap();
    let exit = board.exit().await;
    assert_eq!((exit.code, exit.signal), (7, None));
    assert_eq!(board.lines("polite"), ["up", "bye"]);
    assert!(matches!(
        board.runtime.signal("polite", libc::SIGTERM),
        Err(RuntimeError::NotRunning { .. })
    ));
    let mut spec = board.script("stubborn", "sleep 1000 & sleep 1000 & echo up; sleep 1000");
    spec.host_pid = true;
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("stubborn") == ["up"]).await;
    board.runtime.kill("stubborn").await.unwrap();
    let exit = board.exit().await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(board.runtime.signal("missing", 9).unwrap_err().to_string().contains("does not exist"));
    board.close().await;
}

pub(crate) async fn init_that_ends_on_the_boards_pids_takes_its_children_along() {
    let mut board = Board::new();
    let mut spec = board.script("one", "sleep 1234.5 & echo started; exit 4");
    spec.host_pid = true;
    let (exit, lines) = board.run(&spec).await;
    assert_eq!((exit.code, lines), (4, vec!["started".into()]));
    assert!(!is_running("sleep\x001234.5"), "orphans");
    board.close().await;
}

pub(crate) async fn a_terminal_is_one_stream_in_the_log() {
    let mut board = Board::new();
    let mut spec = board.script("one", "tty; echo err >&2; echo $TERM");
    spec.tty = true;
    let (exit, lines) = board.run(&spec).await;
    assert_eq!(exit.code, 0);
    assert_eq!(lines, ["/dev/pts/0", "err", "xterm"]);
    assert!(!board.log("one").contains(" stderr "));
    let mut spec = board.script("input", "read line; echo never");
    spec.stdin = true;
    board.runtime.start(&spec).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(board.lines("input"), [""; 0], "open input does not end");
    board.close().await;
}

pub(crate) async fn long_lines_and_bursts_are_logged_whole() {
    let mut board = Board::new();
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; seq 1 20000; yes e | head -5000 >&2";
    let mut spec = board.script("one", script);
    spec.log_max_bytes = 1 << 30;
    let (_, _) = board.run(&spec).await;
    let log = board.log("one");
    let x: usize = log.lines().map(|l| l.matches('x').count()).sum();
    assert_eq!(x, 40_000);
    assert_eq!(log.lines().filter(|l| l.contains(" stdout P ")).count(), 2);
    let mut numbers = log.lines().filter_map(|l| {
        l.split(" stdout F ").nth(1).filter(|t| !t.starts_with('x'))?.parse::<u32>().ok()
    });
    assert!((1..=20_000).all(|n| numbers.next() == Some(n)));
    assert_eq!(log.lines().filter(|l| l.ends_with(" stderr F e")).count(), 5_000);
    board.close().await;
}

pub(crate) async fn volumes_are_mounted_whatever_the_image_holds_in_their_place() {
    let mut board = Board::new();
    let volume = board.dir.join("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "inside\n").unwrap();
    fs::write(board.dir.join("hosts"), "10.0.0.1 pod\n").unwrap();
    // Links that would lead out of the root, if they were followed there.
    symlink("/", board.dir.join("layer/out")).unwrap();
    symlink("../../../../../etc/evil", board.dir.join("layer/etc/hosts")).unwrap();
    let script = "cat /data/file /out/vol/file /etc/hosts; echo x > /data/file || echo refused; \
                  echo written > /out/vol/new; pwd";
    let mut spec = board.script("one", script);
    let mount = |source: &std::path::Path, target: &str, read_only| Mount {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    spec.mounts = vec![
        mount(&volume, "/out/vol", false),
        mount(&volume, "/data", true),
        mount(&board.dir.join("hosts"), "/etc/hosts", true),
    ];
    spec.cwd = "/out/vol/sub".into();
    let (_, lines) = board.run(&spec).await;
    assert_eq!(lines[..3], ["inside", "inside", "10.0.0.1 pod"]);
    assert!(lines.contains(&"refused".into()), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains("Read-only file system")), "{lines:?}");
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "written\n");
    assert!(!std::path::Path::new("/etc/evil").exists());
    spec.mounts[0].source = "/no/such/volume".into();
    spec.id = "two".into();
    let error = board.runtime.start(&spec).await.unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    board.close().await;
}

pub(crate) async fn any_number_of_layers_makes_one_root() {
    let mut board = Board::new();
    for (id, count) in [("some", 120), ("many", 260)] {
        let mut layers = vec![board.dir.join("layer")];
        for n in 0..count {
            let layer = board.dir.join(format!("layer, with: a long and hard name {n}"));
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join("top"), format!("{n}\n")).unwrap();
            layers.push(layer);
        }
        let mut spec = board.script(id, "cat /top; echo gone > /top; cat /top");
        spec.layers = layers;
        if let Err(error) = board.runtime.start(&spec).await {
            assert!(error.message().contains("too many for this kernel"), "{error}");
            assert_eq!(id, "many");
            println!("SKIPPED, 260 layers: {error}");
            continue;
        }
        board.exit().await;
        assert_eq!(board.lines(id), [(count - 1).to_string(), "gone".into()]);
    }
    board.close().await;
}

pub(crate) async fn containers_of_a_pod_share_memory_and_nothing_else() {
    let mut board = Board::new();
    let first = board.script("first", "echo shared > /dev/shm/x; echo own > /tmp/x; sleep 1000");
    board.runtime.start(&first).await.unwrap();
    within(|| board.dir.join("run/shm/0000-pod/x").exists()).await;
    let script = "cat /dev/shm/x; cat /tmp/x 2>/dev/null || echo no; ls -l /proc/self/ns | wc -l";
    let second = board.script("second", script);
    let (_, lines) = board.run(&second).await;
    assert_eq!(lines[..2], ["shared", "no"]);
    let mut read_only =
        board.script("third", "touch /x || echo refused; touch /dev/shm/y && echo ok");
    read_only.security.read_only_root = true;
    let (_, lines) = board.run(&read_only).await;
    assert!(lines.contains(&"refused".into()) && lines.contains(&"ok".into()), "{lines:?}");
    board.close().await;
}

pub(crate) async fn sysctls_are_the_pods_own() {
    let mut board = Board::new();
    let script =
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    let mut spec = board.script("one", script);
    for (key, value) in
        [("net.ipv4.ip_unprivileged_port_start", "80"), ("kernel.shm_rmid_forced", "1")]
    {
        spec.security.sysctls.insert(key.into(), value.into());
    }
    let (_, lines) = board.run(&spec).await;
    assert_eq!(lines, ["80", "1"]);
    board.close().await;
}
