//! Names as a pod finds them, on a board that doesn't lead: by its own `resolv.conf`, with the
//! leader there and gone, after the agent was killed, and by nobody from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::board::Board;
use super::cluster::Cluster;
use super::lookup::{self, outside};
use super::traffic_places::Transport;
use crate::board::command::{Outcome, until};
use crate::board::machine::busybox_archive;

const THINGS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: db}
  clusterIP: 10.43.0.77
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  selector: {app: db}
  clusterIP: None
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.lan}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {app: db}}
spec:
  nodeName: s1
  hostname: first
  subdomain: db
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'example.org/busybox:1', command: [/bin/busybox, sleep, '1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: a1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'example.org/busybox:1', command: [/bin/busybox, sleep, '1000']}
";

/// Asks the cluster's server; the answer's addresses, or its code.
fn ask(name: &str) -> Result<Vec<Ipv4Addr>, String> {
    lookup::addresses(Transport::Udp, name)
}

/// Where the kernel's file of the pod's network is.
fn network_of(board: &Board, uid: &str) -> PathBuf {
    let run = board.flags().iter().skip_while(|flag| *flag != "--run-dir").nth(1).cloned();
    PathBuf::from(run.expect("a run directory")).join("pods").join(uid).join("net")
}

/// Asks from where a pod is, whatever became of its cluster.
fn ask_inside(network: &std::path::Path, name: &str) -> Result<Vec<Ipv4Addr>, String> {
    let file = File::open(network).expect("the pod's network");
    let name = name.to_owned();
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter namespaces");
        ask(&name)
    });
    thread.join().expect("an answer")
}

fn exec(cluster: &Cluster, arguments: &str) -> Outcome {
    let command = ["exec", "probe", "--", "/bin/busybox"].into_iter();
    let all: Vec<&str> = command.chain(arguments.split_whitespace()).collect();
    cluster.kubectl(&cluster.boards[0], &all)
}

/// What the pod's own tools find.
fn looks_up(cluster: &Cluster, first: &str) {
    let file = exec(cluster, "cat /etc/resolv.conf").ok();
    let want = "search default.svc.cluster.local svc.cluster.local cluster.local home.lan\n\
                nameserver 10.43.0.10\noptions ndots:5\n";
    assert_eq!(file, want);
    let pointer = |ip: &str| {
        let parts: Vec<&str> = ip.split('.').rev().collect();
        format!("{}.in-addr.arpa", parts.join("."))
    };
    let (service, pod) = (pointer("10.43.0.77"), pointer(first));
    let domain = "default.svc.cluster.local";
    let cases = BTreeMap::from([
        ("web.default.svc.cluster.local".to_owned(), "10.43.0.77"),
        ("kube-dns.kube-system.svc.cluster.local".to_owned(), "10.43.0.10"),
        (format!("db.{domain}"), first),
        (format!("first.db.{domain}"), first),
        (format!("-type=srv _http._tcp.db.{domain}"), "first.db.default.svc.cluster.local"),
        (format!("out.{domain}"), "192.0.2.80"),
        ("www.lan".to_owned(), "192.0.2.80"),
        (format!("-type=ptr {service}"), "web.default.svc.cluster.local"),
        (format!("-type=ptr {pod}"), "first.db.default.svc.cluster.local"),
    ]);
    for (asked, want) in cases {
        let told = exec(cluster, &format!("nslookup {asked}")).stdout;
        let answer = told.split_once("\n\n").map_or("", |(_, answer)| answer);
        assert!(answer.contains(want), "{asked}: {told}");
    }
    // Short, by the search path.
    let short = exec(cluster, "nslookup web").stdout;
    assert!(short.contains("10.43.0.77"), "{short}");
    let nothing = exec(cluster, "nslookup nothing.default.svc.cluster.local");
    assert!(nothing.stdout.contains("NXDOMAIN"), "{nothing:?}");
}

#[test]
fn pods_find_names_whoever_leads() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::dark(1, 1);
    let text = outside(&cluster, "www.lan", Ipv4Addr::new(192, 0, 2, 80));
    let resolv = cluster.file("resolv.conf", text);
    cluster.form(&["--resolv-conf", &resolv]);
    let (server, agent) = (&cluster.boards[0], &cluster.boards[1]);
    cluster.ctl(server, &["image", "load", &busybox_archive(&cluster.dir)]).ok();
    let things = cluster.file("things.yaml", THINGS);
    cluster.kubectl(server, &["apply", "-f", &things]).ok();
    let ready = ["wait", "--for=condition=Ready", "pod/db-0", "pod/probe", "--timeout=50s"];
    cluster.kubectl(server, &ready).ok();
    let field = |pod: &str, path: &str| {
        cluster.kubectl(server, &["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")]).ok()
    };
    let first = field("db-0", ".status.podIP");
    let network = network_of(agent, &field("probe", ".metadata.uid"));
    let found = vec![first.parse::<Ipv4Addr>().expect("an address")];
    until("the endpoint is known on the other board", || {
        let told = ask_inside(&network, "db.default.svc.cluster.local");
        if told.as_ref() == Ok(&found) { Ok(()) } else { Err(format!("{told:?}")) }
    });
    looks_up(&cluster, &first);

    let board = agent.within(|| ask("web.default.svc.cluster.local"));
    assert_eq!(board, Ok(vec![Ipv4Addr::new(10, 43, 0, 77)]), "from the board itself");
    cluster.person.ip(&format!("route add 10.43.0.0/16 via {}\n", agent.ip));
    let stranger = cluster.person.within(|| ask("web.default.svc.cluster.local"));
    assert!(stranger.is_err(), "from outside: {stranger:?}");

    server.kill();
    for name in ["db.default.svc.cluster.local", "first.db.default.svc.cluster.local"] {
        assert_eq!(ask_inside(&network, name), Ok(found.clone()), "without the leader");
    }
    let away = Ok(vec![Ipv4Addr::new(192, 0, 2, 80)]);
    assert_eq!(ask_inside(&network, "out.default.svc.cluster.local"), away);
    agent.kill();
    server.spawn();
    agent.spawn();
    until("names are known again", || {
        let told = ask_inside(&network, "db.default.svc.cluster.local");
        if told.as_ref() == Ok(&found) { Ok(()) } else { Err(format!("{told:?}")) }
    });
}
