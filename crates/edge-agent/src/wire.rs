//! Ties the rooms together for one process: server first, then the agent that talks to it
//! over the API like any other client. The only place that knows both.

mod agent;
mod bus;
mod counters;
mod hint;
mod server;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use edge_client::tls::ClientAuth;
use edge_node::agent::{self as kubelet, AgentConfig};
use edge_node::images::{RegistriesConfig, RegistryConfig};
use edge_server::{AgentCredentials, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, Registry};
use crate::join::{SERVER_NAME, Saved};
use crate::{cleanup, clock, depart, doctor, identity, notify, upgrade, version};
pub(crate) use agent::{servers, tie};
pub(crate) use bus::beats;
use server::Lead;

/// Threads that run tasks. A board has four small cores and better use for them.
const WORKERS: usize = 2;

/// Bits of the part of the cluster's pod addresses that one board hands out: /24, 254 pods.
const POD_CIDR_BITS: u8 = 24;

/// Why a board did not start, or stopped.
#[derive(Debug)]
pub(crate) struct WireError(String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

impl WireError {
    /// A line that says all there is to say.
    pub(crate) fn line(text: String) -> WireError {
        WireError(text)
    }
}

pub(crate) fn failed(what: &str, error: impl fmt::Display) -> WireError {
    WireError(format!("{what}: {error}"))
}

/// Makes the runtime that everything runs on.
///
/// # Errors
/// When threads or the event queue can't be made.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, WireError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|e| failed("start the event loop", e))
}

/// The signals by which somebody ends this process.
pub(crate) struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    /// Listens for them from now on. At the first it is noted that what follows is no crash, also
    /// while nobody waits for one: a start may take long.
    ///
    /// # Errors
    /// Names the one that can't be listened for.
    pub(crate) fn listen() -> Result<Ends, WireError> {
        let mut first = Ends::both()?;
        tokio::spawn(async move {
            first.told().await;
            upgrade::told_to_end();
        });
        Ends::both()
    }

    fn both() -> Result<Ends, WireError> {
        let listen = |kind, what| signal(kind).map_err(|e| failed(what, e));
        Ok(Ends {
            terminate: listen(SignalKind::terminate(), "listen for SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "listen for SIGINT")?,
        })
    }

    /// Waits for one.
    pub(crate) async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs server and agent until SIGTERM or SIGINT. Pods go on running after that.
///
/// # Errors
/// Names what could not be started and why.
pub(crate) fn serve(mut config: Config, with_agent: bool) -> Result<(), WireError> {
    if with_agent && !nix::unistd::geteuid().is_root() {
        return Err(WireError(
            "running pods needs root: use sudo, or --no-agent to lead only".into(),
        ));
    }
    clock::settle(&config.data_dir, &config.run_dir);
    runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut ends = Ends::listen()?;
        let (node_ip, fixed) = (config.node_ip, config.fixed_ip);
        let data_dir = config.data_dir.clone();
        let manager = notify::Manager::meet();
        manager.status("starting");
        let mut seat = upgrade::Seat::of(&data_dir, config.upgrade_keys.clone());
        config.upgrades = Some(seat.upgrades.clone());
        let place = doctor::of(&config, Path::new("/"));
        let board = start(config, with_agent, stopped).await?;
        tokio::spawn(doctor::once(place, with_agent));
        manager.ready(&format!("server: the API is at https://{}", board.address()));
        let mut again = false;
        let mut outcome = Ok(());
        tokio::select! {
            () = ends.told() => {}
            ended = board.agent_end() => outcome = ended,
            why = depart::outside(&board.lead.server, &data_dir) => {
                upgrade::told_to_end();
                outcome = Err(why);
            }
            () = seat.again() => again = true,
            () = board.lead.server.restored() => {
                tracing::info!("starting again as the cluster of the backup");
                again = true;
            }
            address = identity::moved(node_ip, fixed) => {
                tracing::info!("the address is {address} now: starting again with it");
                again = true;
            }
        }
        match again {
            true => manager.status("starting again"),
            false => manager.stopping(),
        }
        // A receiver that is gone has stopped already.
        let _ = stop.send(true);
        let finished = board.finish().await;
        outcome.and(finished)?;
        match again {
            true => Err(failed("start again", identity::start_again())),
            false => Ok(()),
        }
    })
}

/// A running board.
pub(crate) struct Board {
    lead: Lead,
    agent: tokio::sync::Mutex<Option<tokio::task::JoinHandle<Result<(), kubelet::AgentError>>>>,
}

impl Board {
    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.lead.server.address()
    }

    /// Waits for the agent to end by itself, which it only does on an error.
    pub(crate) async fn agent_end(&self) -> Result<(), WireError> {
        let mut agent = self.agent.lock().await;
        let Some(task) = agent.as_mut() else { return std::future::pending().await };
        let ended = task.await;
        *agent = None;
        match ended {
            Ok(result) => result.map_err(|e| failed("agent", e)),
            Err(error) => Err(failed("agent", error)),
        }
    }

    /// Waits for the agent that was told to stop, then closes the server.
    pub(crate) async fn finish(self) -> Result<(), WireError> {
        let agent = self.agent.into_inner();
        let ended = match agent {
            Some(task) => match task.await {
                Ok(result) => result.map_err(|e| failed("agent", e)),
                Err(error) => Err(failed("agent", error)),
            },
            None => Ok(()),
        };
        self.lead.shutdown().await;
        ended
    }
}

