//! A board that runs pods and does not lead: its bus, and how what the leader says there reaches
//! its agent.

use std::sync::Arc;

use edge_bus::{BeatKeys, Bus, Keys, Me, Role, TlsPair};
use edge_server::join::ServerInfo;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::bus::{self, News};
use super::hint::Hint;
use super::{WireError, failed};
use crate::config::Config;
use crate::join::{Live, Member};

/// An agent's way to the cluster.
pub(crate) struct Tie {
    pub(crate) bus: Arc<Bus>,
    pub(crate) news: News,
    beside: JoinSet<()>,
}

/// Starts the bus of a board that has joined.
///
/// # Errors
/// Names what could not be started.
pub(crate) async fn tie(config: &Config, member: &Member) -> Result<Tie, WireError> {
    let saved = &member.saved;
    let known = saved.servers.iter().filter_map(|server| bus::broker(&server.name, &server.broker));
    let (brokers, following) = watch::channel(known.collect::<Vec<_>>());
    let external = crate::brokers::settle(&config.data_dir, &config.brokers, true);
    let external = external.map_err(WireError::from)?;
    let mut beside = JoinSet::new();
    let settings = edge_bus::Config {
        cluster: saved.cluster.clone(),
        me: Me { name: saved.name.clone(), role: Role::Agent },
        embedded: None,
        brokers: following,
        external,
        tls: tls(member.live.client(), &mut beside),
        keys: Keys { raft: None, leader: saved.leader_key, beat: BeatKeys::Own(saved.beat_key) },
    };
    if let Some(place) = edge_bus::twin(&settings).await.map_err(|e| failed("agent", e))? {
        return Err(doubled(config, &place));
    }
    let (bus, incoming) = Bus::start(settings).await.map_err(|e| failed("agent", e))?;
    let news = News::new();
    beside.spawn(bus::pump(incoming, None, news.clone()));
    beside.spawn(follow(news.follow(), brokers, member.live.clone()));
    beside.spawn(member.live.clone().keep());
    Ok(Tie { bus: Arc::new(bus), news, beside })
}

/// What somebody is told who started a copy.
fn doubled(config: &Config, place: &str) -> WireError {
    let what = format!(
        "{} belongs to a board that runs elsewhere right now (met at the broker of {place}): this \
         is a copy of its data, and would run its pods a second time; stop the other one, or join \
         with an empty data directory and a name of its own",
        config.data_dir.display()
    );
    failed("agent", what)
}

impl Tie {
    /// Waits until this board turns out to be a copy that began while the first one was out of
    /// reach, which gives why it ends.
    pub(crate) async fn doubled(&self, config: &Config) -> WireError {
        let mut met = self.bus.doubled();
        match met.wait_for(Option::is_some).await.map(|place| place.clone()) {
            Ok(Some(place)) => doubled(config, &place),
            _ => std::future::pending().await,
        }
    }

    /// Says good-bye.
    pub(crate) async fn shutdown(mut self) {
        self.bus.close().await;
        self.beside.shutdown().await;
    }
}

/// The servers' URLs as the leader tells them; `first` is asked before all others.
pub(crate) fn servers(
    news: &News,
    known: Vec<String>,
    first: Option<String>,
) -> watch::Receiver<Vec<String>> {
    let list = move |apis: Vec<String>| -> Vec<String> {
        let others = apis.into_iter().filter(|api| Some(api) != first.as_ref());
        first.clone().into_iter().chain(others).collect()
    };
    let (sender, receiver) = watch::channel(list(known));
    let mut hints = news.follow();
    tokio::spawn(async move {
        while hints.changed().await.is_ok() {
            let hint = hints.borrow_and_update().clone();
            let servers = hint.into_iter().flat_map(|hint| hint.servers);
            let here = servers.filter(|place| !place.away);
            let apis: Vec<String> = here.map(|place| place.api).collect();
            if !apis.is_empty() {
                sender.send_replace(list(apis));
            }
        }
    });
    receiver
}

/// Brokers and servers as the leader tells them; what is kept of them changes only with them.
async fn follow(
    mut hints: watch::Receiver<Option<Hint>>,
    brokers: watch::Sender<Vec<edge_bus::BrokerAddress>>,
    live: Arc<Live>,
) {
    while hints.changed().await.is_ok() {
        let Some(hint) = hints.borrow_and_update().clone() else { continue };
        let next: Vec<_> = hint
            .servers
            .iter()
            .filter_map(|place| bus::broker(&place.name, &place.broker))
            .collect();
        brokers.send_if_modified(|known| {
            // None at all: the user's own count.
            let changed = *known != next && !next.is_empty();
            if changed {
                known.clone_from(&next);
            }
            changed
        });
        let servers = hint.servers.into_iter().map(|place| ServerInfo {
            id: place.id,
            name: place.name,
            api: place.api,
            broker: place.broker,
            ..ServerInfo::default()
        });
        if let Err(error) = live.know(servers.collect()) {
            tracing::warn!("keep the list of servers: {error}");
        }
    }
}

fn tls(
    mut from: watch::Receiver<Arc<rustls::ClientConfig>>,
    beside: &mut JoinSet<()>,
) -> watch::Receiver<Arc<TlsPair>> {
    let pair = |client: &Arc<rustls::ClientConfig>| {
        Arc::new(TlsPair { client: client.clone(), server: None })
    };
    let (sender, receiver) = watch::channel(pair(&from.borrow_and_update()));
    beside.spawn(async move {
        while from.changed().await.is_ok() {
            sender.send_replace(pair(&from.borrow_and_update()));
        }
    });
    receiver
}
