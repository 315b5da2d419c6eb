//! A connection to a port of a pod, from within it: also programs that listen on the pod's loopback
//! only are reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};

use crate::net::within;

/// How long a program may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a pod's ports are.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) uid: String,
    /// The pod's network; the board's without one.
    pub(super) namespace: Option<PathBuf>,
}

impl Dial {
    /// Connects to a port by IPv4, or else by IPv6. The error is what kubelets say.
    pub(super) async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let four = match self.to(Ipv4Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let six = match self.to(Ipv6Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let namespace = match &self.namespace {
            Some(path) => path.display().to_string(),
            None => "host".to_owned(),
        };
        Err(self.failed(
            port,
            &format!(
                "failed to connect to localhost:{port} inside namespace \"{namespace}\", \
                 IPv4: dial tcp4 127.0.0.1:{port}: {} IPv6 dial tcp6 [::1]:{port}: {} ",
                words(&four),
                words(&six)
            ),
        ))
    }

    /// An error about a port, as kubelets begin it.
    pub(super) fn failed(&self, port: u16, why: &str) -> String {
        format!("error forwarding port {port} to pod {}, uid : {why}", self.uid)
    }

    async fn to(&self, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
        let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made =
            move || -> io::Result<OwnedFd> { Ok(socket(family, SockType::Stream, flags, None)?) };
        let fd = within(self.namespace.clone(), made).await?;
        let socket = TcpSocket::from_std_stream(fd.into());
        let connected = socket.connect(SocketAddr::new(ip, port));
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = tokio::time::timeout(PATIENCE, connected).await.map_err(late)??;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// An error of the system, in the words that people know from Go programs.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::AddrNotAvailable => "connect: cannot assign requested address".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}
