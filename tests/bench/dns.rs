//! Names: the board's own server beside dnsmasq and unbound on the same board, asked from a pod, in
//! turns in one run: how long one asker waits, and how many answers a second several get.
//!
//! `edge-bench dns [--quick] [--out NAME]`

use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_core::dns::{Name, Query, code, kind, listen};

use super::footprint::memory;
use super::table::{Table, percentile};
use super::traffic::network;
use super::traffic::peers::{Peer, has};
use crate::board::command::until;
use crate::lab::asking::DNS;
use crate::lab::cluster::Cluster;
use crate::lab::traffic_places::Place;

/// Names that are asked for in turn.
const NAMES: usize = 100;
/// Askers at once where answers are counted.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(2);
/// unbound's port; dnsmasq has 53, so that the board itself can ask it.
const UNBOUND: u16 = 5302;

/// Somebody who answers, and for what.
struct Server {
    name: &'static str,
    at: SocketAddr,
    domain: &'static str,
    latency: Vec<f64>,
    rate: Vec<f64>,
}

impl Server {
    fn new(name: &'static str, at: SocketAddr, domain: &'static str) -> Server {
        Server { name, at, domain, latency: Vec::new(), rate: Vec::new() }
    }
}

/// The whole subcommand.
pub(crate) fn compare(quick: bool) -> Table {
    let (rounds, count, seconds) = if quick { (3, 1000, 1) } else { (8, 10_000, 3) };
    let cluster = Cluster::dark(1, 0);
    let board = &cluster.boards[0];
    let resolv = cluster.file("resolv.conf", format!("nameserver {}\n", board.ip));
    cluster.form(&["--resolv-conf", &resolv]);
    cluster.load_example();
    let file = cluster.file("names.yaml", manifest());
    cluster.kubectl(board, &["apply", "-f", &file]).ok();
    cluster.kubectl(board, &["wait", "--for=condition=Ready", "pod/asks"]).ok();
    let place = Place::new("asks", network(&cluster, "asks"));
    let (dnsmasq, unbound) = (dnsmasq(&cluster), unbound(&cluster));
    let mut servers = vec![Server::new("edged, Services", DNS, "default.svc.cluster.local")];
    if let Some(peer) = &dnsmasq {
        servers.push(Server::new("edged, others' names remembered", DNS, "bench.lan"));
        servers.push(Server::new("dnsmasq", peer.address, "bench.lan"));
    }
    servers.extend(unbound.iter().map(|peer| Server::new("unbound", peer.address, "bench.lan")));
    for round in 0..rounds {
        for n in 0..servers.len() {
            let at = (n + round) % servers.len();
            let server = &mut servers[at];
            server.latency.extend(latency(&place, server, count));
            server.rate.push(rate(&place, server, Duration::from_secs(seconds)));
        }
    }
    let mut table = Table::new();
    tell(&mut table, &servers);
    let pid = board.pid().expect("edged runs").as_raw();
    table.one("edged, all of it: RSS", "MiB", memory(pid).0 / 1048576.0, None);
    for (name, peer) in [("dnsmasq", &dnsmasq), ("unbound", &unbound)] {
        if let Some(peer) = peer {
            let pid = i32::try_from(peer.child.id()).expect("a process id");
            table.one(&format!("{name}: RSS"), "MiB", memory(pid).0 / 1048576.0, None);
        }
    }
    table
}

fn tell(table: &mut Table, servers: &[Server]) {
    let peer = servers.iter().find(|server| server.name == "dnsmasq");
    for server in servers {
        let to = peer.filter(|peer| peer.name != server.name);
        let latency = to.map(|peer| ("dnsmasq", percentile(&peer.latency, 0.5)));
        table.add(&format!("{}: answer", server.name), "us", &server.latency, None, latency);
        let rate = to.map(|peer| ("dnsmasq", percentile(&peer.rate, 0.5)));
        let what = format!("{}: answers, {AT_ONCE} askers", server.name);
        table.add(&what, "1/s", &server.rate, None, rate);
    }
}

