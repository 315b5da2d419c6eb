//! Containers that try to get out, and images made to trick the runtime.

use std::fs;
use std::os::unix::fs::symlink;

use edge_node::runtime::ExecSpec;

use crate::board::{Board, make_root, within};

pub(crate) async fn an_ordinary_container_is_confined() {
    let mut board = Board::new();
    let script = "exec 2>/dev/null
        grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
        mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
        unshare -U true 2>/dev/null && echo UNSHARED
        unshare -m true 2>/dev/null && echo UNSHARED
        mknod /disk b 8 0 && head -c 1 /disk 2>/dev/null && echo DISK
        mknod /mem c 1 1 && head -c 1 /mem 2>/dev/null && echo MEM
        mknod /kmsg c 1 11 && echo edge-test > /kmsg && echo KMSG
        head -c 1 /proc/kcore 2>/dev/null | wc -c
        echo b > /proc/sysrq-trigger 2>/dev/null && echo SYSRQ
        echo x > /proc/sys/kernel/hostname 2>/dev/null && echo SYSCTL
        touch /sys/x 2>/dev/null && echo SYS
        ls /sys/firmware /proc/scsi 2>/dev/null | grep -v : | wc -w
        echo /proc/self/fd/*; umask
        head -c 1 /dev/zero | wc -c; echo > /dev/null && echo null
        echo done";
    let mut spec = board.script("one", script);
    spec.security.allow_privilege_escalation = false;
    let (_, lines) = board.run(&spec).await;
    let expected = [
        "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3",
        "0022",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "0",
        "0",
        "1",
        "null",
        "done",
    ];
    for line in &lines {
        assert!(expected.contains(&line.as_str()), "unexpected {line:?} in {lines:?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    board.close().await;
}

pub(crate) async fn a_privileged_container_has_the_boards_devices() {
    let mut board = Board::new();
    let script = "grep CapEff /proc/self/status; grep '^Seccomp:' /proc/self/status; \
                  ls /dev | grep -c -E 'loop0|vda|sda|mem|kmsg'; \
                  mount -t tmpfs none /tmp && echo mounted; \
                  head -c 4 /dev/mem >/dev/null 2>&1; echo $?";
    let mut spec = board.script("one", script);
    spec.security.privileged = true;
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let effective = own.lines().find(|l| l.starts_with("CapEff")).unwrap();
    let (_, lines) = board.run(&spec).await;
    assert_eq!(lines[0], effective, "all that the board's root has");
    assert_eq!(lines[1], "Seccomp:\t0");
    assert!(lines[2].parse::<u32>().unwrap() > 0);
    assert_eq!(lines[3], "mounted");
    board.close().await;
}

/// CVE-2019-5736: a container with every capability tries to write to the executable of each
/// process that enters it.
pub(crate) async fn the_runtimes_own_executable_cannot_be_overwritten() {
    let board = Board::new();
    let own = std::env::current_exe().unwrap();
    let before = fs::read(&own).unwrap();
    let script = "
        echo up
        while :; do for p in /proc/[0-9]*; do
            [ $p = /proc/1 ] || (exec 7<$p/exe && echo pwned >/proc/self/fd/7) 2>>/tmp/tries
        done; done";
    let mut spec = board.script("evil", script);
    spec.security.privileged = true;
    board.runtime.start(&spec).await.unwrap();
    within(|| board.lines("evil") == ["up"]).await;
    for _ in 0..15 {
        let command = ExecSpec { args: vec!["true".into()], ..ExecSpec::default() };
        let mut session = board.runtime.exec("evil", &command).await.unwrap();
        session.wait().await;
    }
    board.runtime.kill("evil").await.unwrap();
    let tries = fs::read_to_string(board.dir.join("data/containers/evil/upper/tmp/tries"));
    assert!(tries.unwrap().contains("Read-only file system"), "the attack met the seal");
    assert!(fs::read(&own).unwrap() == before, "the executable was overwritten");
    board.close().await;
}

/// An image whose command is the runtime itself, by the name that the kernel has for it.
pub(crate) async fn an_image_cannot_make_the_runtime_run_itself() {
    let mut board = Board::new();
    symlink("/proc/self/exe", board.dir.join("layer/bin/evil")).unwrap();
    let mut spec = board.script("evil", "");
    spec.args = vec!["/bin/evil".into(), "--list".into()];
    // Whether it runs depends on how it is linked; that it cannot be written is tested above.
    if board.runtime.start(&spec).await.is_ok() {
        board.exit().await;
    }
    board.close().await;
}

pub(crate) async fn links_in_the_image_do_not_lead_mounts_astray() {
    let victim = std::env::temp_dir().join(format!("edge-victim-{}", std::process::id()));
    for (name, expect_start) in [("dev", None), ("proc", Some(false)), ("sys", None)] {
        let board = Board::new();
        let layer = board.dir.join("evil");
        make_root(&layer);
        fs::create_dir_all(&victim).unwrap();
        fs::remove_dir(layer.join(name)).unwrap();
        symlink(&victim, layer.join(name)).unwrap();
        let mut spec = board.script("evil", "echo ran; touch /tmp/x");
        spec.layers = vec![layer];
        let started = board.runtime.start(&spec).await;
        if let Some(expected) = expect_start {
            assert_eq!(started.is_ok(), expected, "{name}: {started:?}");
        }
        let left = fs::read_dir(&victim).unwrap().count();
        assert_eq!(left, 0, "{name}: the board's own directory was written");
        board.close().await;
        fs::remove_dir(&victim).unwrap();
    }
}

pub(crate) async fn passwd_may_be_a_trap() {
    let mut board = Board::new();
    let passwd = board.dir.join("layer/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    let mut spec = board.script("zero", "awk '/^Uid/ {print $2}' /proc/self/status");
    spec.image_user = "12".into();
    assert_eq!(board.run(&spec).await.1, ["12"]);
    fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    spec = board.script("pipe", "echo 0");
    assert_eq!(board.run(&spec).await.1, ["0"]);
    fs::remove_file(&passwd).unwrap();
    symlink("/../../../../../../etc/shadow", &passwd).unwrap();
    spec = board.script("out", "echo 0");
    assert_eq!(board.run(&spec).await.1, ["0"]);
    board.close().await;
}
