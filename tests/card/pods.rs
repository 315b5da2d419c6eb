//! What a kubelet does for pods, on a board with nothing but cgroup v2: limits, the kernel's own
//! kills, restarts, probes, exec, logs, and an end without leftovers.

use super::board::{Board, key};
use super::person::Person;
use super::{Place, Steps, asked, image};

/// Pods that run at the same time, each for one thing that is asked.
const PODS: &str = "
- name: limits
  command: echo first; echo second >&2; exec /bin/busybox sleep 100000
  more: {resources: {limits: {memory: 32Mi, cpu: 500m}}}
- name: greedy
  policy: Never
  command: exec /bin/busybox tail /dev/zero
  more: {resources: {limits: {memory: 16Mi}}}
- name: failing
  command: /bin/busybox sleep 1; exit 3
- name: sick
  command: |
    /bin/busybox touch /well; /bin/busybox sleep 5
    /bin/busybox rm /well; exec /bin/busybox sleep 100000
  more:
    livenessProbe:
      exec: {command: [/bin/busybox, test, -e, /well]}
      periodSeconds: 1
      failureThreshold: 2
- name: shy
  command: /bin/busybox sleep 5; exec /bin/busybox httpd -f -p 8080 -h /bin
  more: {readinessProbe: {httpGet: {path: /busybox, port: 8080}, periodSeconds: 1}}
- name: polite
  command: trap 'echo bye; exit 0' TERM; echo here; while true; do /bin/busybox sleep 0.2; done
- name: done
  policy: Never
  command: exit 0
";

fn manifests() -> String {
    let pods: serde_json::Value = serde_yaml::from_str(PODS).expect("YAML");
    let mut text = String::new();
    for pod in pods.as_array().expect("a list") {
        let mut container = serde_json::json!({
            "name": "c", "image": image::BOX, "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/busybox", "sh", "-c", pod["command"]],
        });
        for (key, value) in pod["more"].as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["name"]},
            "spec": {
                "restartPolicy": pod["policy"].as_str().unwrap_or("Always"),
                "terminationGracePeriodSeconds": 20,
                "containers": [container],
            },
        });
        text += &format!("---\n{pod}\n");
    }
    text
}

#[test]
fn the_pod_suite_on_pure_cgroup_v2() {
    if !asked() {
        return;
    }
    let place = Place::new("pods");
    let dir = place.0.as_path();
    let mut steps = Steps::new();
    let card = image::card(dir);
    let archive = image::archive(&card, dir);
    let person = Person::new("pods", dir, &["t1"]);
    let mut board = Board::new(&card, dir, "one", 11, 512);
    board.settings(&format!("role: server\n{}", key(dir)));
    steps.done("a card is ready");
    person.founds(&mut board, "t1", &mut steps);
    let mounts = person.ssh(&board, "grep cgroup /proc/mounts").ok();
    assert!(mounts.lines().count() == 1 && mounts.contains(" cgroup2 "), "{mounts}");
    person.ctl(&["image", "push", &archive.display().to_string()]).ok();
    person.apply("pods.yaml", &manifests());
    steps.done("pods are wanted");

    let field = |pod: &str, path: &str, good: &dyn Fn(&str) -> bool| {
        let path = format!("jsonpath={{.status{path}}}");
        person.ctl_until(&["get", "pod", pod, "-o", &path], |text| good(text.trim()))
    };
    let state = ".containerStatuses[0]";
    let restarted = |text: &str| text.parse::<u32>().is_ok_and(|count| count > 0);
    let ready = format!("{state}.ready");
    field("limits", &ready, &|text| text == "true");
    steps.done("the first pod runs");
    let exec =
        |pod: &str, line: &str| person.ctl(&["exec", pod, "--", "/bin/busybox", "sh", "-c", line]);
    assert_eq!(
        exec("limits", "/bin/busybox cat /sys/fs/cgroup/memory.max").ok().trim(),
        "33554432"
    );
    assert_eq!(
        exec("limits", "/bin/busybox cat /sys/fs/cgroup/cpu.max").ok().trim(),
        "50000 100000"
    );
    assert_eq!(exec("limits", "exit 7").status, 7);
    let logs = person.ctl(&["logs", "limits"]).ok();
    assert!(logs.contains("first\n") && logs.contains("second\n"), "{logs}");
    steps.done("limits are the kernel's, exec gives its status, logs have both streams");

    field("greedy", &format!("{state}.state.terminated.reason"), &|text| text == "OOMKilled");
    field("greedy", &format!("{state}.state.terminated.exitCode"), &|text| text == "137");
    steps.done("who takes more than its memory is OOMKilled");
    field("done", ".phase", &|text| text == "Succeeded");
    field("failing", &format!("{state}.restartCount"), &restarted);
    field("failing", &format!("{state}.lastState.terminated.exitCode"), &|text| text == "3");
    field("sick", &format!("{state}.restartCount"), &restarted);
    steps.done("who fails, and who fails its liveness probe, is started again");
    field("shy", &ready, &|text| text == "true");
    steps.done("who passes its readiness probe is ready");

    person.ctl_until(&["logs", "polite"], |text| text.contains("here"));
    person.ctl(&["delete", "pod", "polite", "--wait=true"]).ok();
    steps.done("who stops at SIGTERM is gone");
    person.ctl(&["delete", "pod", "--all", "--wait=true"]).ok();
    let left = "find /sys/fs/cgroup/edged -mindepth 2 -type d | wc -l; \
                find /sys/fs/cgroup/edged -name cgroup.procs -exec cat {} + | wc -l; \
                ls /run/edged/pods | wc -l";
    person.ssh_until(&board, &format!("[ \"$({left})\" = \"$(printf '0\\n0\\n0')\" ]"));
    steps.done("all pods are gone, with their cgroups, processes and directories");
}
