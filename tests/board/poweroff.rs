//! A board that is switched off stops its pods in order and within a bound, and has them again
//! after its next start, as after a power cut.

use super::command::{run, until};
use super::machine::{Board, built};

/// `hook` is its preStop.
fn pod(name: &str, more: &str, trap: &str, hook: &str) -> String {
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
    lifecycle: {{preStop: {hook}}}
    command: [/bin/sh, -c, \"trap '{trap}' TERM; echo up; while :; do busybox sleep 0.1; done\"]
---"
    )
}

/// When a container of a pod said a word, as its log has it.
fn said(board: &Board, name: &str, container: &str, word: &str) -> Option<String> {
    let pods = std::fs::read_dir(board.dir.join("data/log/pods")).expect("logs").flatten();
    let found = pods.map(|entry| entry.path());
    let dir = found.into_iter().find(|p| p.to_string_lossy().contains(&format!("_{name}_")))?;
    let text = std::fs::read_to_string(dir.join(container).join("0.log")).ok()?;
    text.lines().find(|line| line.ends_with(word)).map(|line| line[..30].to_owned())
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
    // A word into its own log; the wrong door; one that takes all there is.
    let word = "{exec: {command: [/bin/sh, -c, 'echo hook > /proc/1/fd/1']}}";
    let door = "{httpGet: {port: 9}}";
    let long = "{sleep: {seconds: 300}}";
    let all = [
        pod("polite", "restartPolicy: OnFailure", "echo bye; exit 0", word),
        pod("stubborn", "terminationGracePeriodSeconds: 600", "echo no", long),
        pod("critical, namespace: kube-system", critical, "echo bye; exit 0", door),
    ];
    let file = board.file("pods.yaml", all.concat());
    board.ctl(&["apply", "-f", &file]).ok();
    all_run(&board, "0");
    let stop = |board: &Board| {
        let mut command = board.inside(built("edged"));
        command.args(["stop-pods", "--within", "5"]).args(board.flags());
        run(command)
    };
    let why = stop(&board).fails();
    assert!(why.contains("an edged runs on") && why.contains("stop it first"), "{why}");
    board.stop();
    let words = stop(&board).ok();
    let ms = words.split_whitespace().nth(4).and_then(|ms| ms.parse().ok()).unwrap_or(0_u64);
    assert!(words.starts_with("3 pods stopped in "), "{words}");
    assert!(words.contains("1 of them killed"), "{words}");
    // The long hook takes the whole time, and its container a moment after it.
    assert!((7000..25_000).contains(&ms), "{words}");
    let [hook, polite] = ["hook", "bye"].map(|word| said(&board, "polite", "c", word));
    let [no, critical] = ["stubborn no", "critical bye"].map(|both| {
        let (name, word) = both.split_once(' ').expect("two words");
        said(&board, name, "c", word)
    });
    assert!(hook.is_some() && hook < polite, "the hook is before the signal: {hook:?} {polite:?}");
    assert!(polite < no && no < critical, "{polite:?} {no:?} {critical:?}");
    assert!(stop(&board).ok().starts_with("0 pods stopped"), "nothing is left to stop");
    board.spawn();
    board.wait_ready();
    // The polite one did not succeed: it was stopped in the middle of its work.
    all_run(&board, "1");
}

/// A pod with two sidecars; each container does what it is told to at SIGTERM.
fn sided(name: &str, app: &str) -> String {
    let container = |name: &str, more: &str, trap: &str| {
        format!(
            "
  - name: {name}
    image: example.org/busybox:1
    imagePullPolicy: Never{more}
    command: [/bin/sh, -c, \"trap '{trap}' TERM; echo up; while :; do busybox sleep 0.1; done\"]"
        )
    };
    let sidecar = "\n    restartPolicy: Always";
    let net = container("net", sidecar, "echo bye; exit 0");
    let log = container("log", sidecar, "busybox sleep 0.3; echo bye; exit 0");
    let app = container("app", "", app);
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  initContainers:{net}{log}
  containers:{app}
---"
    )
}

#[test]
fn sidecars_are_stopped_after_what_they_serve() {
    if !super::can_run() {
        return;
    }
    let mut board = Board::start("sidecars");
    board.load_busybox();
    let polite = sided("polite", "busybox sleep 1; echo bye; exit 0");
    let file = board.file("pods.yaml", polite + &sided("stubborn", "echo no"));
    board.ctl(&["apply", "-f", &file]).ok();
    until("two pods run", || {
        let pods = board.ctl(&["get", "pods", "--no-headers"]).stdout;
        let run = pods.lines().filter(|line| line.contains("3/3") && line.contains("Running"));
        (run.count() == 2).then_some(()).ok_or(format!("{pods}\n{}", board.log()))
    });
    board.stop();
    let mut command = board.inside(built("edged"));
    command.args(["stop-pods", "--within", "6"]).args(board.flags());
    let words = run(command).ok();
    assert!(words.contains("1 of them killed"), "{words}");
    let bye = |name: &str, container: &str| said(&board, name, container, "bye");
    let [app, log, net] = ["app", "log", "net"].map(|container| bye("polite", container));
    assert!(app.is_some() && app < log && log < net, "{app:?} {log:?} {net:?}: {words}");
    // Its program takes all the time there is; they have a moment all the same.
    let [log, net] = ["log", "net"].map(|container| bye("stubborn", container));
    assert!(log.is_some() && net.is_some(), "{log:?} {net:?}: {words}");
}
