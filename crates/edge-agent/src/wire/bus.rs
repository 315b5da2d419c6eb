//! The bus wired up: messages between servers, beats, wills and hints, each to whom it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use edge_bus::{BrokerAddress, Bus, Incoming};
use edge_core::consensus::{MemberId, Members, Standing};
use edge_core::liveness::BeatError;
use edge_node::agent::{Asked, BeatLine};
use edge_server::{Courier, Inlet};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::counters;
use super::hint::{Hint, Place};

/// How often a board beats that has others: a silent one is found within a second.
const EVERY: Duration = Duration::from_millis(400);
/// How often one beats that is alone: nobody else could take its pods.
const ALONE_EVERY: Duration = Duration::from_secs(10);
/// How long a server that the leader does not hear of any more is still asked: an election makes
/// all of them unheard of for a moment.
const AWAY_AFTER: Duration = Duration::from_millis(700);
/// Boards of other versions that are told of at most.
const STRANGE: usize = 256;
/// Beats that wait for the bus.
const BEATS: usize = 2;

/// Carries the store's messages, once there is a bus to carry them on.
#[derive(Default)]
pub(crate) struct Line(OnceLock<Arc<Bus>>);

impl Line {
    /// From now on, messages go out.
    pub(crate) fn connect(&self, bus: Arc<Bus>) {
        // It is connected once, when the board starts.
        let _ = self.0.set(bus);
    }
}

impl Courier for Line {
    fn send(&self, to: &str, message: Bytes) {
        if let Some(bus) = self.0.get() {
            bus.send(to, message);
        }
    }

    fn trouble(&self) -> Option<String> {
        let alone = self.0.get()?.counters().sessions == 0;
        alone.then(|| "no broker lets this server in: its log says why".to_owned())
    }

    fn metrics(&self) -> String {
        self.0.get().map(|bus| counters::render(&bus.counters())).unwrap_or_default()
    }
}

/// What a board knows of the cluster through the bus.
#[derive(Clone)]
pub(crate) struct News {
    hint: watch::Sender<Option<Hint>>,
    /// The form of the last hint that could not be read.
    strange: Arc<AtomicU64>,
}

impl News {
    /// Nothing yet.
    pub(crate) fn new() -> News {
        News { hint: watch::Sender::new(None), strange: Arc::default() }
    }

    /// Takes in what a leader said, unless something newer is known. Beats then carry its nonce,
    /// which this board's own server, if there is one, must know as well.
    fn hear(&self, payload: &[u8], inlet: Option<&Inlet>) {
        let Some(hint) = Hint::read(payload) else {
            self.complain(payload);
            return;
        };
        self.hint.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| hint.newer_than(known));
            if newer {
                if let Some(inlet) = inlet {
                    inlet.asked(&hint.nonce);
                }
                *known = Some(hint.clone());
            }
            newer
        });
    }

    /// Says once of each other version that its leader is not understood here.
    fn complain(&self, payload: &[u8]) {
        match Hint::strange(payload) {
            Some(form) if self.strange.swap(form, Ordering::Relaxed) != form => tracing::warn!(
                "the leader's version of edged is not this board's: its hints are of form {form}; \
                 update whichever is older"
            ),
            _ => tracing::debug!("a leader's hint that can't be read"),
        }
    }

    /// Follows it.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Hint>> {
        self.hint.subscribe()
    }
}

/// Hands out what the bus brings; `inlet` is the server's, if this board has one.
pub(crate) async fn pump(mut incoming: mpsc::Receiver<Incoming>, inlet: Option<Inlet>, news: News) {
    let mut strange = BTreeSet::new();
    while let Some(item) = incoming.recv().await {
        match (item, &inlet) {
            (Incoming::Leader { payload, .. }, inlet) => news.hear(&payload, inlet.as_ref()),
            (Incoming::Raft { from, message }, Some(inlet)) => inlet.deliver(&from, message),
            (Incoming::Beat { node, payload }, Some(inlet)) => {
                if let Err(error) = inlet.beat(&node, &payload) {
                    strange_beat(&node, &error, &mut strange);
                }
            }
            (Incoming::Gone { name }, Some(inlet)) => {
                tracing::info!("{name} left the bus without a good-bye");
                inlet.gone(&name);
            }
            (Incoming::Back { name }, Some(inlet)) => inlet.back(&name),
            (Incoming::Ended { name }, Some(inlet)) => inlet.ended(&name),
            (_, None) => {}
        }
    }
}

/// Says once of each board that its beats are of another version; others that can't be read are
/// nobody's to mend.
fn strange_beat(node: &str, error: &BeatError, known: &mut BTreeSet<String>) {
    let version = matches!(error, BeatError::Version { .. });
    if version && known.len() < STRANGE && known.insert(node.to_owned()) {
        tracing::warn!("{node} runs another version of edged ({error}): update whichever is older");
    } else {
        tracing::debug!("a beat of {node}: {error}");
    }
}

/// The way of this board's beats to the bus, at the pace that the leader asks for.
pub(crate) fn beats(bus: Arc<Bus>, news: &News) -> BeatLine {
    let (outlet, mut beats) = mpsc::channel::<Vec<u8>>(BEATS);
    let (ask, asked) = watch::channel(None);
    tokio::spawn(async move {
        while let Some(beat) = beats.recv().await {
            bus.beat(beat.into());
        }
    });
    let mut hints = news.follow();
    tokio::spawn(async move {
        loop {
            let hint = hints.borrow_and_update().clone();
            if let Some(hint) = hint {
                let every = Duration::from_millis(hint.every_ms.clamp(100, 10_000));
                ask.send_replace(Some(Asked { nonce: hint.nonce, every }));
            }
            if hints.changed().await.is_err() {
                return;
            }
        }
    });
    BeatLine { outlet, asked, off: crate::systemd::goes_off }
}

