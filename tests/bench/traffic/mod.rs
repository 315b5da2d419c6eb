//! What a Service costs: from pod to pod directly, through our rules, through those that kube-proxy
//! would make (by `nft`), through haproxy, and through edged itself as on a kernel without
//! nf_tables; in turns in one run. And how long the rules take to follow one changed endpoint, with
//! few and with many Services, and one changed pod among many with policies.
//!
//! `edge-bench traffic [--quick] [--only ways|change] [--out NAME]`

mod change;
mod client;
pub(crate) mod peers;
mod policies;
mod spliced;

use std::net::SocketAddr;

use crate::lab::cluster::Cluster;
use crate::table::{Table, percentile};
use client::Effort;

/// What answers in the pod, and what the Service calls it.
const PORT: u16 = 7100;
const SERVICE_PORT: u16 = 7101;
/// The way on a board of its own.
const SPLICE: &str = "edged without nf_tables";

const PODS: &str = "
apiVersion: v1
kind: Service
metadata: {name: answers}
spec:
  selector: {app: answers}
  ports: [{port: 7101, targetPort: 7100}]
---
apiVersion: v1
kind: Pod
metadata: {name: answers, labels: {app: answers}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'edged/webserver:1', imagePullPolicy: IfNotPresent}]
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'edged/webserver:1', imagePullPolicy: IfNotPresent}]
";

/// One field of an object, as `kubectl` prints it.
pub(crate) fn field(cluster: &Cluster, kind: &str, name: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    cluster.kubectl(&cluster.boards[0], &["get", kind, name, "-o", &path]).ok()
}

/// Where a pod's network is.
pub(crate) fn network(cluster: &Cluster, pod: &str) -> std::path::PathBuf {
    let uid = field(cluster, "pod", pod, ".metadata.uid");
    cluster.boards[0].dir.join("run1/pods").join(uid).join("net")
}

/// The whole subcommand.
pub(crate) fn compare(quick: bool, only: Option<&str>) -> Table {
    let mut table = Table::new();
    if only.is_none_or(|only| only == "ways") {
        ways(&mut table, quick);
    }
    if only.is_none_or(|only| only == "change") {
        change::measure(&mut table, quick);
    }
    table
}

/// What was measured of one way.
#[derive(Default)]
struct Figures {
    latency: Vec<f64>,
    rate: Vec<f64>,
    throughput: Vec<f64>,
}

fn ways(table: &mut Table, quick: bool) {
    let effort = Effort::new(quick);
    let cluster = Cluster::start(1, 0);
    let board = &cluster.boards[0];
    cluster.load_example();
    let file = cluster.file("pods.yaml", PODS);
    cluster.kubectl(board, &["apply", "-f", &file]).ok();
    let ready = ["wait", "--for=condition=Ready", "pod/answers", "pod/asks", "--timeout=50s"];
    cluster.kubectl(board, &ready).ok();
    let pod = field(&cluster, "pod", "answers", ".status.podIP").parse().expect("an address");
    let service = field(&cluster, "service", "answers", ".spec.clusterIP");
    let service = service.parse().expect("an address");
    client::answer(network(&cluster, "answers"));
    let direct = SocketAddr::new(pod, PORT);
    let mut ways = vec![("direct", direct), ("edged", SocketAddr::new(service, SERVICE_PORT))];
    ways.extend(peers::nft(board, direct).map(|to| ("nft as kube-proxy", to)));
    let haproxy = peers::haproxy(&cluster, direct);
    ways.extend(haproxy.as_ref().map(|peer| ("haproxy", peer.address)));
    let spliced = spliced::Board::start();
    client::answer(spliced.answers.clone());
    ways.push((SPLICE, spliced.address));
    let asks = network(&cluster, "asks");
    let mut figures: Vec<Figures> = ways.iter().map(|_| Figures::default()).collect();
    for round in 0..effort.rounds {
        for n in 0..ways.len() {
            let n = (n + round) % ways.len();
            let ((name, to), figures) = (ways[n], &mut figures[n]);
            let asks = if name == SPLICE { &spliced.asks } else { &asks };
            figures.latency.extend(client::latency(asks, to, effort.pings));
            figures.rate.push(client::connections(asks, to, effort.length));
            figures.throughput.push(client::throughput(asks, to, effort.length));
        }
    }
    tell(table, &ways, &figures);
}

fn tell(table: &mut Table, ways: &[(&str, SocketAddr)], figures: &[Figures]) {
    type Pick = fn(&Figures) -> &Vec<f64>;
    let rows: [(&str, &'static str, Pick); 3] = [
        ("round trip of 64 bytes", "us", |figures| &figures.latency),
        ("new connections, each asked once", "1/s", |figures| &figures.rate),
        ("throughput of one connection", "MB/s", |figures| &figures.throughput),
    ];
    for (what, unit, pick) in rows {
        let direct = percentile(pick(&figures[0]), 0.5);
        for ((name, _), figures) in ways.iter().zip(figures) {
            let peer = (*name != "direct").then_some(("direct", direct));
            table.add(&format!("{name}: {what}"), unit, pick(figures), None, peer);
        }
    }
}
