//! The two listening sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::connection;
use super::limits::{ACCEPT_PAUSE, DRAIN, IDLE_FOR};

/// Connections that the kernel holds until we take them.
const BACKLOG: i32 = 1024;

/// Listens on all addresses of both families, or of IPv4 where the board has no other.
pub(super) async fn bind(port: u16) -> io::Result<TcpListener> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let bound = match open(any) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        bound => bound,
    };
    let socket = bound.map_err(|error| {
        io::Error::new(error.kind(), format!("listen on port {port} for Ingresses: {error}"))
    })?;
    TcpListener::from_std(socket.into())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Serves both until `stop` turns true, then lets what is under way end.
pub(super) async fn run(
    shared: Arc<Shared>,
    plain: TcpListener,
    secure: TcpListener,
    acceptor: TlsAcceptor,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut sweep = interval(IDLE_FOR);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (accepted, tls) = tokio::select! {
            accepted = plain.accept() => (accepted, None),
            accepted = secure.accept() => (accepted, Some(acceptor.clone())),
            _ = sweep.tick() => {
                shared.routing.sweep();
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(connection::serve(
                    shared.clone(),
                    stream,
                    peer,
                    tls,
                    stop.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!("accept a connection for an Ingress: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((plain, secure));
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN + Duration::from_millis(200), drained).await.is_err() {
        connections.shutdown().await;
    }
}