/// Starts the server, and the agent if asked for. The API answers when this returns.
pub(crate) async fn start(
    config: Config,
    with_agent: bool,
    stopped: watch::Receiver<bool>,
) -> Result<Board, WireError> {
    let mut lead = server::start(&config).await?;
    tracing::info!("API at https://{}", lead.server.address());
    let agent = if with_agent {
        let agent_config = agent_config(&config, &lead)?;
        upgrade::prove(&agent_config.api, &agent_config.name);
        Some(tokio::spawn(kubelet::run(agent_config, stopped)))
    } else {
        let mut own = lead.server.address();
        if own.ip().is_unspecified() {
            own.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        upgrade::prove_server(&config.data_dir, own, lead.server.name());
        let mut config = config;
        if let Some(member) = &lead.member {
            config.ranges = member.saved.as_ranges();
        }
        // Only now is it certain that no other process has this board's identity.
        match cleanup::retire(&config).await {
            Ok(true) => lead.server.runs_no_pods(),
            Ok(false) => {}
            Err(error) => {
                lead.shutdown().await;
                return Err(error);
            }
        }
        None
    };
    Ok(Board { lead, agent: tokio::sync::Mutex::new(agent) })
}

fn agent_config(config: &Config, lead: &Lead) -> Result<AgentConfig, WireError> {
    let local = format!("https://127.0.0.1:{}", lead.server.address().port());
    let ((api, serving), cidrs) = match &lead.member {
        Some(member) => ((member.live.api(), member.live.server()), Some(&member.saved)),
        None => (founder(config, &lead.server)?, None),
    };
    let known: Vec<String> = api.servers.clone();
    let servers = agent::servers(&lead.news, known, Some(local.clone()));
    let api = edge_client::Config { servers: vec![local], ..api };
    let of = |own: &String, told: fn(&Saved) -> &String| cidrs.map_or(own, told).clone();
    Ok(AgentConfig {
        name: lead.server.name().to_owned(),
        node_ip: config.node_ip,
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        resolv_conf: config.resolv_conf.clone(),
        listen: config.agent_listen,
        pod_cidr: of(&pod_cidr(&config.ranges.cluster_cidr), |saved| &saved.pod_cidr),
        cluster_cidr: of(&config.ranges.cluster_cidr, |saved| &saved.cluster_cidr),
        service_cidr: of(&config.ranges.service_cidr, |saved| &saved.service_cidr),
        cluster_domain: of(&config.ranges.cluster_domain, |saved| &saved.cluster_domain),
        encrypt_pods: config.encrypt_pods,
        wireguard_port: config.wireguard_port,
        api,
        serving,
        labels: std::collections::BTreeMap::new(),
        registries: registries(config),
        servers: Some(servers),
        beats: Some(beats(lead.bus.clone(), &lead.news)),
        version: version::kubelet(),
        upgrades: config.upgrades.clone(),
    })
}

/// What the agent beside the founder speaks and answers with.
fn founder(
    config: &Config,
    server: &Server,
) -> Result<(edge_client::Config, watch::Receiver<Arc<rustls::ServerConfig>>), WireError> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let credentials = server
        .agent_credentials(&config.name, &[config.node_ip, loopback])
        .map_err(|e| failed("agent credentials", e))?;
    let api = edge_client::Config {
        ca_pem: Some(credentials.ca_pem.clone().into()),
        client_cert_pem: Some(credentials.client_cert_pem.clone().into()),
        client_key_pem: Some(credentials.client_key_pem.clone().into()),
        server_name: Some(SERVER_NAME.to_owned()),
        ..edge_client::Config::default()
    };
    Ok((api, serving(&credentials)?))
}

/// What the agent beside a server shows on its port.
fn serving(
    credentials: &AgentCredentials,
) -> Result<watch::Receiver<Arc<rustls::ServerConfig>>, WireError> {
    let made = edge_client::tls::server_config(
        credentials.serving_cert_pem.as_bytes(),
        credentials.serving_key_pem.as_bytes(),
        ClientAuth::Required(credentials.ca_pem.as_bytes()),
    );
    let config = made.map_err(|e| failed("agent credentials", e))?;
    Ok(watch::Sender::new(Arc::new(config)).subscribe())
}

/// The first board's part of the cluster's pod addresses.
pub(crate) fn pod_cidr(cluster: &str) -> String {
    match cluster.split_once('/') {
        Some((address, bits)) if bits.parse::<u8>().is_ok_and(|b| b < POD_CIDR_BITS) => {
            format!("{address}/{POD_CIDR_BITS}")
        }
        _ => cluster.to_owned(),
    }
}

/// The file's registries as the image store wants them.
pub(crate) fn registries(config: &Config) -> RegistriesConfig {
    let one = |registry: &Registry| RegistryConfig {
        mirrors: registry.mirrors.clone(),
        plain_http: registry.plain_http,
        ca_file: registry.ca_file.clone(),
        ..RegistryConfig::default()
    };
    let hosts = config.registries.iter().map(|(host, it)| (host.clone(), one(it))).collect();
    RegistriesConfig { hosts }
}
