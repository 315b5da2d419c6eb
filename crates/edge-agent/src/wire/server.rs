//! A server board: the API and its store, the bus that ties it to the others, and the ways between
//! the two. Nothing else knows both.

use std::net::SocketAddr;
use std::sync::Arc;

use edge_bus::{Bus, ExternalBroker, Keys, Me, Role as BusRole, TlsPair};
use edge_core::clock::ClusterClock;
use edge_core::consensus::{MemberInfo, Members};
use edge_server::join::{Cluster, Role, ServerInfo, Trust};
use edge_server::pki::{ClusterSecrets, expect_whole};
use edge_server::{BusTls, Founding, Linked, Server};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bus::{self, Line, News};
use super::{WireError, failed};
use crate::brokers;
use crate::config::{Config, remember};
use crate::identity;
use crate::join::{self, Member, Saved};
use crate::upgrade::Door;

/// A server and its bus.
pub(crate) struct Lead {
    pub(crate) server: Server,
    pub(crate) bus: Arc<Bus>,
    pub(crate) news: News,
    /// What this board has of the cluster it joined; `None` on the one that founded it.
    pub(crate) member: Option<Arc<Member>>,
    beside: JoinSet<()>,
}

/// Joins if that is to be done, and starts the server and its bus.
///
/// # Errors
/// Names what was refused or could not be started, and why.
pub(crate) async fn start(config: &Config) -> Result<Lead, WireError> {
    expect_whole(&config.data_dir).map_err(|e| failed("server", e))?;
    let joins = !config.join.is_empty() || join::joined(&config.data_dir);
    if !joins {
        join::is_its_own(config).map_err(WireError::from)?;
        identity::remember(&config.data_dir, &config.name).map_err(|e| failed("server", e))?;
    }
    let member = match joins {
        true => Some(Arc::new(join::enter(config, Role::Server).await.map_err(WireError::from)?)),
        false => None,
    };
    let brokers = brokers::settle(&config.data_dir, &config.brokers, joins);
    let config = &Config { brokers: brokers.map_err(WireError::from)?, ..config.clone() };
    let saved = member.as_ref().map(|member| &member.saved);
    let line = Arc::new(Line::default());
    let linked = Linked {
        courier: line.clone(),
        broker: broker_address(config),
        seeds: saved.map(seeds).unwrap_or_default(),
        founding: if joins { Founding::Join } else { Founding::Found },
        programs: config.upgrades.clone().map(|upgrades| Arc::new(Door(upgrades)) as _),
    };
    let settings = settings(config, member.as_deref());
    let server = Server::start_linked(settings, linked).await.map_err(|e| failed("server", e))?;
    if !joins {
        // Not before: the store may know of other ranges, and has the last word.
        remember(config).map_err(|e| failed("server", e))?;
    }
    let secrets = ClusterSecrets::open(&config.data_dir).map_err(|e| failed("bus", e))?;
    let mut beside = JoinSet::new();
    let known = members(&server, saved);
    let (places, following) = watch::channel(bus::brokers(&known));
    let settings = edge_bus::Config {
        cluster: secrets.id.clone(),
        me: Me { name: server.name().to_owned(), role: BusRole::Server },
        embedded: Some(config.broker_listen),
        brokers: following,
        external: config.brokers.clone(),
        tls: tls(server.bus_tls(), &mut beside),
        keys: Keys::of_server(&secrets.secret),
    };
    if let Some(place) = edge_bus::twin(&settings).await.map_err(|e| failed("server", e))? {
        return Err(failed("server", doubled(&config.data_dir, &place)));
    }
    let (bus, incoming) = Bus::start(settings).await.map_err(|e| failed("server", e))?;
    let bus = Arc::new(bus);
    line.connect(bus.clone());
    let news = News::new();
    beside.spawn(bus::pump(incoming, Some(server.inlet()), news.clone()));
    beside.spawn(bus::herald(bus.clone(), server.inlet(), server.standings()));
    beside.spawn(follow(places, server.standings()));
    beside.spawn(throw_out(bus.clone(), server.trust()));
    if let Some(member) = &member {
        beside.spawn(member.live.clone().keep());
    }
    Ok(Lead { server, bus, news, member, beside })
}

impl Lead {
    /// Hands leadership over, says good-bye on the bus and closes the store.
    pub(crate) async fn shutdown(mut self) {
        // The bus must carry the hand-over.
        self.server.shutdown().await;
        self.bus.close().await;
        self.beside.shutdown().await;
    }
}

