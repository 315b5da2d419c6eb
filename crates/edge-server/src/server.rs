//! A running server: what is opened in which order, what runs beside the connections, and how all
//! of it ends.

use crate::api::Api;
use crate::backup::Room;
use crate::config::{Config, ConfigError};
use crate::driver::Beats;
use crate::http::{self, Front};
use crate::images::Images;
use crate::join::{self, Trust};
use crate::lead::{self, Channel, Courier, Inlet, Leadership, Links, Outside, Own};
use crate::pki::{self, AgentCredentials, Authority, BoardKey, ClusterSecrets, PkiError, Renewing};
use crate::proxy::Agents;
use crate::tied::{Tied, tie};
use crate::tls::BusTls;
use crate::tokens::Tokens;
use crate::{boot, discovery, tls, yearly};
use edge_core::consensus::{MemberInfo, Standing};
use edge_store::{Founding, OpenError};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long another server is given to take the leadership over.
const HANDING_OVER: Duration = Duration::from_millis(700);
/// How long tasks are given to end; the store is closed after that in any case.
const ENDING: Duration = Duration::from_millis(3800);

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

/// How a server is tied to the others of its cluster.
pub struct Linked {
    /// Carries messages to the other servers.
    pub courier: Arc<dyn Courier>,
    /// Where other boards reach this one's broker, `host:port`; empty without one.
    pub broker: String,
    /// The servers that this one was told of before its own state says who they are.
    pub seeds: Vec<MemberInfo>,
    /// Whether an empty store founds a cluster or waits for the state of the one it joined.
    pub founding: Founding,
    /// What knows the program that runs here, and takes another one.
    pub programs: Option<Arc<dyn http::Programs>>,
}

impl Linked {
    /// A server that is alone.
    pub fn alone() -> Linked {
        Linked {
            courier: Arc::new(Nowhere),
            broker: String::new(),
            seeds: Vec::new(),
            founding: Founding::Found,
            programs: None,
        }
    }
}

/// The courier of a server that is alone.
struct Nowhere;

impl Courier for Nowhere {
    fn send(&self, to: &str, _: bytes::Bytes) {
        tracing::debug!("a message for the server {to:?}, and nothing that carries it");
    }
}

/// A running API server.
pub struct Server {
    name: String,
    address: SocketAddr,
    api: Api,
    authority: Arc<Authority>,
    own: Arc<Own>,
    channel: Arc<Channel>,
    inlet: Inlet,
    key: BoardKey,
    trusted: watch::Receiver<Arc<Trust>>,
    outside: watch::Receiver<Option<Outside>>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    beside: JoinSet<()>,
}

impl Server {
    /// Starts a server that is alone: see [`Server::start_linked`].
    pub async fn start(config: Config) -> Result<Server, StartError> {
        Server::start_linked(config, Linked::alone()).await
    }

    /// Opens the keys and the store and serves. A server that is a cluster of its own has made
    /// what every cluster has when this returns; one of several answers while they elect.
    pub async fn start_linked(mut config: Config, linked: Linked) -> Result<Server, StartError> {
        let _ = (config.services()?, config.pods()?);
        let judged = config.cluster.clock.now_secs();
        let authority = Arc::new(blocking(&config, keys).await?);
        let cert = Arc::new(Renewing::new(&authority, pki::serving_names(&config)?)?);
        let (listener, address) = listen(config.listen).await?;
        let tied = tie(&mut config, &authority, linked, address.port()).await?;
        let api = Api::new(tied.store.clone(), &config, &authority)?;
        boot::agrees(&api)?;
        yearly::admin(&authority, &config, address.port())?;
        let (stop, stopping) = watch::channel(false);
        let mut beside = JoinSet::new();
        let key = BoardKey::open(&config.data_dir)?;
        let trust = join::begin(&api);
        let desk = join::Desk::open(
            api.clone(),
            authority.clone(),
            &config,
            address.port(),
            trust.subscribe(),
        )?;
        let outside = among_others(&mut beside, &tied, &api);
        let Tied { own, channel, links, courier, programs, .. } = tied;
        let announcing = desk.announce(address.port());
        let trusted = trust.subscribe();
        own.guard(trusted.clone());
        let front = Front {
            api: api.clone(),
            servers: channel.clone(),
            courier,
            agents: Agents::new(&authority, &config, own.gate(), stopping.clone())?,
            discovery: discovery::Documents::new(&config, address.port()),
            desk,
            images: Images::new(api.clone(), config.agent_port),
            programs,
            tokens: Tokens::new(api.clone(), config.cluster.clock.clone(), &config.cluster_domain),
            room: Room::new(api.clone(), authority.clone(), &config)?,
        };
        let tls = tls::serving(authority.ca_der(), cert.clone(), config.cluster.clock.clone())?;
        let serving = tokio::spawn(http::run(listener, tls, Arc::new(front), stopping));
        let years = yearly::renew(cert, authority.clone(), config.clone(), address.port(), judged);
        beside.spawn(until_stopped(years, stop.subscribe()));
        beside.spawn(until_stopped(announcing, stop.subscribe()));
        beside.spawn(join::follow(api.clone(), trust, stop.subscribe()));
        beside.spawn(own.clone().keep());
        let (furnished, mut done) = watch::channel(false);
        beside.spawn(lead::reign(api.clone(), address.port(), furnished, stop.subscribe()));
        tracing::info!("serving the API on https://{address}");
        let inlet = Inlet::new(api.clone(), links, trusted.clone());
        let server = Server {
            name: config.name,
            address,
            api,
            authority,
            own,
            channel,
            inlet,
            key,
            trusted,
            outside,
            stop,
            serving,
            beside,
        };
        if server.standing().members.voters().iter().eq([&server.own.id()]) {
            // An error means that the server ends already.
            let _ = done.wait_for(|done| *done).await;
        }
        Ok(server)
    }

