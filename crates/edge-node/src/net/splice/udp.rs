//! Datagrams carried from a front to a target and back: each client has a socket of its own
//! towards its target, for as long as it is not silent for too long.

use super::{Shared, here, locked};
use edge_core::proxy::Target;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

/// Clients of one front at once; the one that was silent for longest makes room.
const FLOWS: usize = 512;
/// A client that was silent for this long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// So often the silent ones are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The largest datagram.
const DATAGRAM: usize = 65_535;

struct Flow {
    socket: Arc<UdpSocket>,
    target: Target,
    /// When something went either way, in milliseconds of the front's time.
    last: Arc<AtomicU64>,
    reader: AbortHandle,
}

/// Carries until dropped.
pub(super) async fn serve(front: UdpSocket, ways: Shared) {
    let front = Arc::new(front);
    let begin = Instant::now();
    let now = move || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let own = front.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |local| local.ip());
    let mut flows: BTreeMap<SocketAddr, Flow> = BTreeMap::new();
    let mut readers = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            ready = front.readable() => if ready.is_err() { return },
            _ = sweep.tick(), if !flows.is_empty() => {
                while readers.try_join_next().is_some() {}
                let old = |flow: &Flow| now() - flow.last.load(Ordering::Relaxed);
                flows.retain(|_, flow| {
                    let stays = u128::from(old(flow)) < IDLE.as_millis();
                    if !stays {
                        flow.reader.abort();
                    }
                    stays
                });
                continue;
            }
        }
        let mut datagram = vec![0; DATAGRAM];
        while let Ok((length, client)) = front.try_recv_from(&mut datagram) {
            let IpAddr::V4(ip) = client.ip() else { continue };
            let inside = here(ip, own);
            let stale = flows.get(&client).is_some_and(|flow| {
                flow.reader.is_finished() || !locked(&ways).has(ip, inside, flow.target)
            });
            if stale {
                forget(&mut flows, client);
            }
            if !flows.contains_key(&client) {
                let Some(target) = locked(&ways).pick(ip, inside, Instant::now()) else { continue };
                let Some(socket) = towards(target).await else { continue };
                if flows.len() >= FLOWS {
                    let last = |(_, flow): &(&SocketAddr, &Flow)| flow.last.load(Ordering::Relaxed);
                    let oldest = flows.iter().min_by_key(last).map(|(client, _)| *client);
                    oldest.into_iter().for_each(|client| forget(&mut flows, client));
                }
                let last = Arc::new(AtomicU64::new(now()));
                let back = answer(front.clone(), socket.clone(), client, last.clone(), begin);
                let reader = readers.spawn(back);
                flows.insert(client, Flow { socket, target, last, reader });
            }
            if let Some(flow) = flows.get(&client) {
                flow.last.store(now(), Ordering::Relaxed);
                // What finds no room is lost, as on any wire.
                let _ = flow.socket.try_send(&datagram[..length]);
            }
        }
    }
}

fn forget(flows: &mut BTreeMap<SocketAddr, Flow>, client: SocketAddr) {
    if let Some(flow) = flows.remove(&client) {
        flow.reader.abort();
    }
}

async fn towards(target: Target) -> Option<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect((target.address, target.port)).await.ok()?;
    // Until it has said so, nothing is tried, and the first datagram would be lost.
    socket.writable().await.ok()?;
    Some(Arc::new(socket))
}

/// Carries a target's answers back.
async fn answer(
    front: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    last: Arc<AtomicU64>,
    begin: Instant,
) {
    while socket.readable().await.is_ok() {
        let mut datagram = vec![0; DATAGRAM];
        loop {
            match socket.try_recv(&mut datagram) {
                Ok(length) => {
                    let now = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
                    last.store(now, Ordering::Relaxed);
                    let _ = front.try_send_to(&datagram[..length], client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Nobody listens there: the client's next datagram looks for another.
                Err(_) => return,
            }
        }
    }
}
