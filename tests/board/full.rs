//! Disks that take nothing: at the start edged says one line with what to do, and in the middle
//! pods and their cluster go on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{must, run, until};
use super::machine::{Board, built};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, 'while :; do busybox sleep 1; done']
";

/// A small file system in memory.
struct Disk(PathBuf);

impl Disk {
    fn new(what: &str, options: &str) -> Disk {
        let dir = std::env::temp_dir().join(format!("edt-full-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.to_str().expect("a plain path");
        must("mount", &["-t", "tmpfs", "-o", options, "edt-full", path]);
        Disk(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        must("umount", &["-l", self.0.to_str().expect("a plain path")]);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Leaves no byte free.
fn fill(dir: &Path) {
    let mut file = std::fs::File::create(dir.join("fill")).expect("a file");
    for size in [1 << 16, 1 << 10] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn at_the_start_it_is_one_line_with_what_to_do() {
    if !super::can_run() {
        return;
    }
    for (what, options, words) in [
        ("ro", "ro,size=1m", ["Read-only file system", "see dmesg"]),
        ("full", "size=64k", ["No space left on device", "make room"]),
    ] {
        let disk = Disk::new(what, options);
        if what == "full" {
            fill(&disk.0);
        }
        let mut command = Command::new(built("edged"));
        command.args(["server", "--name", "f", "--node-ip", "127.0.0.1", "--no-agent"]);
        command.arg("--data-dir").arg(&disk.0).arg("--run-dir").arg(disk.0.join("run"));
        let outcome = run(command);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{outcome:?}");
        for word in words {
            assert!(lines[0].contains(word), "{word:?} is not in {}", lines[0]);
        }
    }
}

#[test]
fn in_the_middle_pods_and_their_cluster_go_on() {
    if !super::can_run() {
        return;
    }
    let mut board = Board::start_on("full", Some("48m"));
    board.load_busybox();
    let file = board.file("web.yaml", POD);
    board.ctl(&["apply", "-f", &file]).ok();
    let look = |board: &Board| {
        let path = "jsonpath={.status.phase} {.status.containerStatuses[0].containerID} \
                    {.status.containerStatuses[0].restartCount}";
        board.ctl(&["get", "pod", "web", "-o", path]).stdout
    };
    let runs = until("it runs", || {
        let seen = look(&board);
        (seen.starts_with("Running") && seen.ends_with(" 0")).then_some(seen.clone()).ok_or(seen)
    });
    let fill_up = board.dir.join("data");
    fill(&fill_up);
    // The log's room was taken before: writes go on.
    board.ctl(&["create", "configmap", "late", "--from-literal=a=b"]).ok();
    // A start on the full disk as well, and its Node says so at once.
    board.kill();
    board.spawn();
    board.wait_ready();
    let pressure = "jsonpath={.status.conditions[?(@.type==\"DiskPressure\")].status}";
    until("the Node has DiskPressure", || {
        let told = board.ctl(&["get", "node", "board-1", "-o", pressure]).stdout;
        (told.trim() == "True").then_some(()).ok_or(told)
    });
    assert_eq!(look(&board), runs, "the same container");
    board.ctl(&["get", "configmap", "late"]).ok();
    let told = board.log().lines().filter(|line| line.contains("is nearly full")).count();
    // Once by each process that was there for long enough.
    assert!((1..=2).contains(&told), "{}", board.log());
}