/// What somebody is told who started a copy.
fn doubled(data_dir: &std::path::Path, place: &str) -> String {
    format!(
        "{} belongs to a server that runs elsewhere right now (met at the broker of {place}): this \
         is a copy of its data, and two must never vote with one key; stop the other one, or join \
         with an empty data directory and a name of its own",
        data_dir.display()
    )
}

/// How other boards reach this one's broker; nothing when no fixed port is listened on, or none
/// at all because the brokers are the user's.
fn broker_address(config: &Config) -> String {
    match config.broker_listen.port() {
        0 => String::new(),
        _ if !config.brokers.is_empty() => String::new(),
        port => SocketAddr::new(config.node_ip, port).to_string(),
    }
}

fn settings(config: &Config, member: Option<&Member>) -> edge_server::Config {
    let clock = match member {
        Some(member) => member.live.clock().clone(),
        None => ClusterClock::new(0, crate::clock::read),
    };
    let saved = member.map(|member| &member.saved);
    let of = |own: &String, told: fn(&Saved) -> &String| saved.map_or(own, told).clone();
    edge_server::Config {
        name: of(&config.name, |saved| &saved.name),
        data_dir: config.data_dir.clone(),
        listen: config.listen,
        node_ip: Some(config.node_ip),
        cluster_cidr: of(&config.ranges.cluster_cidr, |saved| &saved.cluster_cidr),
        service_cidr: of(&config.ranges.service_cidr, |saved| &saved.service_cidr),
        cluster_domain: of(&config.ranges.cluster_domain, |saved| &saved.cluster_domain),
        agent_port: config.agent_listen.port(),
        nodes: config.nodes,
        cluster: Cluster {
            clock,
            derive: Some(edge_bus::derive),
            broker_port: config.broker_listen.port(),
            brokers: config.brokers.iter().map(ExternalBroker::secret_url).collect(),
            lan_pool: config.lan_pool.clone(),
            ..Cluster::default()
        },
    }
}

fn seeds(saved: &Saved) -> Vec<MemberInfo> {
    let seed = |server: &ServerInfo| {
        Some(MemberInfo {
            id: server.id.parse().ok()?,
            name: server.name.clone(),
            api: server.api.clone(),
            broker: server.broker.clone(),
        })
    };
    saved.servers.iter().filter_map(seed).collect()
}

/// The servers as the store has them; before it has any, as the join had them.
fn members(server: &Server, saved: Option<&Saved>) -> Members {
    let members = server.standing().members.clone();
    match saved {
        Some(saved) if members.is_empty() => Members::founders(seeds(saved)),
        _ => members,
    }
}

/// Keeps the list of brokers as the membership has it.
async fn follow(
    brokers: watch::Sender<Vec<edge_bus::BrokerAddress>>,
    mut standings: watch::Receiver<Arc<edge_core::consensus::Standing>>,
) {
    loop {
        let members = standings.borrow_and_update().members.clone();
        if !members.is_empty() {
            let next = bus::brokers(&members);
            brokers.send_if_modified(|known| {
                let changed = *known != next;
                if changed {
                    known.clone_from(&next);
                }
                changed
            });
        }
        if standings.changed().await.is_err() {
            return;
        }
    }
}

/// Ends the bus's sessions of boards whose keys are revoked; they are not let in again.
async fn throw_out(bus: Arc<Bus>, mut trust: watch::Receiver<Arc<Trust>>) {
    loop {
        let now = trust.borrow_and_update().clone();
        for name in now.thrown_out() {
            if bus.evict(name) > 0 {
                tracing::info!("ended the bus session of {name}: its key was revoked");
            }
        }
        if trust.changed().await.is_err() {
            return;
        }
    }
}

/// The server's certificates in the form that the bus takes them, as they are renewed.
fn tls(
    mut from: watch::Receiver<Arc<BusTls>>,
    beside: &mut JoinSet<()>,
) -> watch::Receiver<Arc<TlsPair>> {
    let pair = |tls: &BusTls| {
        Arc::new(TlsPair { client: tls.client.clone(), server: Some(tls.server.clone()) })
    };
    let (sender, receiver) = watch::channel(pair(&from.borrow_and_update()));
    beside.spawn(async move {
        while from.changed().await.is_ok() {
            sender.send_replace(pair(&from.borrow_and_update()));
        }
    });
    receiver
}
