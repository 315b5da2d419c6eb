//! What answers in a sandbox: by TCP and UDP, with the board's name and the asker's address; by UDP
//! also with how many bytes have come.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::PORT;
use crate::net::within;

/// The largest datagram that is read.
const DATAGRAM: usize = 65_535;
/// Pause after the system could not accept or read.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the value is dropped.
pub(super) async fn start(namespace: Option<PathBuf>, board: String) -> io::Result<JoinSet<()>> {
    let made = || {
        let any = (Ipv4Addr::UNSPECIFIED, PORT);
        let (tcp, udp) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok((tcp, udp))
    };
    let (tcp, udp) = within(namespace, made).await?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    let udp = tokio::net::UdpSocket::from_std(udp)?;
    let mut answering = JoinSet::new();
    answering.spawn(connections(tcp, board.clone()));
    answering.spawn(datagrams(udp, board));
    Ok(answering)
}

async fn connections(listener: tokio::net::TcpListener, board: String) {
    loop {
        match listener.accept().await {
            // The answer fits any buffer, so nobody waits for a slow reader.
            Ok((mut stream, from)) => {
                let answer = format!("{board} {}\n", from.ip());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn datagrams(socket: tokio::net::UdpSocket, board: String) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let answer = format!("{board} {} {length}\n", from.ip());
                let _ = socket.send_to(answer.as_bytes(), from).await;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
