//! Who this server is to the others: the board's key, and a certificate that the server makes for
//! it by itself, in memory, as it holds the authority's key.

use crate::auth::SERVERS;
use crate::clock::passes;
use crate::config::Config;
use crate::join::{Gate, Trust};
use crate::pki::{self, Authority, BoardKey, Leaf, PkiError};
use crate::server::StartError;
use crate::tls::{self, BusTls};
use edge_core::clock::ClusterClock;
use edge_core::consensus::MemberId;
use rustls::ClientConfig;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the certificate, which lives for thirty days, is made anew.
const ANEW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// This server's own identity, and what it speaks with.
pub(crate) struct Own {
    authority: Arc<Authority>,
    key: BoardKey,
    user: String,
    names: BTreeSet<String>,
    clock: ClusterClock,
    gate: Gate,
    http: watch::Sender<Arc<ClientConfig>>,
    bus: watch::Sender<Arc<BusTls>>,
}

impl Own {
    /// Makes the first certificate.
    pub(crate) fn open(authority: Arc<Authority>, config: &Config) -> Result<Own, StartError> {
        let key = BoardKey::open(&config.data_dir)?;
        let user = format!("system:server:{}", config.name);
        let names = pki::serving_names(config)?;
        let clock = config.cluster.clock.clone();
        let gate = Gate::default();
        let (http, bus) = made(&authority, &key, &user, &names, &clock, &gate)?;
        let (http, bus) = (watch::Sender::new(http), watch::Sender::new(bus));
        Ok(Own { authority, key, user, names, clock, gate, http, bus })
    }

    /// What the key makes this server in the election.
    pub(crate) fn id(&self) -> MemberId {
        self.key.hash().member_id()
    }

    /// For requests to other servers.
    pub(crate) fn http(&self) -> watch::Receiver<Arc<ClientConfig>> {
        self.http.subscribe()
    }

    /// For the bus.
    pub(crate) fn bus(&self) -> watch::Receiver<Arc<BusTls>> {
        self.bus.subscribe()
    }

    /// Has the bus turn away keys that do not count.
    pub(crate) fn guard(&self, trust: watch::Receiver<Arc<Trust>>) {
        self.gate.guard(trust);
    }

    /// What turns such keys away, for connections of other kinds.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Makes a new certificate now and then, until dropped.
    pub(crate) async fn keep(self: Arc<Own>) {
        loop {
            let Own { authority, key, user, names, clock, gate, .. } = &*self;
            passes(|| clock.now_secs(), clock.now_secs(), ANEW).await;
            match made(authority, key, user, names, clock, gate) {
                Ok((http, bus)) => {
                    self.http.send_replace(http);
                    self.bus.send_replace(bus);
                }
                Err(error) => tracing::warn!("renew this server's certificate: {error}"),
            }
        }
    }
}

type Made = (Arc<ClientConfig>, Arc<BusTls>);

fn made(
    authority: &Authority,
    key: &BoardKey,
    user: &str,
    names: &BTreeSet<String>,
    clock: &ClusterClock,
    gate: &Gate,
) -> Result<Made, PkiError> {
    let cert_pem = authority.own(key, user, SERVERS, names, clock.now_secs())?;
    let leaf = Leaf { cert_pem, key_pem: key.pem() };
    tls::between_servers(authority.ca_der(), &leaf, clock, gate)
}
