//! An Ingress under abuse: idle connections by the thousand, clients that dribble, floods of first
//! packets, words that are no HTTP, packets with a sender that is not theirs. Somebody who behaves
//! is served all the while, and the board's memory stays where it was.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::Ended;
use super::abuse_packets::Forge;
use super::board::{Board, address};
use super::chance::Chance;
use super::cluster::{Cluster, PERSON, seed};
use super::load::runtime;
use super::traffic_places::Place;
use crate::board::command::until;

const HOST: &str = "abuse.test";
const NODE_PORT: u16 = 30711;
/// Idle connections, and the addresses that they come from.
const IDLE: usize = 10_000;
const ADDRESSES: u8 = 40;
/// Connections without a request that a board keeps, in all and of one address (see
/// `docs/ingress.md`).
const HELD: usize = 1024;
const HELD_OF_ONE: usize = 256;
/// What all of it may cost the board in memory, debug build.
const GROWTH_KB: u64 = 24 << 10;
/// First packets of connections that never go on, to each of two ports.
const SYNS: u32 = 20_000;
/// Nonsense sent to the port.
const NONSENSE: usize = 200;
/// A connection may say nothing for 15 s; who has to make room for another goes at once.
const SOON: Duration = Duration::from_secs(6);
/// How long somebody who behaves may wait: a lost first packet is sent again after 1 s.
const PATIENCE: Duration = Duration::from_secs(5);

fn manifest() -> String {
    let deployment = super::pods::deployment("abuse", 2);
    format!(
        "{deployment}---
apiVersion: v1
kind: Service
metadata: {{name: abuse}}
spec:
  type: NodePort
  selector: {{app: abuse}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: abuse}}
spec:
  rules:
  - host: {HOST}
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: abuse, port: {{number: 80}}}}}}}}
"
    )
}

/// One whole request over a connection of its own.
fn request(to: SocketAddr) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let whole = answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n");
    whole.then_some(()).ok_or(format!("answered {answer:?}"))
}

/// What somebody who behaves saw, since it was last asked.
#[derive(Default)]
struct Seen {
    count: u32,
    slowest: Duration,
    failed: Vec<String>,
}

/// Asks all these without pause, until all is done.
fn behave(place: &Place, to: &[SocketAddr], seen: &Mutex<Seen>, done: &AtomicBool) {
    place.enter();
    for to in to.iter().cycle() {
        if done.load(Ordering::Acquire) {
            break;
        }
        let begin = Instant::now();
        let outcome = request(*to);
        let mut seen = seen.lock().expect("what was seen");
        seen.count += 1;
        seen.slowest = seen.slowest.max(begin.elapsed());
        seen.failed.extend(outcome.err().map(|why| format!("{to}: {why}")));
        drop(seen);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says how it went for whoever behaves, and fails if it did not go well.
#[track_caller]
fn served(seen: &Mutex<Seen>, during: &str, board: &Board) {
    until("others are being served", || {
        let count = seen.lock().expect("what was seen").count;
        (count > 2).then_some(()).ok_or(format!("{count}"))
    });
    let seen = std::mem::take(&mut *seen.lock().expect("what was seen"));
    let (count, slowest, memory) = (seen.count, seen.slowest, memory_kb(board));
    println!("{during}: {count} others served, slowest {slowest:?}; the board has {memory} kB");
    assert!(seen.failed.is_empty(), "{during}: {:?} of {count}", seen.failed);
}

fn memory_kb(board: &Board) -> u64 {
    let pid = board.pid().expect("edged runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(board: &Board) -> usize {
    let pid = board.pid().expect("edged runs");
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

/// Connections to port 80 that the board's kernel has open, by who made them.
fn open(board: &Board, of: Option<Ipv4Addr>) -> usize {
    let tables = board.within(|| {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        read("/proc/thread-self/net/tcp") + &read("/proc/thread-self/net/tcp6")
    });
    let peer = of.map(|ip| format!("{:08X}:", u32::from_le_bytes(ip.octets())));
    let established = tables.lines().filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() > 3 && words[1].ends_with(":0050") && words[3] == "01"
    });
    let ours = established.filter(|line| peer.as_ref().is_none_or(|peer| line.contains(peer)));
    ours.count()
}

/// The attacker's addresses.
fn attacker(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 78, 120 + n)
}

/// Opens so many connections, each from the next of these addresses.
fn connect(
    place: &Place,
    from: &[Ipv4Addr],
    count: usize,
    to: SocketAddr,
) -> Vec<std::net::TcpStream> {
    let dial = |from: Ipv4Addr| async move {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind((from, 0).into()).ok()?;
        let stream = tokio::time::timeout(PATIENCE, socket.connect(to)).await.ok()?.ok()?;
        stream.into_std().ok()
    };
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            place.enter();
            runtime().block_on(async {
                let mut made = Vec::new();
                for part in (0..count).collect::<Vec<_>>().chunks(100) {
                    let tasks: Vec<_> =
                        part.iter().map(|n| tokio::spawn(dial(from[n % from.len()]))).collect();
                    for task in tasks {
                        made.extend(task.await.expect("no panic"));
                    }
                }
                made
            })
        });
        work.join().expect("no panic")
    })
}

