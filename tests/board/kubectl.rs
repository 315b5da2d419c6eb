//! The main job with the program people have: a Deployment and a Service by real `kubectl`, from
//! apply to delete.

use super::command::{has, run, until};
use super::machine::Board;

/// The example that the README shows.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/web.yaml");

#[test]
fn a_deployment_from_apply_to_delete() {
    if !super::can_run() {
        return;
    }
    assert!(has("kubectl"), "kubectl is missing: tests/setup.sh test installs it");
    let board = Board::start("kubectl");
    board.load_example();
    let applied = board.kubectl(&["apply", "-f", EXAMPLE]).ok();
    assert_eq!(applied, "deployment.apps/web created\nservice/web created\n");
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();

    let pods = board.kubectl(&["get", "pods", "-o", "wide"]).ok();
    assert_eq!(pods.matches("1/1     Running").count(), 3, "{pods}");
    assert!(pods.contains("board-1"), "{pods}");
    let all = board.kubectl(&["get", "deploy,rs,svc"]).ok();
    assert!(all.contains("deployment.apps/web   3/3     3            3"), "{all}");
    assert!(all.contains("service/web"), "{all}");
    let description = board.kubectl(&["describe", "deployment", "web"]).ok();
    assert!(description.contains("3 desired | 3 updated | 3 total | 3 available"), "{description}");
    assert!(description.contains("ScalingReplicaSet"), "{description}");
    let again = board.kubectl(&["apply", "-f", EXAMPLE]).ok();
    assert_eq!(again, "deployment.apps/web unchanged\nservice/web unchanged\n");

    scale_roll_and_undo(&board);
    let gone = board.kubectl(&["delete", "-f", EXAMPLE]).ok();
    assert!(gone.contains("deployment.apps \"web\" deleted"), "{gone}");
    until("the pods are gone", || {
        let left = board.kubectl(&["get", "pods", "-o", "name"]).ok();
        left.is_empty().then_some(()).ok_or(left)
    });
}

fn scale_roll_and_undo(board: &Board) {
    board.kubectl(&["scale", "deployment/web", "--replicas=2"]).ok();
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let env = ["set", "env", "deployment/web", "VERSION=two"];
    board.kubectl(&env).ok();
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let history = board.kubectl(&["rollout", "history", "deployment/web"]).ok();
    assert!(history.contains("\n2 "), "{history}");
    let undone = board.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    assert_eq!(undone, "deployment.apps/web rolled back\n");
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let spec = board.kubectl(&["get", "deployment", "web", "-o", "yaml"]).ok();
    assert!(!spec.contains("VERSION"), "{spec}");
}

#[test]
fn logs_exec_and_the_service_address() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("exec");
    board.load_example();
    board.kubectl(&["apply", "-f", EXAMPLE]).ok();
    board.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let address = board.kubectl(&["get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"]).ok();
    let path = "jsonpath={.spec.ports[0].nodePort}";
    let port = board.kubectl(&["get", "svc", "web", "-o", path]).ok();
    let mut answered = std::collections::BTreeSet::new();
    for url in [format!("http://{address}/"), format!("http://192.168.77.1:{port}/")] {
        for _ in 0..20 {
            let mut curl = board.inside("curl");
            curl.args(["-sf", "-m", "5", "-o", "/dev/null", "-D", "-", &url]);
            let headers = run(curl).ok().to_lowercase();
            let by = headers.lines().find_map(|l| l.strip_prefix("x-served-by: "));
            answered.insert(by.expect("the example names itself").trim().to_owned());
        }
    }
    assert_eq!(answered.len(), 3, "{answered:?}");
    let logs = board.kubectl(&["logs", "deploy/web", "--tail=5"]).ok();
    assert!(logs.contains("GET /"), "{logs}");
    let told = board.kubectl(&["exec", "deploy/web", "--", "/edged", "version"]).ok();
    assert!(told.starts_with("edged "), "{told}");
    let why = board.kubectl(&["exec", "deploy/web", "--", "/no-such-program"]).fails();
    assert!(why.contains("/no-such-program"), "{why}");
}

/// A shell, a log that grows, and a ConfigMap in both its forms.
const SHELL: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command: [/bin/busybox, sleep, '1000']
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
    volumeMounts:
    - {name: words, mountPath: /words}
  volumes:
  - {name: words, configMap: {name: words}}
---
apiVersion: v1
kind: Pod
metadata: {name: count}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: example.org/busybox:1
    imagePullPolicy: Never
    command:
    - /bin/sh
    - -c
    - i=0; while [ $i -lt 50 ]; do echo n $i; i=$((i+1)); busybox sleep 0.04; done
";

#[test]
fn a_terminal_in_a_pod_and_a_log_that_is_followed() {
    if !super::can_run() {
        return;
    }
    let board = Board::start("shell");
    board.load_busybox();
    let file = board.file("shell.yaml", SHELL);
    board.kubectl(&["apply", "-f", &file]).ok();
    board.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=30s"]).ok();
    // Following ends with the container, two seconds from its start.
    until("the log is there", || {
        let outcome = board.kubectl(&["logs", "count"]);
        (outcome.status == 0).then_some(()).ok_or(outcome.stderr)
    });
    let lines = board.kubectl(&["logs", "-f", "count"]).ok();
    let wanted: String = (0..50).map(|n| format!("n {n}\n")).collect();
    assert_eq!(lines, wanted);
    // `script` gives kubectl a terminal of its own; busybox's `tty` tells whether one arrived.
    let typed =
        "kubectl exec -it shell -- sh -c 'busybox tty; echo $GREETING; cat /words/*; exit 7'"
            .replace("cat /words", "busybox cat /words");
    let mut terminal = board.inside("script");
    terminal.args(["-qec", &typed, "/dev/null"]);
    let outcome = run(terminal);
    assert_eq!(outcome.status, 7, "{outcome:?}");
    assert!(outcome.stdout.contains("/dev/"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("hello").count(), 2, "{outcome:?}");
    let piped = board.kubectl(&["exec", "shell", "--", "sh", "-c", "busybox tty; exit 3"]);
    assert_eq!((piped.status, piped.stdout.trim()), (3, "not a tty"), "{piped:?}");
}