/// The brokers of all servers, as the membership has them.
pub(crate) fn brokers(members: &Members) -> Vec<BrokerAddress> {
    let places = members.all().map(|info| (info.name.as_str(), info.broker.as_str()));
    places.filter_map(|(name, address)| broker(name, address)).collect()
}

/// One broker; `None` for a server that has none.
pub(crate) fn broker(name: &str, address: &str) -> Option<BrokerAddress> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(BrokerAddress { name: name.to_owned(), host, port: port.parse().ok()? })
}

/// Tells all boards who leads, whenever this server does, and what changes about that.
pub(crate) async fn herald(
    bus: Arc<Bus>,
    inlet: Inlet,
    mut standings: watch::Receiver<Arc<Standing>>,
) {
    let mut said: Option<Hint> = None;
    let mut boards = inlet.boards();
    let mut away = Away::default();
    let mut known = None;
    loop {
        let standing = standings.borrow_and_update().clone();
        let now = (standing.term, standing.leader, leader(&standing).is_some());
        if known.replace(now) != Some(now) {
            tell(&standing);
        }
        let look = away.look(&standing, Instant::now());
        if standing.ready {
            let alone = standing.members.all().count() <= 1 && *boards.borrow_and_update() <= 1;
            say(&bus, &inlet, &standing, (alone, &away), &mut said);
        } else if said.take().is_some() {
            bus.step_down();
        }
        tokio::select! {
            changed = standings.changed() => if changed.is_err() { return },
            changed = boards.changed() => if changed.is_err() { return },
            () = until(look) => {}
        }
    }
}

/// Writes down who leads; that nobody does is mostly over before anybody reads it.
fn tell(standing: &Standing) {
    match leader(standing) {
        Some(name) => tracing::info!("{name} leads, term {}", standing.term),
        None => tracing::debug!("no server that is known here leads, term {}", standing.term),
    }
}

/// The leader's name; a server that has just begun does not know it yet.
fn leader(standing: &Standing) -> Option<&str> {
    let info = standing.members.info(standing.leader?)?;
    Some(&info.name)
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Which servers the leader has not heard of for a while.
#[derive(Default)]
struct Away(BTreeMap<MemberId, Instant>);

impl Away {
    /// Takes in how the servers stand; says when one more may count as away.
    fn look(&mut self, standing: &Standing, now: Instant) -> Option<Instant> {
        let quiet = |id: &MemberId| standing.progress.get(id).is_some_and(|peer| !peer.active);
        self.0.retain(|id, _| quiet(id));
        for id in standing.progress.keys().filter(|id| quiet(id)) {
            self.0.entry(*id).or_insert(now + AWAY_AFTER);
        }
        self.0.values().filter(|at| **at > now).min().copied()
    }

    fn has(&self, id: MemberId, now: Instant) -> bool {
        self.0.get(&id).is_some_and(|at| *at <= now)
    }
}

fn say(
    bus: &Bus,
    inlet: &Inlet,
    standing: &Standing,
    (alone, away): (bool, &Away),
    said: &mut Option<Hint>,
) {
    let now = Instant::now();
    let servers = standing.members.all().map(|info| Place {
        id: info.id.to_string(),
        name: info.name.clone(),
        api: info.api.clone(),
        broker: info.broker.clone(),
        away: away.has(info.id, now),
    });
    let (number, nonce) = match said {
        Some(hint) if hint.term == standing.term => (hint.number + 1, hint.nonce.clone()),
        _ => (0, inlet.ask()),
    };
    let every = if alone { ALONE_EVERY } else { EVERY };
    let mut hint = Hint::new(standing.term, number, nonce, servers.collect());
    hint.every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let same = said.as_ref().is_some_and(|known| {
        known.term == hint.term && known.servers == hint.servers && known.every_ms == hint.every_ms
    });
    if !same {
        bus.lead(hint.write().into());
        *said = Some(hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_core::consensus::Progress;

    /// A leader that hears of 2 or not, and of 3 always.
    fn standing(active: bool) -> Standing {
        let peer = |active| Progress { matched: 0, active, snapshot: false };
        let progress = BTreeMap::from([(2, peer(active)), (3, peer(true))]);
        Standing { me: 1, progress, ..Standing::default() }
    }

    #[test]
    fn a_server_is_away_when_it_was_not_heard_of_for_a_while() {
        let (mut away, t) = (Away::default(), Instant::now());
        assert_eq!(away.look(&standing(true), t), None);
        let then = t + AWAY_AFTER;
        assert_eq!(away.look(&standing(false), t), Some(then), "to be looked at again");
        assert!(!away.has(2, t) && !away.has(3, then));
        // Seen again and again meanwhile, the time does not begin anew.
        assert_eq!(away.look(&standing(false), t + AWAY_AFTER / 2), Some(then));
        assert_eq!(away.look(&standing(false), then), None);
        assert!(away.has(2, then));
        // Heard of, it is back at once; who leads no more has nobody away.
        assert_eq!(away.look(&standing(true), then), None);
        assert!(!away.has(2, then));
        away.look(&standing(false), t);
        assert_eq!(away.look(&Standing::default(), then), None);
        assert!(!away.has(2, then));
    }
}