/// Many that connect and say nothing: of all and of one address only so many are kept.
fn idle(board: &Board, place: &Place, to: SocketAddr) {
    let many: Vec<Ipv4Addr> = (0..ADDRESSES).map(attacker).collect();
    let begin = Instant::now();
    let held = connect(place, &many, IDLE, to);
    println!("{} idle connections in {:?}", held.len(), begin.elapsed());
    assert!(held.len() > IDLE * 99 / 100, "only {} connections", held.len());
    soon("only so many are kept", || open(board, None), HELD + 8);
    println!("kept: {} of all, {} of one address", open(board, None), open(board, Some(many[0])));
    let one = connect(place, &many[..1], 2 * HELD_OF_ONE, to);
    assert!(one.len() > HELD_OF_ONE, "{}", one.len());
    soon("only so many of one address are kept", || open(board, Some(many[0])), HELD_OF_ONE);
}

/// Long before the first of them has waited too long.
#[track_caller]
fn soon(what: &str, count: impl Fn() -> usize, most: usize) {
    let begin = Instant::now();
    until(what, || {
        let now = count();
        (now <= most).then_some(()).ok_or(format!("{now}"))
    });
    assert!(begin.elapsed() < SOON, "{what}: after {:?}", begin.elapsed());
}

/// Heads and bodies that come a byte at a time.
fn dribble(place: &Place, to: SocketAddr) {
    let mut heads = connect(place, &[attacker(1)], 200, to);
    let mut bodies = connect(place, &[attacker(2)], 100, to);
    let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ");
    let body = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n");
    for stream in heads.iter_mut().chain(&mut bodies) {
        stream.set_nonblocking(false).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    }
    for (streams, first) in [(&mut heads, &head), (&mut bodies, &body)] {
        for stream in streams {
            let _ = stream.write_all(first.as_bytes());
        }
    }
    for _ in 0..20 {
        for stream in heads.iter_mut().chain(&mut bodies) {
            let _ = stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// First packets from addresses that nobody has.
fn flood(place: &Place, to: [SocketAddrV4; 2]) {
    place.enter();
    let forge = Forge::new();
    let mut chance = Chance::new(seed());
    for n in 0..SYNS {
        let [_, _, a, b, ports @ ..] = chance.next().to_be_bytes();
        let from = Ipv4Addr::new(198, 18, a, b);
        let port = u16::from_be_bytes([ports[0], ports[1]]) | 1024;
        for to in to {
            forge.syn(SocketAddrV4::new(from, port), to, n);
        }
        if n % 500 == 499 {
            std::thread::sleep(Duration::from_millis(40));
        }
    }
}

/// What is no HTTP, or wants to be two requests, and what chance makes of requests.
fn nonsense(place: &Place, to: SocketAddr) {
    let smuggled = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\
         \r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    );
    let huge = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Huge: {}\r\n\r\n", "x".repeat(1 << 20));
    let whole =
        format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n").into_bytes();
    let frames = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![0xff; 64]].concat();
    let mut all = vec![smuggled.into_bytes(), huge.into_bytes(), frames.clone(), vec![0; 4096]];
    let mut chance = Chance::new(seed());
    for n in 0..NONSENSE {
        let mut bytes = if n % 3 == 0 { frames.clone() } else { whole.clone() };
        for _ in 0..=chance.below(6) {
            let at = chance.below(bytes.len());
            bytes[at] = chance.next() as u8;
        }
        all.push(bytes);
    }
    place.enter();
    for bytes in all {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("it still listens");
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = stream.write_all(&bytes);
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{:?}: {answer}", String::from_utf8_lossy(&bytes));
    }
}

/// A datagram that says it comes from a Service, a pod or the board itself does not arrive; nor
/// does the board's DNS answer the LAN.
fn spoofed(cluster: &Cluster, place: &Place, board: &Board) {
    let pods = cluster.pods("abuse");
    let here = pods.iter().find(|pod| pod["spec"]["nodeName"] == board.name.as_str());
    let here = here.expect("a pod on this board");
    let text = |value: &edge_api::Object| value.as_str().unwrap_or_default().to_owned();
    let pod: Ipv4Addr = text(&here["status"]["podIP"]).parse().expect("an address");
    let net = board.dir.join("run1/pods").join(text(&here["metadata"]["uid"])).join("net");
    cluster.person.ip(&format!("route add 10.42.0.0/15 via {}\n", board.ip));
    let inside = Place::new("pod", net);
    let (place, person) = (place.clone(), address(PERSON));
    let heard = std::thread::scope(|scope| {
        let socket = scope.spawn(|| {
            inside.enter();
            UdpSocket::bind((pod, 9999)).expect("a socket")
        });
        let socket = socket.join().expect("no panic");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
        scope.spawn(move || {
            place.enter();
            let forge = Forge::new();
            let to = SocketAddrV4::new(pod, 9999);
            let neighbour = Ipv4Addr::from(u32::from(pod) + 1);
            for from in [Ipv4Addr::new(10, 43, 0, 1), pod, neighbour, Ipv4Addr::LOCALHOST, person] {
                forge.datagram(SocketAddrV4::new(from, 4000), to, from.to_string().as_bytes());
            }
            let asker = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            asker.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
            let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";
            asker.send_to(question, "10.43.0.10:53").expect("sent");
            assert!(asker.recv(&mut [0; 512]).is_err(), "the board's DNS answers the LAN");
        });
        let mut heard = Vec::new();
        let mut text = [0; 64];
        while let Ok(length) = socket.recv(&mut text) {
            heard.push(String::from_utf8_lossy(&text[..length]).into_owned());
        }
        heard
    });
    assert_eq!(heard, [person.to_string()], "only what says truly who sent it");
}

#[test]
fn who_behaves_is_served_while_others_do_their_worst() {
    if !super::can_run() {
        return;
    }
    let _alone = super::alone();
    let cluster = Cluster::start(1, 1);
    let (server, board) = (&cluster.boards[0], &cluster.boards[1]);
    cluster.load_example();
    let file = cluster.file("abuse.yaml", manifest());
    cluster.ctl(server, &["apply", "-f", &file]).ok();
    cluster.wait_running("abuse", 2);
    for n in 0..ADDRESSES {
        cluster.person.ip(&format!("addr add {}/32 dev lan0\n", attacker(n)));
    }
    let place = Place::new("outside", cluster.person.path());
    let (proxy, port) = (SocketAddrV4::new(board.ip, 80), SocketAddrV4::new(board.ip, NODE_PORT));
    let all = [SocketAddr::from(proxy), SocketAddr::from(port)];
    until("the Ingress answers", || place.within(|| all.into_iter().try_for_each(request)));
    let (before, files) = (memory_kb(board), descriptors(board));
    println!("the board has {before} kB");
    let (seen, done) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ended = Ended(&done);
        scope.spawn(|| behave(&place, &all, &seen, &done));
        idle(board, &place, proxy.into());
        served(&seen, "idle connections", board);
        dribble(&place, proxy.into());
        served(&seen, "dribbling clients", board);
        let attack = place.clone();
        scope.spawn(move || flood(&attack, [proxy, port])).join().expect("no panic");
        served(&seen, "floods of first packets", board);
        let attack = place.clone();
        scope.spawn(move || nonsense(&attack, proxy.into())).join().expect("no panic");
        served(&seen, "nonsense", board);
        spoofed(&cluster, &place, board);
        served(&seen, "false senders", board);
        drop(ended);
    });
    let after = memory_kb(board);
    println!("the board's memory: {before} kB before, {after} kB after");
    assert!(after < before + GROWTH_KB, "{before} kB before, {after} kB after");
    until("the descriptors are as before", || {
        let now = descriptors(board);
        (now <= files + 8).then_some(()).ok_or(format!("{now}, {files} before"))
    });
}
