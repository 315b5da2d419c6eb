//! The program that guests ask and answer with: a shell alone can't speak UDP to many at once, and
//! every process costs a guest without hardware help a tenth of a second.
//!
//! `edge-probe serve NAME [IP]` answers there, or everywhere, with its name and the asking one's
//! address, by TCP and UDP, tells each datagram on its output, and sends all back that comes to
//! the port above. `edge-probe ask WAY…` asks all ways, some at a time, and prints a line for
//! each: `WAY ok SERVER PEER`, or `WAY failed WHY`. A way is `tcp=IP:PORT`, `udp=IP:PORT`,
//! `tcp-name=NAME:PORT`, `udp-name=NAME:PORT` (the cluster's DNS is asked by the same protocol),
//! `page=IP:PORT/HOST` or `bulk=IP:PORT`, which has 64 KiB sent there and back.

#[path = "../../lab/asking.rs"]
#[allow(dead_code)]
mod asking;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use asking::{Answer, PORT, Transport, addresses, ask, page, serve};

/// What is sent there and back.
const BULK: usize = 64 << 10;
/// So many ways are asked at a time: more would wait for each other on a guest's one processor.
const AT_ONCE: usize = 4;
/// A name is asked for so often: half a second is short for a guest, and its server may have to ask
/// another one.
const LOOKUPS: usize = 4;
/// How long that may take, between two bytes.
const BULK_PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, [name])) if verb == "serve" => answer_all(name, Ipv4Addr::UNSPECIFIED),
        Some((verb, [name, at])) if verb == "serve" => {
            answer_all(name, at.parse().expect("an address"));
        }
        Some((verb, ways)) if verb == "ask" => ask_all(ways),
        _ => {
            eprintln!("edge-probe serve NAME [IP] | ask WAY…");
            std::process::exit(64);
        }
    }
}

fn answer_all(name: &str, at: Ipv4Addr) {
    let listen = |port| TcpListener::bind((at, port)).expect("listen");
    let (tcp, bulk) = (listen(PORT), listen(PORT + 1));
    let udp = UdpSocket::bind((at, PORT)).expect("listen");
    tcp.set_nonblocking(true).expect("a listener");
    udp.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        for stream in bulk.incoming().flatten() {
            let _ = send_back(stream);
        }
    });
    loop {
        serve(name, &tcp, &udp, |peer, words| {
            println!("heard {} from {}", String::from_utf8_lossy(words), peer.ip());
        });
    }
}

fn send_back(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(BULK_PATIENCE))?;
    let mut all = Vec::new();
    Read::by_ref(&mut stream).take(BULK as u64 * 2).read_to_end(&mut all)?;
    stream.write_all(&all)
}

fn ask_all(ways: &[String]) {
    for some in ways.chunks(AT_ONCE) {
        let asked = some.iter().map(|way| {
            let own = way.clone();
            (way, std::thread::spawn(move || one(&own)))
        });
        for (way, thread) in asked.collect::<Vec<_>>() {
            match thread.join() {
                Ok(Ok(Answer { server, peer })) => println!("{way} ok {server} {peer}"),
                Ok(Err(why)) => println!("{way} failed {why}"),
                Err(_) => println!("{way} failed: a thread ended"),
            }
        }
    }
}

fn one(way: &str) -> Result<Answer, String> {
    let (how, to) = way.split_once('=').ok_or("no way")?;
    let at = || to.parse::<SocketAddr>().map_err(|error| format!("{to}: {error}"));
    match how {
        "tcp" => ask(Transport::Tcp, at()?),
        "udp" => ask(Transport::Udp, at()?),
        "tcp-name" => named(Transport::Tcp, to),
        "udp-name" => named(Transport::Udp, to),
        "bulk" => there_and_back(at()?).map_err(|error| error.to_string()),
        "page" => {
            let (to, host) = to.split_once('/').ok_or("no host")?;
            page(to.parse().map_err(|error| format!("{to}: {error}"))?, host)
        }
        _ => Err("no such way".to_owned()),
    }
}

fn named(transport: Transport, to: &str) -> Result<Answer, String> {
    let (name, port) = to.rsplit_once(':').ok_or("no port")?;
    let mut lookups = (0..LOOKUPS).map(|_| addresses(transport, name));
    let found = lookups.find_map(Result::ok).ok_or("no such name")?;
    let ip = found.first().ok_or("a name without an address")?;
    let port = port.parse().map_err(|_| "no port")?;
    ask(transport, SocketAddr::new(IpAddr::V4(*ip), port))
}

/// Sends bytes that no two packets have alike, and gets them back.
fn there_and_back(to: SocketAddr) -> std::io::Result<Answer> {
    let sent: Vec<u8> = (0..BULK / 4).flat_map(|n| (n as u32).to_be_bytes()).collect();
    let mut stream = TcpStream::connect_timeout(&to, asking::ANSWER)?;
    stream.set_read_timeout(Some(BULK_PATIENCE))?;
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    let (server, peer) = (format!("{}-bytes", back.len()), to.ip());
    if back == sent {
        return Ok(Answer { server, peer });
    }
    Err(std::io::Error::other(format!("{server} came back, others than were sent")))
}
