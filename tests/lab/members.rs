//! What people see of a cluster: every node from every server, with both clients, pods spread
//! over boards, a leader that can be lost at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Cluster;
use super::failover::{self, Loss, changes_in_bad_weather};

/// The bounds here are generous: builds of tests are slow, and so are machines of CI. What is
/// really reached stands in `docs/bench`.
const KILLED: f64 = 3000.0;
const UNPLUGGED: f64 = 6000.0;

#[test]
fn three_servers_and_two_agents_are_one_cluster() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 2);
    for server in cluster.servers() {
        let nodes = cluster.ctl(server, &["get", "nodes"]).ok();
        for name in ["s1", "s2", "s3", "a1", "a2"] {
            let line = nodes.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.contains(" Ready")), "{nodes}");
        }
        let nodes = cluster.kubectl(server, &["get", "nodes", "-o", "name"]).ok();
        assert_eq!(nodes.lines().count(), 5, "{nodes}");
        let servers = cluster.ctl(server, &["get", "servers"]).ok();
        assert!(["s1", "s2", "s3"].iter().all(|name| servers.contains(name)), "{servers}");
    }
    // A write through any server is read from any other at once.
    for (n, server) in cluster.servers().enumerate() {
        let name = format!("from-{n}");
        let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        let file = cluster.file(&format!("{name}.yaml"), map);
        cluster.kubectl(server, &["apply", "-f", &file]).ok();
        for other in cluster.servers() {
            cluster.kubectl(other, &["get", "configmap", &name]).ok();
        }
    }
    spread(&cluster);
}

/// A Deployment of five lands on all five boards, since they have the same to give.
fn spread(cluster: &Cluster) {
    cluster.load_example();
    let server = &cluster.boards[1];
    let file = cluster.file("spread.yaml", super::pods::deployment("spread", 5));
    cluster.kubectl(server, &["apply", "-f", &file]).ok();
    cluster.kubectl(server, &["rollout", "status", "deployment/spread", "--timeout=50s"]).ok();
    let path = "jsonpath={range .items[*]}{.spec.nodeName} {end}";
    let args = ["get", "pods", "-l", "app=spread", "-o", path];
    let on = cluster.kubectl(&cluster.boards[2], &args).ok();
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    for node in on.split_whitespace() {
        *count.entry(node).or_default() += 1;
    }
    assert_eq!(count.len(), 5, "a pod on each board: {count:?}");
}

#[test]
fn a_leader_may_be_lost_at_any_time() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    let killed = failover::edged(&cluster, Loss::Again, 5);
    assert!(killed.iter().all(|ms| *ms < KILLED), "{killed:?}");
    for silent in [Loss::Cable, Loss::Pause] {
        let took = failover::edged(&cluster, silent, 1);
        assert!(took.iter().all(|ms| *ms < UNPLUGGED), "{silent:?}: {took:?}");
    }
    let handed = failover::edged(&cluster, Loss::Transfer, 3);
    assert!(handed.iter().all(|ms| *ms < 1000.0), "{handed:?}");
    let stopped = failover::edged(&cluster, Loss::Stop, 1);
    assert!(stopped.iter().all(|ms| *ms < KILLED), "{stopped:?}");
}

/// Loss and jitter, with both cores busy: the leader stays who it is.
#[test]
fn nobody_is_elected_without_need() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(3, 0);
    let minutes = std::env::var("EDGED_LAB_CALM_MINUTES").ok();
    let long = minutes.map(|text| text.parse::<u64>().expect("EDGED_LAB_CALM_MINUTES") * 60);
    let changes = changes_in_bad_weather(&cluster, Duration::from_secs(long.unwrap_or(15)));
    assert_eq!(changes, 0, "a leader was replaced without need");
}
