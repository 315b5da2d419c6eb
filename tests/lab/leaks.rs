//! Pods, Services, an Ingress and a policy come and go, again and again, through the API; then a
//! board has the rules, links, routes, files, descriptors and the memory that it had, and after
//! `edged cleanup` nothing of edged at all. `EDGED_LAB_LEAKS=100` is the long run (500 Services).

use std::collections::BTreeMap;
use std::path::Path;

use super::board::Board;
use super::cluster::Cluster;
use crate::board::command::{run, until};
use crate::board::machine::built;

/// Rounds where nobody asks for more, and pods with a Service each in every one.
const ROUNDS: usize = 2;
const EACH: usize = 5;
/// Rounds before the first look: what is made once is there then.
const FIRST: usize = 2;
/// Descriptors that come and go by themselves: connections to servers, files that are being read.
const SPARE: usize = 4;
/// What memory may grow by, debug build: allocators keep some, and caches fill.
const GROWTH_KB: u64 = 8 << 10;

fn rounds() -> usize {
    let asked = std::env::var("EDGED_LAB_LEAKS").ok();
    asked.map_or(ROUNDS, |text| text.parse().expect("EDGED_LAB_LEAKS is a number"))
}

fn manifest(board: &Board) -> String {
    let mut text = String::new();
    for n in 0..EACH {
        text += &format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: leak-{n}, labels: {{app: leak-{n}, all: leaks}}}}
spec:
  nodeName: {board}
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: \"edged/webserver:1\", imagePullPolicy: IfNotPresent}}]
---
apiVersion: v1
kind: Service
metadata: {{name: leak-{n}}}
spec:
  type: LoadBalancer
  sessionAffinity: ClientIP
  loadBalancerSourceRanges: [10.0.0.0/8]
  selector: {{app: leak-{n}}}
  ports: [{{name: t, port: {port}, targetPort: 8080}},
          {{name: u, port: {port}, targetPort: 8080, protocol: UDP}}]
---
",
            board = board.name,
            port = 8000 + n,
        );
    }
    text + "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: leak}
spec:
  rules:
  - http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: leak-0, port: {number: 8000}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: leak}
spec: {podSelector: {}, ingress: [{ports: [{port: 8080}]}]}
"
}

/// Files below a directory; what is written into them may differ.
fn files(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.path().display().to_string()),
        }
    }
}

/// What must be as before; counters, ages and what was written to the journal are left out.
fn traces(board: &Board) -> BTreeMap<&'static str, String> {
    let pid = board.pid().expect("edged runs");
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").count();
    let mut found = Vec::new();
    files(&board.dir.join("run1"), &mut found);
    found.sort();
    let connections = board.within(|| {
        std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default()
    });
    // Multicast reports of links that come are nobody's connection.
    let pods = connections.lines().filter(|line| !line.contains("=224.0.0."));
    let pods = pods.filter(|line| line.contains("=10.42.1."));
    BTreeMap::from([
        ("rules", board.shell("nft list ruleset")),
        ("links", board.shell("ip -o -br link show")),
        ("addresses", board.shell("ip -o -br -4 addr show")),
        ("routes", board.shell("ip -4 route show table all")),
        ("neighbours", board.shell("ip -4 neigh show nud permanent")),
        ("connections", pods.map(|line| line.to_owned() + "\n").collect()),
        ("files", found.join("\n")),
        // Threads that block come when they are needed, and stay for some seconds.
        ("processes", board.marks().processes().len().to_string()),
        ("threads beyond 64", threads.saturating_sub(64).to_string()),
    ])
}

fn descriptors(board: &Board) -> usize {
    let pid = board.pid().expect("edged runs");
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

fn memory_kb(board: &Board) -> u64 {
    let pid = board.pid().expect("edged runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn round(cluster: &Cluster, board: &Board, file: &str) {
    let server = &cluster.boards[0];
    cluster.ctl(server, &["apply", "-f", file]).ok();
    until("the pods run", || {
        let pods = cluster.ctl(server, &["get", "pods", "-l", "all=leaks", "--no-headers"]).ok();
        let running = pods.lines().filter(|line| line.contains("Running")).count();
        (running == EACH).then_some(()).ok_or(pods)
    });
    until("a Service answers", || {
        let asked = board.within(|| {
            let to = std::net::SocketAddr::from((board.ip, 80));
            super::traffic_places::page(to, "any")
        });
        asked.map(drop)
    });
    cluster.ctl(server, &["delete", "-f", file]).ok();
    until("the pods are gone", || {
        let pods = cluster.ctl(server, &["get", "pods", "-l", "all=leaks", "--no-headers"]).ok();
        (!pods.contains("leak")).then_some(()).ok_or(pods)
    });
}

/// What ends a moment later has some time.
#[track_caller]
fn same(board: &Board, before: &BTreeMap<&'static str, String>, when: &str) {
    until(&format!("everything is as before, {when}"), || {
        let now = traces(board);
        let differs = before.iter().find(|(what, text)| now[*what] != **text);
        differs
            .map_or(Ok(()), |(what, text)| Err(format!("{what}:\n{}\nbefore:\n{text}", now[what])))
    });
}

#[test]
fn nothing_is_left_on_a_board_of_what_came_and_went() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let board = &cluster.boards[1];
    board.within(|| {
        // TCP remembers ended connections by itself, for two minutes; datagrams for half of one.
        for state in ["tcp_timeout_time_wait", "tcp_timeout_close", "udp_timeout"] {
            let setting = format!("/proc/sys/net/netfilter/nf_conntrack_{state}");
            let _ = std::fs::write(setting, "1");
        }
    });
    cluster.load_example();
    let file = cluster.file("leaks.yaml", manifest(board));
    for _ in 0..FIRST {
        round(&cluster, board, &file);
    }
    let mut before = traces(board);
    // Nothing of the first rounds stays either.
    before.insert("connections", String::new());
    let (memory, files) = (memory_kb(board), descriptors(board));
    let (begin, count) = (std::time::Instant::now(), rounds());
    for _ in 0..count {
        round(&cluster, board, &file);
    }
    let after = memory_kb(board);
    println!(
        "{} pods and Services came and went in {:?}: {memory} kB before, {after} kB after",
        count * EACH,
        begin.elapsed()
    );
    same(board, &before, "after all of it");
    until("no descriptor is left open", || {
        let now = descriptors(board);
        (now <= files + SPARE).then_some(()).ok_or(format!("{now}, {files} before"))
    });
    until("no object of theirs is left but events", || {
        let kinds = "endpoints,endpointslices,services,ingresses,networkpolicies,pods";
        let left = cluster.ctl(&cluster.boards[0], &["get", kinds, "-o", "name"]).ok();
        (!left.contains("leak")).then_some(()).ok_or(left)
    });
    assert!(after < memory + GROWTH_KB, "{memory} kB before, {after} kB after");
    assert_eq!(board.stop(), 0);
    let mut cleanup = board.inside(built("edged"));
    cleanup.arg("cleanup").args(board.flags());
    run(cleanup).ok();
    let rules = board.shell("nft list ruleset");
    assert!(!rules.contains("edged"), "{rules}");
    let links = board.shell("ip -o -br link show");
    let names: Vec<&str> = links.lines().filter_map(|line| line.split([' ', '@']).next()).collect();
    assert_eq!(names, ["lo", "lan0"], "{links}");
    let routes = board.shell("ip -4 route show table all");
    assert!(!routes.contains("10.42.") && !routes.contains("10.43."), "{routes}");
}
