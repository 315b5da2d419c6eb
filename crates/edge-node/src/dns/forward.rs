//! Questions that others must answer: each is asked once, however many wait for it; a server that
//! doesn't answer is followed by the next; and what is heard is remembered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edge_core::dns::{Heard, Name, Query, Zone, code, kind};
use tokio::sync::watch;

use super::cache::{Cache, Key};
use super::talk;
use super::upstreams::{Files, Upstreams};

/// How often a server is asked for one answer, in all.
const TRIES: usize = 3;
/// A complaint about servers is made no more often than this.
const COMPLAIN: Duration = Duration::from_secs(60);

/// What a question came to: an answer, or none.
type Said = Option<Arc<Heard>>;

/// The way to other servers.
pub(super) struct Forwarder(Arc<Inner>);

struct Inner {
    cache: Mutex<Cache>,
    upstreams: Mutex<Upstreams>,
    /// Questions under way. Bounded by those that wait: see `serve`.
    asked: Mutex<BTreeMap<Key, watch::Receiver<Option<Said>>>>,
    complained: Mutex<Option<Instant>>,
    /// The names by which servers are tried, and those that turned out to ask us.
    probes: Mutex<BTreeMap<Name, SocketAddr>>,
    loops: Mutex<Vec<SocketAddr>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    pub(super) fn new(files: Files, zone: &Zone) -> Forwarder {
        Forwarder(Arc::new(Inner {
            cache: Mutex::default(),
            upstreams: Mutex::new(Upstreams::new(files, zone.clone())),
            asked: Mutex::default(),
            complained: Mutex::default(),
            probes: Mutex::default(),
            loops: Mutex::default(),
        }))
    }

    /// What is known of a name, and how many seconds old that is.
    pub(super) fn remembered(&self, query: &Query, name: &Name) -> Option<(Arc<Heard>, u32)> {
        lock(&self.0.cache).get(&Key::new(query, name), Instant::now())
    }

    /// What others say of a name; none when nobody says anything.
    pub(super) async fn lookup(&self, query: &Query, name: &Name) -> Option<(Arc<Heard>, u32)> {
        if let Some(known) = self.remembered(query, name) {
            return Some(known);
        }
        let mut said = self.join(query, name);
        let answer = said.wait_for(Option::is_some).await.ok()?.clone();
        answer.flatten().map(|heard| (heard, 0))
    }

    /// Waits for who asks already, or asks.
    fn join(&self, query: &Query, name: &Name) -> watch::Receiver<Option<Said>> {
        let key = Key::new(query, name);
        let mut asked = lock(&self.0.asked);
        if let Some(under_way) = asked.get(&key) {
            return under_way.clone();
        }
        let (tell, told) = watch::channel(None);
        asked.insert(key.clone(), told.clone());
        let (inner, query, name) = (self.0.clone(), query.clone(), name.clone());
        // A task of its own: it goes on when who asked first has gone.
        tokio::spawn(async move {
            let said = inner.ask(&query, &name).await.map(Arc::new);
            if let Some(heard) = &said {
                lock(&inner.cache).put(key.clone(), heard.clone(), Instant::now());
            }
            lock(&inner.asked).remove(&key);
            let _ = tell.send(Some(said));
        });
        told
    }

    /// True for a question that we asked ourselves: the server that sends it on to us is not
    /// asked any more.
    pub(super) fn is_own_probe(&self, query: &Query) -> bool {
        if query.kind != kind::HINFO {
            return false;
        }
        let Some(server) = lock(&self.0.probes).remove(&query.name.lower()) else { return false };
        tracing::warn!(
            "DNS: the board's server {server} sends questions on to this board, which would go \
             round for ever; it is not asked; give the board another one"
        );
        lock(&self.0.loops).push(server);
        true
    }
}

impl Inner {
    async fn ask(self: &Arc<Inner>, query: &Query, name: &Name) -> Option<Heard> {
        let (mut servers, changed) = lock(&self.upstreams).servers(Instant::now());
        if changed {
            self.probe(&servers);
        }
        servers.retain(|server| !lock(&self.loops).contains(server));
        let mut last = None;
        let mut why = "the board names no server in its resolv.conf".to_owned();
        for server in servers.iter().cycle().take(if servers.is_empty() { 0 } else { TRIES }) {
            if lock(&self.loops).contains(server) {
                continue;
            }
            match talk::server(*server, query, name).await {
                Ok(heard) if matches!(heard.code, code::FAILURE | code::REFUSED) => {
                    why = format!("{server} answers with code {}", heard.code);
                    last = Some(heard);
                    // The next one may know; the same one says the same.
                    if servers.len() == 1 {
                        break;
                    }
                }
                Ok(heard) => return Some(heard),
                Err(error) => why = format!("{server}: {error}"),
            }
        }
        self.complain(name, &why);
        last
    }

    fn complain(&self, name: &Name, why: &str) {
        let mut last = lock(&self.complained);
        if last.is_none_or(|at| at.elapsed() >= COMPLAIN) {
            *last = Some(Instant::now());
            tracing::warn!("DNS: no answer for {name} from outside: {why}");
        }
    }

    /// Asks each server for a name that nobody has and nobody else asks for: if that question
    /// comes to us, the server asks us.
    fn probe(self: &Arc<Inner>, servers: &[SocketAddr]) {
        lock(&self.loops).clear();
        lock(&self.probes).clear();
        for server in servers {
            let Ok(number) = talk::number() else { return };
            let Some(name) = Name::new(&format!("{:x}.{:x}", number >> 32, number as u32)) else {
                return;
            };
            lock(&self.probes).insert(name.clone(), *server);
            let (inner, server) = (self.clone(), *server);
            tokio::spawn(async move {
                let query = Query {
                    id: 0,
                    recursion: true,
                    unchecked: false,
                    name: name.clone(),
                    kind: kind::HINFO,
                    class: edge_core::dns::CLASS_IN,
                    edns: None,
                };
                let _ = talk::server(server, &query, &name).await;
                lock(&inner.probes).remove(&name);
            });
        }
    }
}
