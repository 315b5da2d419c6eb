//! Connections carried from a front to a target: two buffers each, and a bound on how many.

use super::{Busy, Carried, Shared, here, locked};
use socket2::{SockRef, TcpKeepalive};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes that wait in each direction of a connection.
const BUFFER: usize = 16 * 1024;
/// How long a target may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// Targets that are tried for one connection.
const TRIES: usize = 3;
/// A silent connection is asked for after this long, so that one whose client has gone ends.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Pause after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until dropped. What was accepted goes on.
pub(super) async fn serve(
    listener: TcpListener,
    ways: Shared,
    slots: Arc<Semaphore>,
    carried: Arc<Carried>,
) {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("accept a connection to a Service: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let IpAddr::V4(client) = peer.ip() else { continue };
        let ways = ways.clone();
        let Ok(IpAddr::V4(local)) = stream.local_addr().map(|local| local.ip()) else { continue };
        let busy = Busy::new(&carried, local);
        let mut all = locked(&carried.tasks);
        while all.try_join_next().is_some() {}
        all.spawn(async move {
            carry(stream, client, &ways).await;
            drop((slot, busy));
        });
    }
}

async fn carry(mut stream: TcpStream, client: Ipv4Addr, ways: &Shared) {
    let own = stream.local_addr().is_ok_and(|local| here(client, local.ip()));
    for _ in 0..TRIES {
        let Some(target) = locked(ways).pick(client, own, Instant::now()) else { return };
        let to = SocketAddr::from((target.address, target.port));
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
        let Ok(Ok(mut other)) = connected else { continue };
        for end in [&stream, &other] {
            let _ = end.set_nodelay(true);
            let keep = TcpKeepalive::new().with_time(KEEP_ALIVE);
            let _ = SockRef::from(end).set_tcp_keepalive(&keep);
        }
        let copied =
            tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut other, BUFFER, BUFFER);
        if let Err(error) = copied.await {
            tracing::debug!("a connection of {client} to {to}: {error}");
        }
        return;
    }
}
