//! Questions from wherever the calling thread stands: to a server of ours by TCP and UDP, to an
//! HTTP server, and to the cluster's DNS; and the server's answers. Laboratory and guests ask by
//! them, the guests through a program of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use edge_core::dns::{Data, Name, Query, code, kind, listen, records};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What pods listen on, both by TCP and by UDP.
pub(crate) const PORT: u16 = 7001;

/// How long one connection may take: one lost packet is sent again after a second, and means
/// nothing; to a dead board it is sent in vain each time.
pub(crate) const ANSWER: Duration = Duration::from_millis(2500);

/// A datagram is sent so often before it counts as lost.
const DATAGRAMS: usize = 3;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Where the cluster's DNS answers, on every board.
pub(crate) const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10)), 53);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of an answer over UDP.
pub(crate) const DATAGRAM: usize = 1500;

/// Who answered, and whom it took the asking one for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) peer: IpAddr,
}

/// Answers on the port with the server's name and the asking one's address, whoever asks within a
/// tenth of a second or so; says each datagram's sender and words to `told`.
pub(crate) fn serve(
    name: &str,
    tcp: &TcpListener,
    udp: &UdpSocket,
    mut told: impl FnMut(SocketAddr, &[u8]),
) {
    let mut waiting =
        [PollFd::new(tcp.as_fd(), PollFlags::POLLIN), PollFd::new(udp.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut waiting, PollTimeout::from(100u8));
    while let Ok((mut stream, peer)) = tcp.accept() {
        let _ = stream.write_all(format!("{name} {}", peer.ip()).as_bytes());
    }
    let mut question = [0; 2048];
    while let Ok((length, peer)) = udp.recv_from(&mut question) {
        told(peer, &question[..length]);
        let _ = udp.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
    }
}

/// Asks whoever is behind an address, from where the calling thread stands.
pub(crate) fn ask(transport: Transport, to: SocketAddr) -> Result<Answer, String> {
    let text = match transport {
        Transport::Tcp => ask_tcp(to),
        Transport::Udp => ask_udp(to),
    };
    let text = text.map_err(|error| error.to_string())?;
    let (server, peer) = text.split_once(' ').ok_or_else(|| format!("answered {text:?}"))?;
    let peer = peer.parse().map_err(|_| format!("answered {text:?}"))?;
    Ok(Answer { server: server.to_owned(), peer })
}

/// Asks an HTTP server, by this name, which pod it is, from where the calling thread stands.
pub(crate) fn page(to: SocketAddr, host: &str) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&to, ANSWER).map_err(text)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(text)?;
    let head = format!("Host: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("GET /hostname HTTP/1.1\r\n{head}").as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let found = answer.split_once("\r\n\r\n");
    let found = found.filter(|(head, _)| head.starts_with("HTTP/1.1 200"));
    let (_, body) = found.ok_or_else(|| format!("answered {answer:?}"))?;
    Ok(Answer { server: body.trim().to_owned(), peer: Ipv4Addr::UNSPECIFIED.into() })
}

fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER / 3))?;
    let mut outcome = Err(std::io::ErrorKind::TimedOut.into());
    for _ in 0..DATAGRAMS {
        socket.send(b"?")?;
        let mut buffer = [0; 128];
        outcome = socket.recv(&mut buffer);
        if let Ok(length) = outcome {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    outcome.map(|_| String::new())
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
