//! One question to one other server, over UDP and, when the answer is too long for it, TCP. Each
//! has a socket, so a port, and a number of its own, drawn at random: who can't see the question
//! can't answer it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use edge_core::dns::{Heard, Name, Query, ask, code, listen};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Bytes of a datagram that are read.
const DATAGRAM: usize = 4096;
/// A server takes no longer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A number that nobody guesses.
pub(super) fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let failed = |_| io::Error::other("the system gives no random numbers");
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Asks one server.
pub(super) async fn server(at: SocketAddr, query: &Query, name: &Name) -> io::Result<Heard> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut heard = timeout(PATIENCE, datagram(at, query, name, true)).await.map_err(late)??;
    if matches!(heard.code, code::FORMAT | code::NOT_IMPLEMENTED) {
        // It knows nothing newer than RFC 1035.
        heard = timeout(PATIENCE, datagram(at, query, name, false)).await.map_err(late)??;
    }
    if heard.truncated {
        match timeout(PATIENCE, stream(at, query, name)).await {
            Ok(Ok(whole)) => return Ok(whole),
            // The part that came is better than nothing, and says that it is one.
            Ok(Err(error)) => tracing::debug!("DNS: ask {at} over TCP: {error}"),
            Err(_) => tracing::debug!("DNS: ask {at} over TCP: no answer in time"),
        }
    }
    Ok(heard)
}

fn low(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

async fn datagram(at: SocketAddr, query: &Query, name: &Name, edns: bool) -> io::Result<Heard> {
    let any: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(at).await?;
    let id = low(number()?);
    socket.send(&ask(id, query, name, edns)).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(heard) = listen(&buffer[..length], id, query, name) {
            return Ok(heard);
        }
    }
}

async fn stream(at: SocketAddr, query: &Query, name: &Name) -> io::Result<Heard> {
    let mut stream = TcpStream::connect(at).await?;
    let id = low(number()?);
    let question = ask(id, query, name, true);
    let mut message = u16::try_from(question.len()).unwrap_or(0).to_be_bytes().to_vec();
    message.extend_from_slice(&question);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "what came back is no answer");
    listen(&buffer, id, query, name).ok_or_else(odd)
}
