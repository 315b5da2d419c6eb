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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub(crate) use access::{Access, Identity};
pub(crate) use connection::write;
pub(crate) use hub::{Hub, Wish};

use crate::config::{StartError, TlsPair};
use crate::counters::BrokerCounters;
use crate::dial::tune;
use crate::topics::Topics;

/// TLS handshakes at once; more wait in the system's queue.
const HANDSHAKES: usize = 32;

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
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let connections = Arc::new(Semaphore::new(hub::CLIENTS + HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others must end before it gets better.
                tracing::warn!("broker: accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            hub.counts.refused.one();
            continue;
        };
        let Some(server) = tls.borrow().server.clone() else { continue };
        let (hub, mut stopped) = (hub.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shake(stream, server.into(), hub, permit) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            drop(place);
        });
    }
}

async fn shake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    hub: Arc<Hub>,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    tune(&stream, false);
    let Ok(Ok(stream)) = timeout(connection::HELLO, acceptor.accept(stream)).await else {
        hub.counts.refused.one();
        return;
    };
    drop(permit);
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let Some(identity) = certificate.and_then(|c| Identity::of(c)) else {
        hub.counts.refused.one();
        return;
    };
    connection::serve(stream, identity, hub).await;
}
