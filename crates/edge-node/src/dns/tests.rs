//! The server against pretended servers outside, on loopback: what is asked how often, what is
//! remembered, who is asked next, and that nothing goes round.

mod crowd;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_client::watcher::Event;
use edge_core::dns::{
    Data, Heard, Name, Query, Record, Reply, Zone, ask, code, encode, kind, listen, parse, records,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::cache::{Cache, Key};
use super::{Dns, DnsConfig, Files, SharedTable, bind, serve};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

fn query(name: &str, kind: u16) -> Query {
    let name = Name::new(name).unwrap();
    Query { id: 77, recursion: true, unchecked: false, name, kind, class: 1, edns: None }
}

/// A server outside: knows `*.lan`, and counts how often it is asked.
struct Outside {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn outside(ip: [u8; 4], port: u16) -> Outside {
    let (udp, tcp) = bind((ip, port).into()).await.unwrap();
    let (at, asked) = (udp.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, who) = udp.recv_from(&mut buffer).await.unwrap();
            let query = parse(&buffer[..length]).unwrap();
            if query.kind == kind::HINFO {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(30)).await;
            udp.send_to(&told(&query, 512), who).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut buffer).await.unwrap();
            let reply = told(&parse(&buffer).unwrap(), 65_535);
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    Outside { at, asked }
}

fn told(query: &Query, limit: usize) -> Vec<u8> {
    let name = query.name.to_string();
    let many = if name.starts_with("many.") { 100 } else { 1 };
    let record = |n: u8| Record {
        name: query.name.clone(),
        ttl: 60,
        data: Data::A(Ipv4Addr::new(192, 0, 2, n)),
    };
    let mut reply = Reply { code: code::NO_NAME, ..Reply::default() };
    if name.starts_with("broken.") {
        reply.code = code::FAILURE;
    } else if name.ends_with(".lan.") {
        reply = Reply { answers: (1..=many).map(record).collect(), ..Reply::default() };
    }
    encode(query, &reply, limit)
}

/// A board's server on a port of loopback, and its files.
struct Served {
    at: SocketAddr,
    files: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.files);
    }
}

async fn board(servers: &[IpAddr], port: Option<u16>) -> Served {
    let number = DIRECTORIES.fetch_add(1, Ordering::SeqCst);
    let name = format!("edged-dns-{}-{number}.conf", std::process::id());
    let own = std::env::temp_dir().join(name);
    let lines: String = servers.iter().map(|ip| format!("nameserver {ip}\n")).collect();
    std::fs::write(&own, lines).unwrap();
    let (udp, tcp) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let at = udp.local_addr().unwrap();
    let zone = Zone {
        domain: Name::new("cluster.local").unwrap(),
        server: Ipv4Addr::new(10, 43, 0, 10),
        services: (Ipv4Addr::new(10, 43, 0, 0), 16),
        pods: (Ipv4Addr::new(10, 42, 0, 0), 16),
    };
    let behind = PathBuf::from("/nonexistent");
    let files = Files { own: own.clone(), behind, port: port.unwrap_or(at.port()) };
    let config = DnsConfig {
        zone,
        listen: at,
        pods: (Ipv4Addr::new(10, 42, 3, 0), 24),
        own: vec![IpAddr::from([192, 0, 2, 7])],
        files,
    };
    let table = SharedTable::default();
    {
        let mut table = table.write().unwrap();
        let spec = json!({ "type": "ExternalName", "externalName": "www.lan" });
        let service = json!({ "metadata": { "namespace": "ns", "name": "out" }, "spec": spec });
        table.services(&Event::Restarted(vec![service]));
        table.slices(&Event::Restarted(vec![]));
    }
    let dns = Dns::new(config, table);
    assert!(dns.serves([10, 42, 3, 9].into()) && dns.serves([192, 0, 2, 7].into()));
    assert!(!dns.serves([192, 0, 2, 8].into()) && !dns.serves([10, 42, 4, 1].into()));
    tokio::spawn(serve::udp(dns.clone(), Arc::new(udp)));
    tokio::spawn(serve::tcp(dns, tcp));
    Served { at, files: own }
}

async fn look(at: SocketAddr, query: &Query) -> Heard {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = ask(query.id, query, &query.name, query.edns.is_some());
    socket.send_to(&packet, at).await.unwrap();
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).await.unwrap();
    listen(&buffer[..length], query.id, query, &query.name).expect("an answer to the question")
}

fn shown(heard: &Heard) -> Vec<Data> {
    records(heard, 0).into_iter().map(|record| record.data).collect()
}

