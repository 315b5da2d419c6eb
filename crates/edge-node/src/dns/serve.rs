//! The two sockets: questions over UDP, one datagram each, and over TCP, one after the other.
//! Who asks too much waits for nobody but himself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::places::Places;
use super::{Dns, Step};

/// Questions that wait for others' answers at once, of all and of one asker; further ones are let
/// fall, and their askers ask again.
const WAITING: (usize, usize) = (256, 64);
/// Connections at once, of all and of one asker.
const CONNECTIONS: (usize, usize) = (64, 16);
/// A connection that asks nothing for so long is closed; a question takes no longer to come in,
/// nor an answer to go out.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes of a question that are read.
const QUESTION: usize = 4096;
/// After an error of a socket.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams until the socket is gone.
pub(super) async fn udp(dns: Arc<Dns>, socket: Arc<UdpSocket>) {
    let waiting = Places::new(WAITING.0, WAITING.1);
    let mut buffer = vec![0; QUESTION];
    loop {
        let (length, who) = match socket.recv_from(&mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                // An earlier answer that somebody refused is told here, too.
                tracing::debug!("DNS: receive a question: {error}");
                tokio::time::sleep(PAUSE).await;
                if gone(&error) {
                    return;
                }
                continue;
            }
        };
        if !dns.serves(who.ip()) || who.port() == 0 {
            continue;
        }
        match dns.step(&buffer[..length], true) {
            Step::Send(Some(reply)) => send(&socket, &reply, who).await,
            Step::Send(None) => {}
            Step::Ask(query, outcome) => {
                let Some(place) = waiting.take(who.ip()) else { continue };
                let (dns, socket) = (dns.clone(), socket.clone());
                tokio::spawn(async move {
                    let reply = dns.ask(&query, outcome, true).await;
                    send(&socket, &reply, who).await;
                    drop(place);
                });
            }
        }
    }
}

fn gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::ENETDOWN))
}

async fn send(socket: &UdpSocket, reply: &[u8], who: SocketAddr) {
    if let Err(error) = socket.send_to(reply, who).await {
        tracing::debug!("DNS: answer {who}: {error}");
    }
}

/// Answers connections until the listener is gone.
pub(super) async fn tcp(dns: Arc<Dns>, listener: TcpListener) {
    let places = Places::new(CONNECTIONS.0, CONNECTIONS.1);
    loop {
        match listener.accept().await {
            Ok((stream, who)) if dns.serves(who.ip()) => {
                let (dns, Some(place)) = (dns.clone(), places.take(who.ip())) else { continue };
                tokio::spawn(async move {
                    if let Err(error) = converse(&dns, stream).await {
                        tracing::debug!("DNS: connection of {who}: {error}");
                    }
                    drop(place);
                });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("DNS: accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                if gone(&error) {
                    return;
                }
            }
        }
    }
}

async fn converse(dns: &Dns, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let length = match length {
            Ok(length) => usize::from(length),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        if length > QUESTION {
            return Ok(());
        }
        buffer.resize(length, 0);
        timeout(IDLE, stream.read_exact(&mut buffer)).await??;
        let reply = match dns.step(&buffer, false) {
            Step::Send(Some(reply)) => reply,
            Step::Send(None) => return Ok(()),
            Step::Ask(query, outcome) => dns.ask(&query, outcome, false).await,
        };
        let mut message = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        message.extend_from_slice(&reply);
        timeout(IDLE, stream.write_all(&message)).await??;
    }
}
