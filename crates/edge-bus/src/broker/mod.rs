//! The broker inside a server: a small MQTT 5 broker for exactly what the bus needs. QoS 0 and
//! 1, retained messages, wills, keepalive, takeover, access by certificate name; clean sessions
//! only, no shared subscriptions, no QoS 2, nothing on disk. Every queue and table is bounded.

mod access;
mod connection;
mod hub;
mod requests;
mod retained;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use edge_core::porch::{Place, Porch, Room};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

pub(crate) use access::{Access, Identity};
pub(crate) use connection::write;
pub(crate) use hub::{Hub, Wish};

use crate::config::{StartError, TlsPair};
use crate::counters::BrokerCounters;
use crate::dial::tune;
use crate::topics::Topics;

/// Connections beyond the clients there may be, for those whose old one has not ended yet.
const SPARE: usize = 32;
/// Connections that have not shown a certificate yet.
const HALF_OPEN: Room = Room { each: 64, all: 256 };

/// A running broker. Dropping it closes all connections.
pub struct Broker {
    hub: Arc<Hub>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Broker {
    /// Listens on `listen` for the boards of `cluster`.
    ///
    /// # Errors
    /// An address that can't be had, or no TLS configuration for servers.
    pub async fn start(
        cluster: &str,
        listen: SocketAddr,
        tls: watch::Receiver<Arc<TlsPair>>,
    ) -> Result<Broker, StartError> {
        if tls.borrow().server.is_none() {
            return Err(StartError::NoServerTls);
        }
        let failed = |error| StartError::Listen { address: listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hub = Hub::new(Access::new(Topics::new(cluster)));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(accept(listener, tls, hub.clone(), stopped));
        Ok(Broker { hub, address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counted.
    pub fn counters(&self) -> BrokerCounters {
        self.hub.counters()
    }

    /// Disconnects everybody, with a reason and without their wills, and stops listening.
    pub async fn close(&self) {
        self.hub.close();
        // Connections have this long to write their last word.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.stop.send_replace(true);
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<TlsPair>>,
    hub: Arc<Hub>,
    mut stopped: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(hub::CLIENTS + SPARE));
    let porch = Porch::new(HALF_OPEN);
    let began = Instant::now();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others must end before it gets better.
                tracing::warn!("broker: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(server) = tls.borrow().server.clone() else { continue };
        let (kick, kicked) = oneshot::channel();
        let own = from.ip().is_loopback();
        let (place, pushed) = porch.enter((!own).then(|| bits(from.ip())), kick);
        if pushed.is_some() {
            hub.counts.half_open.one();
        }
        if let Some(more) = porch.news(began.elapsed().as_millis() as u64) {
            tracing::warn!(
                "broker: ended {more} connections that had not shown who they are, for others to \
                 come in; the newest comes from {}",
                from.ip()
            );
        }
        let (hub, mut stopped) = (hub.clone(), stopped.clone());
        let connections = connections.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shake(stream, server.into(), hub, (place, kicked), connections) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// A connection that has not shown who it is, and what tells it that it has to make room.
type Waiting = (Place<oneshot::Sender<()>>, oneshot::Receiver<()>);

async fn shake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    hub: Arc<Hub>,
    (place, kicked): Waiting,
    connections: Arc<Semaphore>,
) {
    tune(&stream, false);
    let hello = Instant::now() + connection::HELLO;
    let shaken = tokio::select! {
        shaken = timeout_at(hello, acceptor.accept(stream)) => shaken,
        _ = kicked => return,
    };
    let Ok(Ok(stream)) = shaken else {
        hub.counts.refused.one();
        return;
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let identity = certificate.and_then(|c| Identity::of(c));
    let (Some(identity), Ok(_room)) = (identity, connections.try_acquire_owned()) else {
        hub.counts.refused.one();
        return;
    };
    drop(place);
    connection::serve(stream, identity, hub, hello).await;
}
