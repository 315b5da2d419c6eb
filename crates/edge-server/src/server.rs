//! A running server: what is opened in which order, what runs beside the connections, and how all
//! of it ends.

use crate::api::Api;
use crate::config::{Config, ConfigError};
use crate::driver::Beats;
use crate::http::{self, Front};
use crate::pki::{self, AgentCredentials, Authority, PkiError, Renewing};
use crate::proxy::Agents;
use crate::{boot, discovery, driver, join, tls};
use edge_api::status::Status;
use edge_core::liveness::BeatError;
use edge_store::{OpenError, Options, Store};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How often the serving certificate is looked at.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long tasks are given to end; the store is closed after that in any case.
const ENDING: Duration = Duration::from_millis(4500);

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A setting cannot be used.
    Config(ConfigError),
    /// The store did not open.
    Store(OpenError),
    /// Keys or certificates.
    Pki(PkiError),
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The cluster's own objects could not be made.
    Boot(Status),
    /// The board is going down.
    Cancelled,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "{error}"),
            StartError::Store(error) => write!(f, "{error}"),
            StartError::Pki(error) => write!(f, "{error}"),
            StartError::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "listen on {address}: the port is in use: stop what uses it, or choose \
                     another with --listen"
                )
            }
            StartError::Listen { address, source } => write!(f, "listen on {address}: {source}"),
            StartError::Boot(status) => write!(f, "make the cluster's own objects: {status}"),
            StartError::Cancelled => write!(f, "open the store: cancelled"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> StartError {
        StartError::Config(error)
    }
}

impl From<PkiError> for StartError {
    fn from(error: PkiError) -> StartError {
        StartError::Pki(error)
    }
}

/// A running API server.
pub struct Server {
    address: SocketAddr,
    api: Api,
    authority: Arc<Authority>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    beside: JoinSet<()>,
}

impl Server {
    /// Opens the store and the keys, makes what every cluster has, and serves.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        config.services()?;
        config.pods()?;
        let (store, authority) = open(&config).await?;
        let authority = Arc::new(authority);
        let serving_cert = Renewing::new(&authority, pki::serving_names(&config)?)?;
        let serving_cert = Arc::new(serving_cert);
        let listener = http::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let api = Api::new(store, &config)?;
        boot::furnish(&api, &config, address.port()).await.map_err(StartError::Boot)?;
        admin(&authority, &config, address.port())?;
        let (stop, stopping) = watch::channel(false);
        let trust = join::begin(&api);
        let desk = join::Desk::open(
            api.clone(),
            authority.clone(),
            &config,
            address.port(),
            trust.subscribe(),
        )?;
        let front = Front {
            api: api.clone(),
            agents: Agents::new(&authority, config.agent_port, stopping.clone())?,
            discovery: discovery::Documents::new(&config, address.port()),
            desk,
        };
        let clock = config.cluster.clock.clone();
        let tls = tls::serving(authority.ca_der(), serving_cert.clone(), clock)?;
        let serving = tokio::spawn(http::run(listener, tls, Arc::new(front), stopping));
        let mut beside = JoinSet::new();
        beside.spawn(renew(serving_cert, authority.clone(), stop.subscribe()));
        beside.spawn(join::follow(api.clone(), trust, stop.subscribe()));
        beside.spawn(driver::run(api.clone(), stop.subscribe()));
        tracing::info!("serving the API on https://{address}");
        Ok(Server { address, api, authority, stop, serving, beside })
    }

    /// The address that is served on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API in this process.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// How the boards live, for those who hold no server.
    pub fn beats(&self) -> Arc<Beats> {
        self.api.beats().clone()
    }

    /// Takes in a beat of the board `node`, which the transport has proven to be its sender.
    ///
    /// # Errors
    /// The beat does not count, and changes nothing.
    pub fn beat(&self, node: &str, payload: &[u8]) -> Result<(), BeatError> {
        self.api.beats().beat(node, payload)
    }

    /// Takes in a board's will: its process has ended.
    pub fn gone(&self, node: &str) {
        self.api.beats().gone(node);
    }

    /// Takes in that a board is connected again.
    pub fn back(&self, node: &str) {
        self.api.beats().back(node);
    }

    /// Credentials for the agent of a board that has these addresses.
    pub fn agent_credentials(
        &self,
        node: &str,
        ips: &[IpAddr],
    ) -> Result<AgentCredentials, PkiError> {
        self.authority.agent(node, ips)
    }

    /// Ends watches and connections, then closes the store; takes five seconds at most.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let ended = async {
            let _ = (&mut self.serving).await;
            while self.beside.join_next().await.is_some() {}
        };
        if tokio::time::timeout(ENDING, ended).await.is_err() {
            self.serving.abort();
            self.beside.abort_all();
        }
        self.api.store().close().await;
    }
}

/// Opening reads the log back, which blocks.
async fn open(config: &Config) -> Result<(Store, Authority), StartError> {
    let data_dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store =
            Store::open(&data_dir.join("store"), Options::default()).map_err(StartError::Store)?;
        let authority = Authority::open(&data_dir)?;
        Ok((store, authority))
    });
    opened.await.unwrap_or(Err(StartError::Cancelled))
}

/// Lets the person at this board in.
fn admin(authority: &Authority, config: &Config, port: u16) -> Result<(), PkiError> {
    let group = Some("system:masters");
    let leaf = authority.kept_leaf("admin", "kubernetes-admin", group, &BTreeSet::new())?;
    let server = format!("https://{}", SocketAddr::new(config.advertised(), port));
    pki::write_admin_kubeconfig(&config.data_dir, &server, authority.ca_pem(), &leaf)
}

async fn renew(cert: Arc<Renewing>, authority: Arc<Authority>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = cert.renew(&authority) {
            tracing::warn!("renew the serving certificate: {error}");
        }
    }
}
