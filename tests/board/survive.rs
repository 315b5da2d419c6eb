//! `kill -9` of `edged` at any moment: containers keep running, logs and exit codes are whole,
//! every acknowledged write is there, and deletes leave nothing behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::command::until;
use super::machine::Board;

/// Kills of one run. Each is at another moment of the work that goes on.
const KILLS: u64 = 20;

/// A pod that counts aloud, ten lines a second, for as long as it runs.
const COUNTERS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: counter}
spec:
  replicas: 4
  selector: {matchLabels: {app: counter}}
  template:
    metadata: {labels: {app: counter}}
    spec:
      containers:
      - name: c
        image: example.org/busybox:1
        imagePullPolicy: Never
        command:
        - /bin/sh
        - -c
        - 'i=0; while :; do echo line $i; i=$((i+1)); busybox sleep 0.1; done'
";

/// A pod that ends by itself with a code of its own.
fn ender(n: u64) -> String {
    let code = 10 + n;
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: ender-{n}}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, 'busybox sleep 1; exit {code}']
"
    )
}

/// Container id → process id, of all pods of the Deployment.
fn processes(board: &Board) -> BTreeMap<String, String> {
    let path = board.dir.join("run/containers");
    let entries = std::fs::read_dir(path).expect("containers").flatten();
    entries
        .filter_map(|entry| {
            let pid = pid_of(board, &entry.file_name().to_string_lossy())?;
            Some((entry.file_name().to_string_lossy().into_owned(), pid))
        })
        .collect()
}

/// The first process of a container: the child of its shim.
fn pid_of(board: &Board, id: &str) -> Option<String> {
    let mark = board.dir.join("run/containers").join(id).display().to_string();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let shim = processes.map(|e| e.path()).find(|path| {
        let args = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        args.contains(" shim ") && args.contains(&mark)
    })?;
    let pid = shim.file_name()?.to_string_lossy().into_owned();
    let children = std::fs::read_to_string(shim.join(format!("task/{pid}/children"))).ok()?;
    children.split_whitespace().next().map(Into::into)
}

#[track_caller]
fn running(board: &Board, count: usize) {
    until(&format!("{count} counters run"), || {
        let args = ["get", "pods", "-l", "app=counter", "--no-headers"];
        let pods = board.ctl(&args).stdout;
        let up = pods.lines().filter(|line| line.contains("1/1") && line.contains("Running"));
        (up.count() == count).then_some(()).ok_or(format!("{pods}\n{}", board.log()))
    });
}

/// Every line of a counter's log, in order, none missing and none twice.
#[track_caller]
fn logs_are_whole(board: &Board) {
    let root = board.dir.join("data/log/pods");
    let pods = std::fs::read_dir(root).expect("logs").flatten();
    let counters = pods.filter(|p| p.file_name().to_string_lossy().contains("_counter-"));
    let mut seen = 0;
    for pod in counters {
        let text = std::fs::read_to_string(pod.path().join("c/0.log")).expect("a log");
        for (n, line) in text.lines().enumerate() {
            assert!(line.ends_with(&format!("stdout F line {n}")), "{:?}: {line}", pod.path());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} lines");
}

#[test]
fn twenty_kills_under_load() {
    if !super::can_run() {
        return;
    }
    let mut board = Board::start("kills");
    board.load_busybox();
    let file = board.file("counters.yaml", COUNTERS);
    board.ctl(&["apply", "-f", &file]).ok();
    running(&board, 4);
    let before = processes(&board);
    assert_eq!(before.len(), 4);
    let mut written = Vec::new();
    for n in 0..KILLS {
        let name = format!("note-{n}");
        let literal = format!("--from-literal=n={n}");
        board.ctl(&["create", "configmap", &name, &literal]).ok();
        written.push(name);
        let file = board.file("ender.yaml", ender(n));
        board.ctl(&["apply", "-f", &file]).ok();
        // Another moment of the pod's life each time.
        std::thread::sleep(Duration::from_millis(n * 73 % 1400));
        board.kill();
        board.spawn();
        board.wait_ready();
    }
    let names = board.ctl(&["get", "configmaps", "-o", "name"]).ok();
    for name in &written {
        assert!(names.contains(&format!("configmap/{name}\n")), "{name} is lost: {names}");
    }
    for n in 0..KILLS {
        let path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        let name = format!("ender-{n}");
        until(&format!("{name} ends with {}", 10 + n), || {
            let code = board.ctl(&["get", "pod", &name, "-o", path]).stdout;
            (code == (10 + n).to_string()).then_some(()).ok_or_else(|| {
                format!("{code:?} {}", board.ctl(&["describe", "pod", &name]).stdout)
            })
        });
    }
    running(&board, 4);
    let after = processes(&board);
    for (id, pid) in &before {
        assert_eq!(after.get(id), Some(pid), "container {id} was not left alone");
    }
    logs_are_whole(&board);
    let all = ["delete", "deployment,pod", "--all", "--grace-period=1"];
    board.ctl(&all).ok();
    nothing_is_left(&board);
    assert_eq!(board.stop(), 0);
}

#[track_caller]
fn nothing_is_left(board: &Board) {
    until("all containers and their mounts are gone", || {
        let left = std::fs::read_dir(board.dir.join("run/containers")).map_or(0, Iterator::count);
        let pods = std::fs::read_dir(board.dir.join("run/pods"))
            .map_or(0, |pods| pods.flatten().filter(|p| p.path().is_dir()).count());
        // A pod's shared memory goes a moment after the directory of its last container.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let dir = board.dir.display().to_string();
        let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(&dir)).collect();
        let none = left + pods + ours.len() == 0;
        none.then_some(()).ok_or_else(|| format!("{left} containers, {pods} pods, {ours:#?}"))
    });
    let links = super::command::run({
        let mut ip = board.inside("ip");
        ip.args(["-o", "link", "show", "type", "veth"]);
        ip
    });
    assert_eq!(links.ok(), "");
    for hierarchy in ["memory", "pids", "freezer", "unified"] {
        let pods = format!("/sys/fs/cgroup/{hierarchy}/{}/pods", board.name);
        let entries = std::fs::read_dir(&pods).into_iter().flatten().flatten();
        let groups: Vec<_> = entries.filter(|e| e.path().is_dir()).map(|e| e.path()).collect();
        assert!(groups.is_empty(), "{groups:?}");
    }
}