fn manifest() -> String {
    let mut text = "
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'edged/webserver:1', imagePullPolicy: IfNotPresent}]
"
    .to_owned();
    for n in 0..NAMES {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: n{n}}}\nspec: {{ports: [{{port: \
             80}}]}}\n"
        );
    }
    text
}

/// dnsmasq on the board's own address.
fn dnsmasq(cluster: &Cluster) -> Option<Peer> {
    if !has("dnsmasq") {
        return None;
    }
    let board = &cluster.boards[0];
    let records: String =
        (0..NAMES).map(|n| format!("host-record=n{n}.bench.lan,192.0.2.{n},300\n")).collect();
    let text = format!(
        "no-resolv\nno-hosts\nno-daemon\nlisten-address={}\nbind-interfaces\nuser=root\n\
         pid-file=\n{records}",
        board.ip
    );
    let file = cluster.file("dnsmasq.conf", text);
    let mut command = board.inside("dnsmasq");
    command.args(["-C", &file]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("dnsmasq starts");
    Some(answering(cluster, Peer { child, address: SocketAddr::new(board.ip.into(), 53) }))
}

fn unbound(cluster: &Cluster) -> Option<Peer> {
    if !has("unbound") {
        return None;
    }
    let board = &cluster.boards[0];
    let records: String =
        (0..NAMES).map(|n| format!("  local-data: \"n{n}.bench.lan. A 192.0.2.{n}\"\n")).collect();
    let text = format!(
        "server:\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  \
         use-syslog: no\n  interface: {0}@{UNBOUND}\n  access-control: 0.0.0.0/0 allow\n  \
         num-threads: 1\n  local-zone: \"bench.lan.\" static\n{records}remote-control:\n  \
         control-enable: no\n",
        board.ip
    );
    let file = cluster.file("unbound.conf", text);
    let mut command = board.inside("unbound");
    command.args(["-d", "-c", &file]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("unbound starts");
    Some(answering(cluster, Peer { child, address: SocketAddr::new(board.ip.into(), UNBOUND) }))
}

fn answering(cluster: &Cluster, peer: Peer) -> Peer {
    cluster.boards[0].within(|| {
        until("a peer answers", || ask(&socket(peer.address), "n0.bench.lan"));
    });
    peer
}

fn socket(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(at).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket
}

fn ask(socket: &UdpSocket, name: &str) -> Result<(), String> {
    let name = Name::new(name).expect("a name");
    let (recursion, unchecked, edns) = (true, false, None);
    let query = Query { id: 5, recursion, unchecked, name, kind: kind::A, class: 1, edns };
    let question = edge_core::dns::ask(5, &query, &query.name, true);
    socket.send(&question).map_err(|error| error.to_string())?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
    let heard = listen(&buffer[..length], 5, &query, &query.name).ok_or("another's answer")?;
    (heard.code == code::NONE).then_some(()).ok_or_else(|| format!("code {}", heard.code))
}

/// Answers to one asker, in microseconds.
fn latency(place: &Place, server: &Server, count: usize) -> Vec<f64> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            place.enter();
            let socket = socket(server.at);
            let one = |n: usize| {
                let begin = Instant::now();
                let name = format!("n{}.{}", n % NAMES, server.domain);
                ask(&socket, &name).unwrap_or_else(|why| panic!("{name}: {why}"));
                begin.elapsed().as_secs_f64() * 1e6
            };
            // Each name once first: what has to be found out is not what is measured.
            (0..NAMES).for_each(|n| _ = one(n));
            (0..count).map(one).collect()
        });
        thread.join().expect("no panic")
    })
}

/// Answers a second to several askers.
fn rate(place: &Place, server: &Server, length: Duration) -> f64 {
    let count = AtomicU64::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for asker in 0..AT_ONCE {
            let count = &count;
            scope.spawn(move || {
                place.enter();
                let socket = socket(server.at);
                let mut n = asker;
                while begin.elapsed() < length {
                    n += 1;
                    let name = format!("n{}.{}", n % NAMES, server.domain);
                    ask(&socket, &name).unwrap_or_else(|why| panic!("{name}: {why}"));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    count.into_inner() as f64 / begin.elapsed().as_secs_f64()
}
