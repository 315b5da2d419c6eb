//! Boards that boot with no server in reach: their pods run, find each other by name, and answer
//! behind their Service on every board, as before the power cut.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::board::Board;
use super::cluster::Cluster;
use super::lookup;
use super::traffic_places::{Place, Transport};
use crate::board::command::until;

const PATIENCE: Duration = Duration::from_secs(2);
const NODE_PORT: u16 = 30720;
const NAMES: [&str; 2] = ["web.default.svc.cluster.local", "bare.default.svc.cluster.local"];

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: boot}
  ports: [{port: 80, targetPort: 8080, nodePort: 30720}]
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec:
  clusterIP: None
  selector: {app: boot}
  ports: [{port: 8080}]
";

fn pod(board: &Board) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: on-{0}, labels: {{app: boot}}}}
spec:
  nodeName: {0}
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: edged/webserver:1
    imagePullPolicy: IfNotPresent
    readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
",
        board.name
    )
}

/// The pod that answered one request.
fn request(to: SocketAddr) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.ok_or(answer)
}

/// Everybody behind an address answers somebody in this network, and every name leads there.
fn reached(network: PathBuf, service: Ipv4Addr, pods: &[Ipv4Addr]) -> Result<(), String> {
    if !network.exists() {
        return Err(format!("no pod yet: {}", network.display()));
    }
    let place = Place::new("somebody", network);
    let want: BTreeSet<Ipv4Addr> = pods.iter().copied().collect();
    let asked = std::thread::spawn(move || {
        place.enter();
        for transport in [Transport::Udp, Transport::Tcp] {
            let found = lookup::addresses(transport, NAMES[0])?;
            if found != [service] {
                return Err(format!("{} is {found:?}", NAMES[0]));
            }
            let found: BTreeSet<_> = lookup::addresses(transport, NAMES[1])?.into_iter().collect();
            if found != want {
                return Err(format!("{} is {found:?} instead of {want:?}", NAMES[1]));
            }
        }
        let mut answered = BTreeSet::new();
        for _ in 0..20 {
            answered.insert(request(SocketAddr::new(service.into(), 80))?);
        }
        let all = answered.len() == want.len();
        all.then_some(()).ok_or_else(|| format!("{answered:?} answer"))
    });
    asked.join().expect("no panic")
}

/// The network of a board's pod after so many boots.
fn network(board: &Board, boot: u32, uid: &str) -> PathBuf {
    board.dir.join(format!("run{boot}/pods")).join(uid).join("net")
}

#[test]
fn boards_boot_without_a_server_and_serve_as_before() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 2);
    let (server, agents) = (&cluster.boards[0], &cluster.boards[1..]);
    cluster.load_example();
    let all: String = agents.iter().map(pod).collect();
    let file = cluster.file("boot.yaml", format!("{SERVICES}{all}"));
    cluster.kubectl(server, &["apply", "-f", &file]).ok();
    let ready = ["wait", "--for=condition=Ready", "pod/on-a1", "pod/on-a2", "--timeout=50s"];
    cluster.kubectl(server, &ready).ok();
    let field = |kind: &str, name: &str, path: &str| {
        let path = format!("jsonpath={{{path}}}");
        cluster.kubectl(server, &["get", kind, name, "-o", &path]).ok()
    };
    let service: Ipv4Addr = field("service", "web", ".spec.clusterIP").parse().expect("an address");
    let told = |path: &str| ["on-a1", "on-a2"].map(|pod| field("pod", pod, path));
    let uids = told(".metadata.uid");
    let ips = told(".status.podIP").map(|ip| ip.parse::<Ipv4Addr>().expect("an address"));
    for (board, uid) in agents.iter().zip(&uids) {
        until("traffic flows", || reached(network(board, 1, uid), service, &ips));
        until("the board's disk knows of it", || {
            let path = board.dir.join("data/ledger/services");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let size = text.len();
            let all = ips.iter().all(|ip| {
                let mark = format!("\"addresses\":[\"{ip}\"],\"conditions\":{{\"ready\":true");
                text.matches(&mark).count() == 2
            });
            all.then(|| println!("{} keeps {size} bytes", board.name)).ok_or(text)
        });
    }

    server.power_cut();
    agents.iter().for_each(Board::power_cut);
    // They come up with nothing but their disks.
    agents.iter().for_each(Board::power_on);
    let begin = Instant::now();
    agents.iter().for_each(Board::spawn);
    for (board, uid) in agents.iter().zip(&uids) {
        let own = board.marks().namespace.expect("a namespace");
        until("traffic flows from a pod", || reached(network(board, 2, uid), service, &ips));
        until("traffic flows from a board", || reached(own.clone().into(), service, &ips));
    }
    println!("two boards without a server serve {:?} after their start", begin.elapsed());
    for board in agents {
        let port = SocketAddr::new(IpAddr::V4(board.ip), NODE_PORT);
        cluster.person.within(|| until("a node port answers", || request(port)));
    }

    server.power_on();
    server.spawn();
    cluster.wait_ready(server, &["s1", "a1", "a2"]);
    let changed = told(".status.podIP").map(|ip| ip.parse::<Ipv4Addr>().expect("an address"));
    assert_eq!(changed, ips, "pods have kept their addresses");
    for (board, uid) in agents.iter().zip(&uids) {
        until("traffic flows again", || reached(network(board, 2, uid), service, &ips));
    }
}
