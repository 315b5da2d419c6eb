//! Which sessions this board keeps: a server one with each other server's broker and its place at
//! its own, an agent one with any of them, everybody one with the user's own brokers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::broker::Hub;
use crate::bus::Core;
use crate::config::{BrokerAddress, Config, Role, TlsPair};
use crate::dial::Target;
use crate::paths::Local;
use crate::session::{Event, Session, SessionConfig};

/// Seconds between pings.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long an agent bears with a quiet broker: well below the time after which a board that does
/// not beat is given up.
const AGENT_PATIENCE: Duration = Duration::from_millis(1600);

type Events = mpsc::Sender<(u64, Event)>;

/// Enters the broker in this process, and brings what comes from there.
pub(crate) fn at_own_broker(core: &Arc<Core>, hub: &Arc<Hub>, events: Events) -> JoinHandle<()> {
    let local = Arc::new(Local::new(hub.clone(), &core.me.name, core.filters()));
    let mut outbox = local.enter();
    core.paths().own = Some(local.clone());
    let broker: Arc<str> = core.me.name.as_str().into();
    tokio::spawn(async move {
        loop {
            let Some(own) = outbox else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                outbox = local.enter();
                continue;
            };
            while let Some((message, manner)) = own.take() {
                let (topic, payload) = (message.topic.clone(), message.payload.clone());
                let broker = broker.clone();
                let event = Event::Message { broker, topic, payload, retained: manner.retain };
                if events.send((0, event)).await.is_err() {
                    return;
                }
            }
            // Somebody with our certificate took our place: wait, then take it back.
            if own.closed().is_some() {
                outbox = None;
                continue;
            }
            own.ready().await;
            outbox = Some(own);
        }
    })
}

/// Follows the list of brokers for as long as the bus lives.
pub(crate) async fn follow(core: Arc<Core>, config: Config, events: Events) {
    let external = !config.external.is_empty();
    let make = Make { core: core.clone(), external, tls: config.tls.clone(), events };
    if external {
        let targets = config.external.iter().cloned().map(Target::External).collect();
        let client = format!("{}/{}", core.cluster, client_id(&core));
        let (keep, targets) = watch::channel(targets);
        core.paths().sessions.insert("external".into(), make.session(client, targets));
        keep.closed().await;
        return;
    }
    match core.me.role {
        Role::Agent => with_any(core, make, config.brokers).await,
        Role::Server => with_each(core, make, config.brokers).await,
    }
}

/// A server's is its name. Each process of an agent has one of its own, so that a copy of its data
/// does not take its session, and the two can find out about each other.
fn client_id(core: &Core) -> String {
    let name = core.me.common_name();
    match core.me.role {
        Role::Server => name,
        Role::Agent => format!("{name}/{:016x}", core.session),
    }
}

struct Make {
    core: Arc<Core>,
    /// The brokers are the user's, and know nothing of each other.
    external: bool,
    tls: watch::Receiver<Arc<TlsPair>>,
    events: Events,
}

impl Make {
    fn session(&self, client_id: String, targets: watch::Receiver<Vec<Target>>) -> Arc<Session> {
        let core = Arc::downgrade(&self.core);
        let empty = || crate::session::Testament { topic: String::new(), payload: <_>::default() };
        let will = move |target: &Target, connection: u32| {
            core.upgrade().map_or_else(empty, |core| core.will(target.name(), connection))
        };
        let config = SessionConfig {
            client_id,
            targets,
            prefer_first: self.external,
            tls: self.tls.clone(),
            keepalive: KEEPALIVE,
            patience: match self.core.me.role {
                Role::Agent => AGENT_PATIENCE,
                Role::Server => KEEPALIVE * 3 / 2,
            },
            eager: self.core.me.role == Role::Server && !self.external,
            filters: self.core.filters(),
            will: Some(Arc::new(will)),
            connections: self.core.connections.clone(),
            counts: self.core.sessions.clone(),
        };
        let tag = self.core.connections.load(Ordering::Relaxed).into();
        Arc::new(Session::start(config, tag, self.events.clone()))
    }
}

/// An agent: one session; each board tries the brokers in an order of its own.
async fn with_any(core: Arc<Core>, make: Make, mut brokers: watch::Receiver<Vec<BrokerAddress>>) {
    let seed = crate::random::number();
    let (sender, targets) = watch::channel(ordered(&brokers.borrow_and_update(), seed));
    let session = make.session(client_id(&core), targets);
    core.paths().sessions.insert("any".into(), session);
    while brokers.changed().await.is_ok() {
        let now = ordered(&brokers.borrow_and_update(), seed);
        sender.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
    std::future::pending::<()>().await;
}

/// In an order that the seed alone decides, so that a changed list keeps it.
fn ordered(brokers: &[BrokerAddress], seed: u64) -> Vec<Target> {
    let rank = |name: &str| {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let hash = name.bytes().fold(seed ^ 0xCBF2_9CE4_8422_2325, mix);
        hash ^ hash >> 29
    };
    let mut brokers = brokers.to_vec();
    brokers.sort_by_key(|broker| rank(&broker.name));
    brokers.into_iter().map(Target::Embedded).collect()
}

/// A server: a session with each broker but its own.
async fn with_each(core: Arc<Core>, make: Make, mut brokers: watch::Receiver<Vec<BrokerAddress>>) {
    let mut places = std::collections::BTreeMap::new();
    loop {
        let wanted: Vec<_> = brokers.borrow_and_update().clone();
        let others = || wanted.iter().filter(|broker| broker.name != core.me.name);
        places.retain(|name: &String, _| others().any(|b| b.name == *name));
        for broker in others() {
            let target = vec![Target::Embedded(broker.clone())];
            let place = places.entry(broker.name.clone()).or_insert_with(|| {
                let (sender, targets) = watch::channel(target.clone());
                let session = make.session(core.me.common_name(), targets);
                core.paths().sessions.insert(broker.name.clone(), session);
                sender
            });
            place.send_if_modified(|known| {
                let changed = *known != target;
                *known = target;
                changed
            });
        }
        let mut ended = Vec::new();
        core.paths().sessions.retain(|name, session| {
            let keep = places.contains_key(name);
            if !keep {
                ended.push(session.clone());
            }
            keep
        });
        for session in ended {
            tokio::spawn(async move { session.close().await });
        }
        if brokers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_spread_over_the_brokers_and_keep_their_order() {
        let broker = |name: &str| BrokerAddress { name: name.into(), host: "h".into(), port: 1 };
        let all: Vec<_> = ["a", "b", "c"].map(broker).into();
        let mut first = std::collections::BTreeMap::new();
        for seed in 0..3000_u64 {
            let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let order = ordered(&all, seed);
            *first.entry(order[0].name().to_owned()).or_insert(0) += 1;
            let fewer = ordered(&all[..2], seed);
            let kept: Vec<_> = order.iter().filter(|t| t.name() != "c").collect();
            assert_eq!(fewer.iter().collect::<Vec<_>>(), kept);
        }
        assert!(first.len() == 3 && first.values().all(|n| *n > 700), "{first:?}");
    }
}
