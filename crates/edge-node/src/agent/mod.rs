//! The kubelet of one board: follows the pods that the API gives it, makes the board run exactly
//! those, and reports what it sees. It talks to the API over HTTPS alone, also when the server is
//! in this process.
//!
//! Nothing here is written because time passed: statuses, the Node and the ledger change when what
//! they say has changed.

mod addresses;
mod announce;
mod beats;
mod board;
mod clock;
mod collect;
mod doctor;
mod effects;
mod error;
mod events;
mod files;
mod gather;
mod health_checks;
mod host_ports;
mod ingress;
mod ledger;
mod mounts;
mod names;
mod node;
mod podnet;
mod pods;
mod policy;
mod pull;
mod recall;
mod registration;
mod remembered;
mod report;
mod security;
mod service_table;
mod services;
mod signals;
mod sources;
mod spec;
mod telling;
mod tokens;
mod worker;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use edge_client::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

pub use beats::{Asked, BeatLine};
pub use error::AgentError;

pub(crate) use board::{Board, PodView};
pub(crate) use clock::now_ms;
pub(crate) use signals::signal_number;
pub(crate) use worker::desired;

/// The pods that the board was last told to run, as its ledger has them.
pub(crate) fn stored_pods(data_dir: &std::path::Path) -> Vec<edge_api::Object> {
    ledger::Ledger::open(&data_dir.join("ledger")).map(|ledger| ledger.pods()).unwrap_or_default()
}

/// Now, as the API writes times.
pub(crate) fn time_now() -> String {
    edge_api::time::format(now_ms())
}

use crate::dns::{Dns, SharedTable};
use crate::images::{ImageStore, ImagesConfig, Lan, RegistriesConfig};
use crate::net::{Net, NetConfig};
use crate::runtime::{Runtime, RuntimeConfig};
use crate::seams::Exit;
use crate::serve;
use crate::trust::Keys;
use crate::upgrade::Upgrades;

/// Pods whose objects have changed, waiting to be told to their workers.
const CHANGED: usize = 64;

/// How an agent is set up.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The board's name in the cluster.
    pub name: String,
    /// Its address on the LAN.
    pub node_ip: IpAddr,
    /// What outlives a reboot.
    pub data_dir: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// The cgroup to put pods under, from the root of each hierarchy.
    pub cgroup_parent: String,
    /// Where the board says whom it asks for names.
    pub resolv_conf: PathBuf,
    /// Where to listen for the API server: logs, exec, images.
    pub listen: SocketAddr,
    /// The range of pod addresses that this board asks for when nothing is known yet; its Node
    /// says which one it gets. Empty: any.
    pub pod_cidr: String,
    /// The range of all boards' pods.
    pub cluster_cidr: String,
    /// The range of Services' addresses.
    pub service_cidr: String,
    /// Whether what its pods and those of other boards say to each other is to be encrypted.
    pub encrypt_pods: bool,
    /// The UDP port of its end of tunnels to other boards.
    pub wireguard_port: u16,
    /// `cluster.local`
    pub cluster_domain: String,
    /// How to reach the API.
    pub api: edge_client::Config,
    /// What the agent shows on `listen`, and whom it takes there; renewed while it runs.
    pub serving: watch::Receiver<Arc<rustls::ServerConfig>>,
    /// Labels of the Node, besides the usual.
    pub labels: BTreeMap<String, String>,
    /// How to reach image registries.
    pub registries: RegistriesConfig,
    /// This program's version.
    pub version: String,
    /// The servers as they change; `None` where `api` names them for good.
    pub servers: Option<watch::Receiver<Vec<String>>>,
    /// Where beats go; `None` on a board that nobody waits for.
    pub beats: Option<BeatLine>,
    /// How new programs reach the board; `None` where they can't.
    pub upgrades: Option<Arc<Upgrades>>,
}

/// Runs the agent until `shutdown` is true. Pods keep running after it.
pub async fn run(
    config: AgentConfig,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let client = Client::new(config.api.clone()).map_err(AgentError::Client)?;
    let mut tasks = JoinSet::new();
    if let Some(servers) = config.servers.clone() {
        tasks.spawn(follow_servers(client.clone(), servers));
    }
    let mut identity = identity(&config);
    let settled = addresses::settle(&config.data_dir, &client, &identity, shutdown.clone()).await?;
    let Some(cidr) = settled else { return Ok(()) };
    identity.pod_cidr = cidr;
    let (board, feeds) = assemble(&config, client, &mut identity, shutdown.clone())?;
    let server = serve::Server::bind(config.listen, config.serving.clone())
        .await
        .map_err(AgentError::Serve)?;
    tracing::info!("agent {} listens on {}", config.name, config.listen);
    tasks.spawn(server.run(board.clone()));
    let (keys, api) = (board.keys.clone(), board.client.clone());
    tasks.spawn(async move { keys.follow(api).await });
    tasks.spawn(services::run(board.clone()));
    tasks.spawn(ingress::run(board.clone()));
    tasks.spawn(podnet::run(board.clone()));
    tasks.spawn(policy::run(board.clone()));
    if let Some(dns) = names::server(&config, &identity.pod_cidr, &board.net) {
        tasks.spawn(Dns::new(dns, board.names.clone()).run());
    }
    tasks.spawn(collect::images(board.clone()));
    tasks.spawn(doctor::run(board.clone()));
    tasks.spawn(board.images.clone().announce());
    let beater = config.beats.map(|line| Arc::new(beats::Beater::new(board.clone(), line)));
    if let Some(beater) = &beater {
        tasks.spawn(beater.clone().run());
    }
    tasks.spawn(pods::run(board.clone(), feeds));
    let mut registered = tokio::spawn(registration::run(board.clone(), identity));
    tokio::select! {
        _ = shutdown.wait_for(|end| *end) => {}
        ended = &mut registered => match ended {
            Ok(result) => return result,
            Err(error) => return Err(AgentError::BrokenOff { detail: error.to_string() }),
        },
        Some(ended) = tasks.join_next() => {
            if let Err(error) = ended {
                tracing::error!("a part of the agent broke off: {error}");
                return Err(AgentError::BrokenOff { detail: error.to_string() });
            }
        }
    }
    // Nobody is to say after the last word that the board is well.
    registered.abort();
    let _ = registered.await;
    if let Some(beater) = beater
        && beater.farewell().await
    {
        registration::go_off(&board).await;
    }
    tasks.shutdown().await;
    Ok(())
}

