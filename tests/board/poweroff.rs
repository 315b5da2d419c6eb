//! A board that is switched off stops its pods in order and within a bound, and has them again
//! after its next start, as after a power cut.

use super::command::{run, until};
use super::machine::{Board, built};

fn pod(name: &str, more: &str, trap: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  {more}
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, \"trap '{trap}' TERM; echo up; while :; do busybox sleep 0.1; done\"]
---"
    )
}

/// When a pod said good-bye, as its log has it.
fn bye(board: &Board, name: &str) -> Option<String> {
    let pods = std::fs::read_dir(board.dir.join("data/log/pods")).expect("logs").flatten();
    let found = pods.map(|entry| entry.path());
    let dir = found.into_iter().find(|p| p.to_string_lossy().contains(&format!("_{name}_")))?;
    let text = std::fs::read_to_string(dir.join("c/0.log")).ok()?;
    text.lines().find(|line| line.ends_with("bye")).map(|line| line[..30].to_owned())
}

#[track_caller]
fn all_run(board: &Board, restarts: &str) {
    until(&format!("three pods run, restarted {restarts} times"), || {
        let pods = board.ctl(&["get", "pods", "-A", "--no-headers"]).stdout;
        let line = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(2..5).is_some_and(|w| w[..2] == ["1/1", "Running"] && w[2] == restarts)
        };
        (pods.lines().filter(line).count() == 3)
            .then_some(())
            .ok_or(format!("{pods}\n{}", board.log()))
    });
}

#[test]
fn pods_are_stopped_in_order_and_come_back() {
    if !super::can_run() {
        return;
    }
    let mut board = Board::start("poweroff");
    board.load_busybox();
    let critical = "priorityClassName: system-cluster-critical";
    let all = [
        pod("polite", "restartPolicy: OnFailure", "echo bye; exit 0"),
        pod("stubborn", "terminationGracePeriodSeconds: 600", "echo no"),
        pod("critical, namespace: kube-system", critical, "echo bye; exit 0"),
    ];
    let file = board.file("pods.yaml", all.concat());
    board.ctl(&["apply", "-f", &file]).ok();
    all_run(&board, "0");
    let stop = |board: &Board| {
        let mut command = board.inside(built("edged"));
        command.args(["stop-pods", "--within", "2"]).args(board.flags());
        run(command)
    };
    let why = stop(&board).fails();
    assert!(why.contains("an edged runs on") && why.contains("stop it first"), "{why}");
    board.stop();
    let said = stop(&board).ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    let ms: u64 = words[4].parse().expect("a number");
    assert!(said.starts_with("3 pods stopped in ") && said.contains("1 of them killed"), "{said}");
    assert!((2000..20_000).contains(&ms), "{said}");
    let (polite, critical) = (bye(&board, "polite"), bye(&board, "critical"));
    assert!(polite.is_some() && polite < critical, "{polite:?} {critical:?}");
    assert!(stop(&board).ok().starts_with("0 pods stopped"), "nothing is left to stop");
    board.spawn();
    board.wait_ready();
    // The polite one did not succeed: it was stopped in the middle of its work.
    all_run(&board, "1");
}
