//! Questions to the cluster's DNS from wherever the calling thread stands, and a DNS server
//! outside that knows a single name.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use edge_core::dns::{
    Data, Name, Query, Record, Reply, code, encode, kind, listen, parse, records,
};

use super::board::address;
use super::cluster::{Cluster, PERSON};
use super::traffic_places::Transport;

/// Where the cluster's DNS answers, on every board.
pub(crate) const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10)), 53);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of an answer over UDP.
const DATAGRAM: usize = 1500;

/// Starts a server where the person is, which knows this name and no other; gives the text of a
/// `resolv.conf` that leads to it.
pub(crate) fn outside(cluster: &Cluster, name: &'static str, ip: Ipv4Addr) -> String {
    let at = SocketAddr::new(IpAddr::V4(address(PERSON)), 53);
    let socket = cluster.person.within(|| UdpSocket::bind(at).expect("port 53"));
    std::thread::spawn(move || {
        let mut buffer = [0; DATAGRAM];
        while let Ok((length, who)) = socket.recv_from(&mut buffer) {
            let Ok(query) = parse(&buffer[..length]) else { continue };
            let mut reply = Reply { code: code::NO_NAME, ..Reply::default() };
            if query.name.lower() == Name::new(name).expect("a name") {
                let record = Record { name: query.name.clone(), ttl: 1, data: Data::A(ip) };
                let answers = if query.kind == kind::A { vec![record] } else { Vec::new() };
                reply = Reply { answers, ..Reply::default() };
            }
            let _ = socket.send_to(&encode(&query, &reply, 512), who);
        }
    });
    format!("nameserver {}\nsearch home.lan\n", address(PERSON))
}

/// Asks the cluster's server for a name's addresses; the answer's addresses, or its code.
pub(crate) fn addresses(transport: Transport, name: &str) -> Result<Vec<Ipv4Addr>, String> {
    let name = Name::new(name).expect("a name");
    let (recursion, unchecked, edns) = (true, false, None);
    let query = Query { id: 5, recursion, unchecked, name, kind: kind::A, class: 1, edns };
    let question = edge_core::dns::ask(5, &query, &query.name, true);
    let answer = match transport {
        Transport::Tcp => by_stream(&question),
        Transport::Udp => by_datagram(&question),
    };
    let answer = answer.map_err(|error| error.to_string())?;
    let heard = listen(&answer, 5, &query, &query.name).ok_or("another's answer")?;
    if heard.code != code::NONE {
        return Err(format!("code {}", heard.code));
    }
    let addresses = records(&heard, 0).into_iter().filter_map(|record| match record.data {
        Data::A(ip) => Some(ip),
        _ => None,
    });
    Ok(addresses.collect())
}

fn by_datagram(question: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(DNS)?;
    socket.send(question)?;
    let mut buffer = vec![0; DATAGRAM];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn by_stream(question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&DNS, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).expect("a short question");
    stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
