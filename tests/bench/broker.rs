//! Our broker and Mosquitto, each in a process of its own, over the same mutual TLS, measured in
//! turns in one run: throughput, latency, lost messages, memory at rest. The client is ours.
//!
//! `edge-bench broker [--quick] [--out NAME]`

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::{CLUSTER, Client, topic, wish};
use super::footprint::memory;
use super::pki::{Pki, fixed};
use super::table::{Table, percentile};

/// Bytes of a message: about what a heartbeat or a small log entry has.
const PAYLOAD: usize = 256;

/// Clients that are connected and silent when memory is measured.
const IDLE: usize = 20;

/// A broker in a process of its own.
struct Peer {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was measured of one broker.
#[derive(Default)]
struct Figures {
    rate: [Vec<f64>; 2],
    lost: [f64; 2],
    latency: Vec<f64>,
}

/// The whole subcommand.
pub(crate) fn compare(quick: bool) -> Table {
    let (rounds, messages, pings) = if quick { (2, 20_000, 300) } else { (7, 100_000, 3000) };
    let pki = Pki::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut table = Table::new();
    let dir = std::env::temp_dir().join(format!("edb-broker-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    let peers = [mosquitto(&pki, &dir), ours(&pki)];
    let mut figures = [Figures::default(), Figures::default()];
    runtime.block_on(async {
        for _ in 0..rounds {
            for (peer, figures) in peers.iter().zip(&mut figures) {
                latency(&pki, peer, pings, figures).await;
                for qos in [0, 1] {
                    throughput(&pki, peer, qos, messages, figures).await;
                }
            }
        }
    });
    drop(peers);
    tell(&mut table, &figures);
    let peers = [mosquitto(&pki, &dir), ours(&pki)];
    runtime.block_on(at_rest(&pki, &peers, &mut table));
    drop(peers);
    let _ = std::fs::remove_dir_all(&dir);
    table
}

fn tell(table: &mut Table, [theirs, ours]: &[Figures; 2]) {
    for qos in [0, 1] {
        let peer = percentile(&theirs.rate[qos], 0.5);
        let what = |name: &str| format!("{name}: messages of {PAYLOAD} B at QoS {qos}");
        table.add(&what("mosquitto"), "1/s", &theirs.rate[qos], None, None);
        table.add(&what("edged"), "1/s", &ours.rate[qos], None, Some(("mosquitto", peer)));
        table.one(&format!("mosquitto: lost at QoS {qos}"), "messages", theirs.lost[qos], None);
        table.one(&format!("edged: lost at QoS {qos}"), "messages", ours.lost[qos], Some(0.0));
    }
    let peer = percentile(&theirs.latency, 0.5);
    table.add("mosquitto: one way, half a round trip", "ms", &theirs.latency, None, None);
    let against = Some(("mosquitto", peer));
    table.add("edged: one way, half a round trip", "ms", &ours.latency, None, against);
}

/// The hidden subcommand: our broker alone, with certificates of `dir`; says its port.
pub(crate) fn alone(dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let tls = fixed(Pki::at(dir).server("b"));
        let broker = edge_bus::broker::Broker::start(CLUSTER, listen, tls).await.expect("a port");
        println!("{}", broker.address());
        std::future::pending::<()>().await;
    });
}

fn ours(pki: &Pki) -> Peer {
    pki.server("b");
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg("broker-alone").arg(pki.directory()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("this program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("an address");
    Peer { name: "edged", child, address: line.trim().parse().expect("an address") }
}

fn mosquitto(pki: &Pki, dir: &Path) -> Peer {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("a port");
    drop(free);
    let files = pki.files("system:server:b", "edged:servers");
    let (ca, cert, key) = (files.ca.display(), files.cert.display(), files.key.display());
    let port = address.port();
    let text = format!(
        "user root\nlistener {port} 127.0.0.1\nset_tcp_nodelay true\ncafile {ca}\n\
         certfile {cert}\nkeyfile {key}\nrequire_certificate true\nallow_anonymous true\n\
         max_queued_messages 0\nmax_inflight_messages 256\n"
    );
    std::fs::write(dir.join("mosquitto.conf"), text).expect("a configuration");
    let mut command = Command::new("/usr/sbin/mosquitto");
    command.arg("-c").arg(dir.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("mosquitto: tests/setup.sh test installs it");
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Peer { name: "mosquitto", child, address }
}

async fn throughput(pki: &Pki, peer: &Peer, qos: u8, messages: usize, figures: &mut Figures) {
    let mut reader = Client::server(pki, "r", peer.address, wish(&[("raft/r", qos)])).up().await;
    let writer = Client::server(pki, "w", peer.address, wish(&[])).up().await;
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        let (to, payload) = (topic("raft/r"), Bytes::from(vec![7; PAYLOAD]));
        for n in 0..messages {
            while writer.session.publish(&to, payload.clone(), qos, false).is_err() {
                writer.session.room().await;
            }
            if n % 256 == 0 {
                writer.session.room().await;
            }
        }
        writer
    });
    let (mut got, mut last) = (0, Instant::now());
    while got < messages {
        let next = tokio::time::timeout(Duration::from_secs(3), reader.message());
        if next.await.is_err() {
            break;
        }
        (got, last) = (got + 1, Instant::now());
    }
    let rate = got as f64 / last.duration_since(begin).as_secs_f64();
    figures.rate[usize::from(qos)].push(rate);
    figures.lost[usize::from(qos)] += (messages - got) as f64;
    let writer = sending.await.expect("a writer");
    writer.session.close().await;
    reader.session.close().await;
}

async fn latency(pki: &Pki, peer: &Peer, pings: usize, figures: &mut Figures) {
    let a = Client::server(pki, "a", peer.address, wish(&[("raft/a", 0)]));
    let b = Client::server(pki, "r", peer.address, wish(&[("raft/r", 0)]));
    let (mut a, mut b) = (a.up().await, b.up().await);
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let publish = |from: &Client, to: &str| {
        from.session.publish(&topic(to), payload.clone(), 0, false).expect("room for one");
    };
    for _ in 0..pings {
        let begin = Instant::now();
        publish(&a, "raft/r");
        b.message().await;
        publish(&b, "raft/a");
        a.message().await;
        figures.latency.push(begin.elapsed().as_secs_f64() * 1e3 / 2.0);
    }
    a.session.close().await;
    b.session.close().await;
}

async fn at_rest(pki: &Pki, peers: &[Peer; 2], table: &mut Table) {
    let mib = |peer: &Peer| memory(peer.child.id() as i32).0 / 1024.0 / 1024.0;
    for peer in peers {
        tokio::time::sleep(Duration::from_millis(500)).await;
        table.one(&format!("{}: RSS, no clients", peer.name), "MiB", mib(peer), None);
        let mut clients = Vec::new();
        for n in 0..IDLE {
            let at = wish(&[("leader", 0)]);
            clients.push(Client::server(pki, &format!("idle{n}"), peer.address, at).up().await);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let what = format!("{}: RSS, {IDLE} clients at rest", peer.name);
        table.one(&what, "MiB", mib(peer), None);
    }
}