const ONE: Data = Data::A(Ipv4Addr::new(192, 0, 2, 1));
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn others_are_asked_once_and_remembered() {
    let outside = outside([127, 0, 0, 1], 0).await;
    let board = board(&[LOOPBACK], Some(outside.at.port())).await;
    let query = query("www.lan", kind::A);
    let many: Vec<_> = (0..10)
        .map(|_| {
            let (at, query) = (board.at, query.clone());
            tokio::spawn(async move { look(at, &query).await })
        })
        .collect();
    for asked in many {
        assert_eq!(shown(&asked.await.unwrap()), [ONE]);
    }
    assert_eq!(shown(&look(board.at, &query).await), [ONE]);
    assert_eq!(outside.asked.load(Ordering::SeqCst), 1, "ten at once, and one later");
    let alias = look(board.at, &self::query("out.ns.svc.cluster.local", kind::A)).await;
    assert_eq!(shown(&alias), [Data::Cname(Name::new("www.lan").unwrap()), ONE]);
    assert_eq!(outside.asked.load(Ordering::SeqCst), 1, "known by its own name");
    assert_eq!(look(board.at, &self::query("x.org", kind::A)).await.code, code::NO_NAME);
}

#[tokio::test]
async fn long_answers_come_over_tcp() {
    let outside = outside([127, 0, 0, 1], 0).await;
    let board = board(&[LOOPBACK], Some(outside.at.port())).await;
    let query = query("many.lan", kind::A);
    let short = look(board.at, &query).await;
    assert!(short.truncated, "100 addresses don't fit in 512 bytes");
    assert!(shown(&short).len() > 20);
    let mut stream = TcpStream::connect(board.at).await.unwrap();
    for _ in 0..2 {
        let packet = ask(9, &query, &query.name, false);
        stream.write_u16(u16::try_from(packet.len()).unwrap()).await.unwrap();
        stream.write_all(&packet).await.unwrap();
        let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut buffer).await.unwrap();
        let whole = listen(&buffer, 9, &query, &query.name).unwrap();
        assert_eq!((whole.truncated, shown(&whole).len()), (false, 100));
    }
}

#[tokio::test]
async fn who_fails_is_followed_by_the_next() {
    let good = outside([127, 0, 0, 1], 0).await;
    // Nobody listens at the first one's port.
    let first = IpAddr::from([127, 0, 0, 2]);
    let board = self::board(&[first, LOOPBACK], Some(good.at.port())).await;
    assert_eq!(shown(&look(board.at, &query("www.lan", kind::A)).await), [ONE]);
    assert_eq!(look(board.at, &query("broken.lan", kind::A)).await.code, code::FAILURE);
    let nobody = self::board(&[], Some(good.at.port())).await;
    assert_eq!(look(nobody.at, &query("www.lan", kind::A)).await.code, code::FAILURE);
    std::fs::write(&nobody.files, "# the network came up\nnameserver 127.0.0.1\n").unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while look(nobody.at, &query("www.lan", kind::A)).await.code != code::NONE {
        assert!(Instant::now() < end, "the file is read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_board_that_is_told_to_ask_itself_finds_out() {
    let board = board(&[LOOPBACK], None).await;
    let begun = Instant::now();
    assert_eq!(look(board.at, &query("www.lan", kind::A)).await.code, code::FAILURE);
    let first = begun.elapsed();
    assert!(first < Duration::from_secs(4), "one try, and no more: {first:?}");
    let begun = Instant::now();
    assert_eq!(look(board.at, &query("www2.lan", kind::A)).await.code, code::FAILURE);
    assert!(begun.elapsed() < Duration::from_secs(1), "it doesn't ask itself again");
}

#[test]
fn what_is_remembered_is_bounded_and_grows_old() {
    let mut cache = Cache::default();
    let start = Instant::now();
    let heard = |ttl| {
        let message = vec![0; 1000];
        Arc::new(Heard { code: 0, truncated: false, ttl, message })
    };
    let key = |n: u32| {
        let query = query(&format!("n{n}.lan"), kind::A);
        Key::new(&query, &query.name)
    };
    cache.put(key(0), heard(None), start);
    assert_eq!(cache.size().0, 0, "what doesn't count is not kept");
    for _ in 0..5000 {
        cache.put(key(1), heard(Some(10)), start);
    }
    assert_eq!(cache.size().0, 1);
    assert_eq!(cache.get(&key(1), start + Duration::from_secs(4)).unwrap().1, 4);
    assert!(cache.get(&key(1), start + Duration::from_secs(10)).is_none());
    for n in 0..5000 {
        cache.put(key(n), heard(Some(10)), start);
    }
    let (count, bytes) = cache.size();
    assert!(count > 300 && bytes <= 512 * 1024, "{count} {bytes}");
    assert!(cache.get(&key(4999), start).is_some() && cache.get(&key(0), start).is_none());
}