/// Asks the servers that there are now.
async fn follow_servers(client: Client, mut servers: watch::Receiver<Vec<String>>) {
    loop {
        let known = servers.borrow_and_update().clone();
        if let Err(error) = client.set_servers(&known) {
            tracing::warn!("take in the list of servers: {error}");
        }
        if servers.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What the board's Node says of it.
fn identity(config: &AgentConfig) -> node::Identity {
    node::Identity {
        name: config.name.clone(),
        ip: config.node_ip,
        port: config.listen.port(),
        version: config.version.clone(),
        labels: config.labels.clone(),
        pod_cidr: config.pod_cidr.clone(),
        memory_problem: None,
        network_problem: None,
        conditions: Vec::new(),
    }
}

/// Opens the board's parts.
fn assemble(
    config: &AgentConfig,
    client: Client,
    identity: &mut node::Identity,
    shutdown: watch::Receiver<bool>,
) -> Result<(Arc<Board>, pods::Feeds), AgentError> {
    let ledger = Arc::new(open_ledger(config)?);
    let (runtime, exits) = open_runtime(config)?;
    let keys = Arc::new(Keys::default());
    let lan = Lan::new(&config.name, client.clone(), config.api.clone()).trusting(keys.clone());
    let images = ImagesConfig {
        registries: config.registries.clone(),
        lan: Some(Arc::new(lan)),
        ..ImagesConfig::default()
    };
    let images = ImageStore::open(&config.data_dir.join("images"), images);
    let net = open_net(config, &identity.pod_cidr)?;
    let memory_problem = runtime.facts().memory_problem.map(str::to_owned);
    memory_problem.iter().for_each(|problem| tracing::warn!("{problem}"));
    let (changed_in, changed) = mpsc::channel(CHANGED);
    let facts = node::Facts::gather(&config.data_dir);
    let board = Board {
        name: config.name.clone(),
        ip: config.node_ip,
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cluster_domain: config.cluster_domain.clone(),
        dns: names::cluster(config, &net),
        resolv: names::files(config),
        tokens: tokens::TokenBox::new(client.clone(), changed_in.clone()),
        sources: sources::Sources::new(client.clone(), ledger.clone(), changed_in),
        events: events::Events::start(client.clone(), config.name.clone()),
        allocatable: facts.allocatable(),
        client,
        keys,
        runtime,
        images: images.map_err(AgentError::Images)?,
        net,
        ledger,
        facts,
        services: RwLock::new(service_table::ServiceTable::new(
            &config.name,
            [&config.cluster_cidr, &config.service_cidr],
        )),
        names: SharedTable::default(),
        routes: Mutex::default(),
        images_changed: Notify::new(),
        ports_changed: Notify::new(),
        endpoints_changed: Notify::new(),
        pods_made: Notify::new(),
        pods: Mutex::default(),
        exits: watch::channel(0).0,
        node_changed: Notify::new(),
        network_problem: Mutex::default(),
        conditions: Mutex::default(),
        alarmed: AtomicBool::default(),
        checks: Mutex::default(),
        announcement: Mutex::default(),
        lan_conflicts: Mutex::default(),
        upgrades: config.upgrades.clone(),
    };
    identity.memory_problem = memory_problem;
    Ok((Arc::new(board), pods::Feeds { exits, changed, shutdown }))
}

/// Builds for tests may be told to do without the kernel's rules.
fn without_nf_tables() -> bool {
    cfg!(debug_assertions) && std::env::var_os("EDGED_NO_NFTABLES").is_some()
}

fn open_net(config: &AgentConfig, pod_cidr: &str) -> Result<Net, AgentError> {
    Net::open(NetConfig {
        run_dir: config.run_dir.clone(),
        data_dir: config.data_dir.clone(),
        pod_cidr: pod_cidr.to_owned(),
        cluster_cidr: config.cluster_cidr.clone(),
        service_cidr: config.service_cidr.clone(),
        node_ip: config.node_ip,
        encrypt_pods: config.encrypt_pods,
        wireguard_port: config.wireguard_port,
        without_nf_tables: without_nf_tables(),
    })
    .map_err(AgentError::Net)
}

fn open_ledger(config: &AgentConfig) -> Result<ledger::Ledger, AgentError> {
    let path = config.data_dir.join("ledger");
    ledger::Ledger::open(&path).map_err(|source| AgentError::Ledger { path, source })
}

fn open_runtime(config: &AgentConfig) -> Result<(Runtime, mpsc::Receiver<Exit>), AgentError> {
    let config = RuntimeConfig {
        run_dir: config.run_dir.clone(),
        data_dir: config.data_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        exe: None,
    };
    Runtime::new(config).map_err(AgentError::Runtime)
}
