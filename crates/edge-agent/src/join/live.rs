//! A board's certificates while it runs: what its connections use now, and the next ones in time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edge_client::tls::{self, ClientAuth, ClientTls};
use edge_client::{Call, Client, Refusals};
use edge_core::clock::ClusterClock;
use edge_server::join::{PROTOCOL, RenewAnswer, RenewRequest, ServerInfo, TimeAnswer, differs};
use edge_server::pki::{BoardKey, CertFacts};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;

use super::clock::Judge;
use super::{JoinError, SERVER_NAME, Saved};
use crate::clock;
use crate::config::Config;

/// What connections use.
pub(crate) struct Live {
    data_dir: std::path::PathBuf,
    run_dir: std::path::PathBuf,
    address: std::net::IpAddr,
    key: BoardKey,
    saved: Mutex<Saved>,
    clock: ClusterClock,
    client: watch::Sender<Arc<rustls::ClientConfig>>,
    server: watch::Sender<Arc<rustls::ServerConfig>>,
    refusals: Refusals,
}

/// Certificates of boards live this long.
const LIFETIME: i64 = 30 * 24 * 60 * 60;
/// The longest sleep between two looks at the certificate and the cluster's time.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// … and where the servers can give none that is in time.
const WORN: Duration = Duration::from_secs(6 * 60 * 60);
/// A clock that has jumped is seldom the only one, nor is a board that boots: the servers' time is
/// heard so often, with this pause, until theirs have settled.
const JUMPED: (u32, Duration) = (4, Duration::from_secs(10));
/// Pause after a server could not be asked, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

impl Live {
    /// Opens what is kept.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub(super) fn open(config: &Config, saved: &Saved, key: BoardKey) -> Result<Live, JoinError> {
        let clock = ClusterClock::new(saved.floor_ms, crate::clock::read);
        own_certificate(config, saved, &key)?;
        let (client, server) = configs(saved, &key, &clock)?;
        Ok(Live {
            data_dir: config.data_dir.clone(),
            run_dir: config.run_dir.clone(),
            address: config.node_ip,
            key,
            saved: Mutex::new(saved.clone()),
            clock,
            client: watch::Sender::new(client),
            server: watch::Sender::new(server),
            refusals: Refusals::default(),
        })
    }

    /// Keeps the servers as the leader tells them; whether they are others than before.
    ///
    /// # Errors
    /// When the file cannot be written; what is used is then as before.
    pub(crate) fn know(&self, servers: Vec<ServerInfo>) -> Result<bool, JoinError> {
        let mut saved = self.saved();
        let places = |servers: &[ServerInfo]| -> Vec<(String, String, String)> {
            let place = |s: &ServerInfo| (s.name.clone(), s.api.clone(), s.broker.clone());
            let mut places: Vec<_> = servers.iter().map(place).collect();
            places.sort();
            places
        };
        if servers.is_empty() || places(&saved.servers) == places(&servers) {
            return Ok(false);
        }
        let mut next = saved.clone();
        next.servers = servers;
        next.write_certificate(&self.data_dir)?;
        *saved = next;
        Ok(true)
    }

    /// The address that this board had at its start.
    pub(super) fn address(&self) -> std::net::IpAddr {
        self.address
    }

    /// The cluster's time.
    pub(crate) fn clock(&self) -> &ClusterClock {
        &self.clock
    }

    /// What this board shows to servers and whom it believes, renewed while it runs.
    pub(crate) fn client(&self) -> watch::Receiver<Arc<rustls::ClientConfig>> {
        self.client.subscribe()
    }

    /// What this board shows to those that call it: they must be of this cluster.
    pub(crate) fn server(&self) -> watch::Receiver<Arc<rustls::ServerConfig>> {
        self.server.subscribe()
    }

    /// How to reach the API of the cluster's servers.
    pub(crate) fn api(&self) -> edge_client::Config {
        edge_client::Config {
            servers: self.saved().servers.iter().map(|server| server.api.clone()).collect(),
            server_name: Some(SERVER_NAME.to_owned()),
            live: Some(self.client()),
            refusals: self.refusals.clone(),
            ..edge_client::Config::default()
        }
    }

    /// What the servers say to this board's certificate.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the cluster's time, and renews the certificate whenever it is due, until dropped.
    pub(crate) async fn keep(self: Arc<Live>) {
        let (mut pause, mut said, mut hurry) = (AGAIN.0, false, JUMPED.0);
        let mut refusals = self.refusals.follow();
        loop {
            let (refused, apart) = (refusals.borrow_and_update().is_some(), clock::apart());
            let rest = match self.look().await {
                Ok(rest) => {
                    said = false;
                    let soon = if hurry > 0 { JUMPED.1 } else { rest };
                    hurry = u32::saturating_sub(hurry, 1);
                    rest.min(soon)
                }
                // Of a refusal, `tell_refusals` speaks; of absent servers, one line is enough.
                Err(error) if said || self.refusals.any() => {
                    tracing::debug!("{error}");
                    pause
                }
                Err(error) => {
                    tracing::warn!("{error}; it is tried again until one answers");
                    said = true;
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause.min(rest)) => {}
                // Somebody reached a server at last, and was refused.
                _ = refusals.wait_for(Option::is_some), if !refused => {}
            }
            pause = if refused || rest <= pause { (pause * 2).min(AGAIN.1) } else { AGAIN.0 };
            tokio::select! {
                () = tokio::time::sleep(rest.saturating_sub(pause)) => {}
                _ = refusals.wait_for(Option::is_some) => {}
                () = clock::jumps(apart) => hurry = JUMPED.0,
            }
        }
    }

    /// One look; how long to sleep until the next.
    async fn look(&self) -> Result<Duration, JoinError> {
        let heard = self.hear_time().await;
        if !self.clock.confirmed() {
            heard?;
        }
        let left = self.left();
        if left > 0 {
            return Ok(Duration::from_secs(left.unsigned_abs()).min(LOOK));
        }
        self.renew().await?;
        // A server whose time is long past gives what is due at once: that must not wear the card.
        Ok(if self.left() > 0 { LOOK } else { WORN })
    }

    /// Servers other than this board, if it is one: it can't tell itself the time.
    fn others(&self) -> Vec<String> {
        let saved = self.saved();
        let others = saved.servers.iter().filter(|server| server.name != saved.name);
        others.map(|server| server.api.clone()).collect()
    }

    /// Learns the cluster's time.
    async fn hear_time(&self) -> Result<(), JoinError> {
        let others = self.others();
        if others.is_empty() {
            return Ok(());
        }
        let time: TimeAnswer = self.ask_at(others, &Call::get("/edged/v1/time")).await?;
        if let Some(why) = differs("board", time.protocol, &time.version)
            && !self.clock.confirmed()
        {
            tracing::warn!("the server's {why}");
        }
        self.told(time.time_ms);
        Ok(())
    }

    fn told(&self, time_ms: i64) {
        self.clock.tell(time_ms);
        clock::hear(&self.run_dir, time_ms);
    }

    /// Seconds until the certificate is due: when a third of its life is left, a little later on
    /// some boards than on others, so that they don't all come at once.
    fn left(&self) -> i64 {
        let end = CertFacts::read(&self.saved().node_cert).map_or(0, |facts| facts.not_after);
        let spread = i64::try_from(self.key.hash().member_id() % 1000).unwrap_or_default();
        let due = end - LIFETIME / 3 + LIFETIME / 30 * spread / 1000;
        due - self.clock.now_ms() / 1000
    }

    /// Asks one of these servers.
    pub(super) async fn ask_at<T: DeserializeOwned>(
        &self,
        servers: Vec<String>,
        call: &Call,
    ) -> Result<T, JoinError> {
        let told = |what: String| JoinError::Told(format!("ask the cluster's servers: {what}"));
        let api = edge_client::Config { servers, ..self.api() };
        let client = Client::new(api).map_err(|e| told(e.to_string()))?;
        let answer = client.call(call).await.map_err(|e| told(e.to_string()))?;
        serde_json::from_value(answer.object).map_err(|e| told(e.to_string()))
    }

    /// Gets the next certificate and has connections use it from now on.
    async fn renew(&self) -> Result<(), JoinError> {
        let others = self.others();
        match others.is_empty() {
            true => self.renew_at(self.api().servers, false).await,
            false => self.renew_at(others, true).await,
        }
    }

    /// The same of these servers; `told`: they are others than this board, and know the time.
    pub(super) async fn renew_at(&self, servers: Vec<String>, told: bool) -> Result<(), JoinError> {
        let name = self.saved().name.clone();
        let request = RenewRequest {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            csr: self.key.request(&name)?,
            addresses: vec![self.address.to_string()],
        };
        let call = Call::new(http::Method::POST, "/edged/v1/renew").json(&json!(request));
        let answer: RenewAnswer = self.ask_at(servers, &call).await?;
        if told {
            self.told(answer.time_ms);
        }
        let facts = CertFacts::read(&answer.node_cert);
        if facts.is_none_or(|facts| facts.key != self.key.hash()) {
            let what = "renew: the server's answer is no certificate for this board's key";
            return Err(JoinError::Told(what.to_owned()));
        }
        let mut next = self.saved().clone();
        next.node_cert = answer.node_cert;
        next.floor_ms = answer.time_ms;
        if !answer.servers.is_empty() {
            next.servers = answer.servers;
        }
        let (client, server) = configs(&next, &self.key, &self.clock)?;
        next.write_certificate(&self.data_dir)?;
        *self.saved() = next;
        self.client.send_replace(client);
        self.server.send_replace(server);
        tracing::info!("renewed this board's certificate");
        Ok(())
    }
}