    /// The address that is served on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API in this process.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// This board's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What this server knows of the election and the membership.
    pub fn standing(&self) -> Arc<Standing> {
        self.api.inner.leadership.standing()
    }

    /// Tells when that changes.
    pub fn standings(&self) -> watch::Receiver<Arc<Standing>> {
        self.api.inner.leadership.news()
    }

    /// Where messages of other boards are handed in.
    pub fn inlet(&self) -> Inlet {
        self.inlet.clone()
    }

    /// What this server speaks on the bus with, renewed while it runs.
    pub fn bus_tls(&self) -> watch::Receiver<Arc<BusTls>> {
        self.own.bus()
    }

    /// How the boards live, for those who hold no server.
    pub fn beats(&self) -> Arc<Beats> {
        self.api.beats().clone()
    }

    /// Which keys count, as it changes: for those who let boards in elsewhere than here.
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trusted.clone()
    }

    /// Tells when this server turns out to be none of its cluster's any more.
    pub fn outside(&self) -> watch::Receiver<Option<Outside>> {
        self.outside.clone()
    }

    /// No pods run on this server's board: if it has a Node, from when they did, that goes.
    pub fn runs_no_pods(&mut self) {
        let (api, channel) = (self.api.clone(), self.channel.clone());
        self.beside.spawn(lead::nodeless(api, self.name.clone(), self.key.hash(), channel));
    }

    /// Credentials for the agent of a board that has these addresses; that of this server's own
    /// board is known by the board's key.
    pub fn agent_credentials(
        &self,
        node: &str,
        ips: &[IpAddr],
    ) -> Result<AgentCredentials, PkiError> {
        match node == self.name {
            true => self.authority.own_agent(&self.key, node, ips),
            false => self.authority.agent(node, ips),
        }
    }

    /// Hands leadership over, ends watches and connections, then closes the store; takes five
    /// seconds at most.
    pub async fn shutdown(mut self) {
        let standing = self.standing();
        if standing.leader == Some(standing.me) && standing.members.voters().len() > 1 {
            let handed = tokio::time::timeout(HANDING_OVER, self.api.store().transfer(None)).await;
            if !matches!(handed, Ok(Ok(()))) {
                tracing::warn!("no other server took the leadership over; they elect one");
            }
        }
        self.stop.send_replace(true);
        // Controllers and their like hold nothing that an end in between would hurt.
        self.beside.shutdown().await;
        if tokio::time::timeout(ENDING, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        self.api.store().close().await;
    }
}

/// Opens the server's keys, or makes all of them, before there is a store: one that has begun is
/// only what it is with the keys that it began with.
fn keys(config: &Config) -> Result<Authority, StartError> {
    let data_dir = &config.data_dir;
    pki::expect_whole(data_dir)?;
    let authority = Authority::open(data_dir, config.cluster.clock.clone())?;
    BoardKey::open(data_dir)?;
    ClusterSecrets::open(data_dir)?;
    Ok(authority)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = http::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// What opens files, reads a log back or makes keys blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    config: &Config,
    work: impl FnOnce(&Config) -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let config = config.clone();
    let done = tokio::task::spawn_blocking(move || work(&config)).await;
    done.unwrap_or(Err(StartError::Cancelled))
}

/// Keeps this server and the others in step: where they are, where it is, and whether it still is
/// one of them.
fn among_others(
    beside: &mut JoinSet<()>,
    tied: &Tied,
    api: &Api,
) -> watch::Receiver<Option<Outside>> {
    let Tied { info, channel, links, seeds, membership, .. } = tied;
    let leadership = || api.inner.leadership.clone();
    let (told, outside) = watch::channel(None);
    let (info, seeds) = (|| info.clone(), seeds.clone());
    beside.spawn(follow(links.clone(), leadership()));
    beside.spawn(lead::belong(info(), seeds, leadership(), channel.clone(), told));
    beside.spawn(lead::introduce(info(), leadership(), channel.clone(), membership.clone()));
    outside
}

/// Keeps the ways to the other servers as the membership has them.
async fn follow(links: Arc<Links>, leadership: Leadership) {
    let mut news = leadership.news();
    loop {
        let members = news.borrow_and_update().members.clone();
        if !members.is_empty() {
            links.know(members);
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// Does something for as long as the server runs.
async fn until_stopped(work: impl Future<Output = ()>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