/// A certificate beside another board's key is what a mixed-up or half-copied directory has.
fn own_certificate(config: &Config, saved: &Saved, key: &BoardKey) -> Result<(), JoinError> {
    let facts = CertFacts::read(&saved.node_cert);
    let ours = facts.as_ref().is_some_and(|facts| facts.key == key.hash());
    let named = facts.is_some_and(|facts| facts.user == format!("system:node:{}", saved.name));
    if ours && named {
        return Ok(());
    }
    Err(JoinError::Told(format!(
        "{}: pki/board.key, pki/node.crt and cluster.json are not of one board: this is another \
         board's data directory, or parts of two; restore it, or remove it and join again",
        config.data_dir.display()
    )))
}

type Configs = (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>);

fn configs(saved: &Saved, key: &BoardKey, clock: &ClusterClock) -> Result<Configs, JoinError> {
    let (ca, cert, key) = (saved.ca.as_bytes(), saved.node_cert.as_bytes(), key.pem());
    let told = |e: edge_client::ConfigError| JoinError::Told(format!("certificates: {e}"));
    let client = tls::client_config(&ClientTls {
        ca_pem: Some(ca),
        cert_pem: Some(cert),
        key_pem: Some(key.as_bytes()),
        insecure: false,
        clock: Some(Arc::new(Judge(clock.clone()))),
    })
    .map_err(told)?;
    let clock = Arc::new(Judge(clock.clone()));
    let server = tls::server_config_at(cert, key.as_bytes(), ClientAuth::Required(ca), clock);
    Ok((Arc::new(client), Arc::new(server.map_err(told)?)))
}
