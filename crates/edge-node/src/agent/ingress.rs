//! Ingresses as this board serves them: followed from the API, and as long as one is ours, a proxy
//! runs. Services and endpoints are those that the board follows anyway; of Secrets, only those
//! that Ingresses of ours name are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edge_api::kinds::{INGRESS, INGRESS_CLASS, SECRET};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{Client, WatchParams, Watcher};
use edge_core::ingress::{Classes, SecretName, secrets};
use edge_core::proxy::Name;
use edge_ingress::{Certificate, Ports, Proxy};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::board::Board;
use super::events::{Grade, Subject};
use crate::doctor::INGRESS_CLOSED;

/// Changes that come within this time of each other are applied together.
const SETTLE: Duration = Duration::from_millis(10);
/// A port that could not be had is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Certificates that one board follows, each by a watch of its own.
const CERTIFICATES: usize = 256;
/// News of Secrets that wait to be taken in.
const NEWS: usize = 16;

type News = (SecretName, Option<Object>);

/// A certificate that is followed.
struct Followed {
    task: JoinHandle<()>,
    /// The last good one.
    good: Option<Certificate>,
    /// What was said of a bad one.
    said: String,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known, and what runs.
struct Keeper {
    board: Arc<Board>,
    ingresses: BTreeMap<Name, Object>,
    classes: BTreeMap<Name, Object>,
    followed: BTreeMap<SecretName, Followed>,
    news: mpsc::Sender<News>,
    proxy: Option<Proxy>,
    /// What was said of a port that can't be had.
    said: String,
}

/// Brings what is known of a kind, by namespace and name, to where its watch is.
fn take(map: &mut BTreeMap<Name, Object>, event: Event) {
    let key = |o: &Object| (meta::namespace(o).to_owned(), meta::name(o).to_owned());
    match event {
        Event::Restarted(list) => *map = list.into_iter().map(|o| (key(&o), o)).collect(),
        Event::Applied(object) => {
            map.insert(key(&object), object);
        }
        Event::Deleted(object) => {
            map.remove(&key(&object));
        }
    }
}

async fn next(watcher: &mut Option<Watcher>) -> Event {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

/// Serves Ingresses for as long as the agent runs.
pub(crate) async fn run(board: Arc<Board>) {
    let watch = |kind| Watcher::new(board.client.clone(), kind, "", WatchParams::default());
    let mut ingresses = watch(INGRESS);
    // Classes matter only while there is an Ingress.
    let mut classes: Option<Watcher> = None;
    let (mut heard_services, mut heard_classes) = (false, false);
    let (news, mut inbox) = mpsc::channel(NEWS);
    let mut keeper = Keeper::new(board.clone(), news);
    let mut due: Option<Instant> = None;
    loop {
        let time = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = ingresses.next() => {
                take(&mut keeper.ingresses, event);
                match (keeper.ingresses.is_empty(), &classes) {
                    (false, None) => classes = Some(watch(INGRESS_CLASS)),
                    (true, Some(_)) => (classes, heard_classes) = (None, false),
                    _ => {}
                }
            }
            event = next(&mut classes) => {
                heard_classes = true;
                take(&mut keeper.classes, event);
            }
            Some((name, secret)) = inbox.recv() => keeper.certificate(&name, secret),
            () = board.endpoints_changed.notified() => {
                heard_services = true;
                if keeper.proxy.is_none() && keeper.ingresses.is_empty() {
                    continue;
                }
            }
            () = time => {
                due = keeper.apply().await.then(|| Instant::now() + RETRY);
                continue;
            }
        }
        let known = heard_services && (heard_classes || keeper.ingresses.is_empty());
        if known && (keeper.proxy.is_some() || !keeper.ingresses.is_empty()) {
            let soon = Instant::now() + SETTLE;
            due = Some(due.map_or(soon, |at| at.min(soon)));
        }
    }
}

impl Keeper {
    fn new(board: Arc<Board>, news: mpsc::Sender<News>) -> Keeper {
        Keeper {
            board,
            ingresses: BTreeMap::new(),
            classes: BTreeMap::new(),
            followed: BTreeMap::new(),
            news,
            proxy: None,
            said: String::new(),
        }
    }

    /// Brings the proxy up to date; true when that has to be tried again.
    async fn apply(&mut self) -> bool {
        let classes = Classes::gather(self.classes.values());
        let ours: Vec<&Object> =
            self.ingresses.values().filter(|ingress| classes.ours(ingress)).collect();
        if ours.is_empty() {
            self.followed.clear();
            self.may_be_served();
            if let Some(proxy) = self.proxy.take() {
                tracing::info!("no Ingress is left for this board: its ports are closed");
                proxy.stop().await;
            }
            return false;
        }
        let table = {
            let services = self.board.services.read().unwrap_or_else(PoisonError::into_inner);
            services.routes(ours)
        };
        if self.proxy.is_none() {
            match Proxy::start(Ports::default()).await {
                Ok(proxy) => self.opened(proxy),
                Err(error) => {
                    self.closed(error.to_string());
                    return true;
                }
            }
        }
        self.follow(table.certificates.values());
        if let Some(proxy) = &self.proxy {
            let good = |name: &SecretName| self.followed.get(name)?.good.clone();
            let known = table.certificates.iter();
            proxy.certify(known.filter_map(|(host, name)| Some((host.clone(), good(name)?))));
            proxy.route(table);
        }
        false
    }

    fn opened(&mut self, proxy: Proxy) {
        tracing::info!(
            "Ingresses are served on ports {} and {}",
            proxy.http().port(),
            proxy.https().port()
        );
        self.proxy = Some(proxy);
        self.said.clear();
        self.may_be_served();
    }

    /// Nothing is in the way any more.
    fn may_be_served(&self) {
        let _ = std::fs::remove_file(self.board.run_dir.join(INGRESS_CLOSED));
    }

    fn closed(&mut self, why: String) {
        if self.said != why {
            tracing::warn!("{why}; tried again every 5 s");
            let about = Subject::node(&self.board.name, &self.board.name);
            self.board.events.say(&about, Grade::Warning, "IngressPortTaken", why.clone());
            // For `edged doctor`; the log and the event say it as well.
            let _ = std::fs::write(self.board.run_dir.join(INGRESS_CLOSED), &why);
            self.said = why;
        }
    }

    /// Follows these certificates, and no others any more.
    fn follow<'a>(&mut self, wanted: impl Iterator<Item = &'a SecretName>) {
        let wanted: BTreeSet<&SecretName> = wanted.take(CERTIFICATES).collect();
        self.followed.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if !self.followed.contains_key(name) {
                let watching = watch(self.board.client.clone(), name.clone(), self.news.clone());
                let task = tokio::spawn(watching);
                let fresh = Followed { task, good: None, said: String::new() };
                self.followed.insert(name.clone(), fresh);
            }
        }
    }

    /// Takes in what became of a Secret. A broken certificate does not take the place of a good
    /// one.
    fn certificate(&mut self, name: &SecretName, secret: Option<Object>) {
        let Some(followed) = self.followed.get_mut(name) else { return };
        let read = secret.as_ref().map(Certificate::read);
        let why = match read {
            None => {
                followed.good = None;
                followed.said.clear();
                return;
            }
            Some(Ok(good)) => {
                followed.good = Some(good);
                followed.said.clear();
                return;
            }
            Some(Err(why)) => why,
        };
        let then = match followed.good.is_some() {
            true => "the one before stays",
            false => "a self-signed one stands in",
        };
        let (namespace, secret) = name;
        let words =
            format!("the certificate in Secret {namespace}/{secret} is broken: {why}; {then}");
        if followed.said == words {
            return;
        }
        followed.said.clone_from(&words);
        tracing::warn!("{words}");
        let naming = self.ingresses.values().filter(|ingress| {
            meta::namespace(ingress) == namespace && secrets(ingress).any(|known| known == secret)
        });
        let speaks = |ingress: &&Object| {
            let first = ingress["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            first.is_none_or(|ip| ip == self.board.ip.to_string())
        };
        // One board's words are enough: that of the first address.
        for ingress in naming.filter(speaks) {
            let about = Subject {
                kind: "Ingress",
                namespace: namespace.clone(),
                name: meta::name(ingress).to_owned(),
                uid: meta::uid(ingress).to_owned(),
                field_path: None,
            };
            self.board.events.say(&about, Grade::Warning, "CertificateBroken", words.clone());
        }
    }
}

/// Follows one Secret, for as long as it is a certificate.
async fn watch(client: Client, name: SecretName, news: mpsc::Sender<News>) {
    let selector = format!("metadata.name={},type=kubernetes.io/tls", name.1);
    let params = WatchParams { field_selector: Some(selector), ..WatchParams::default() };
    let mut watcher = Watcher::new(client, SECRET, &name.0, params);
    loop {
        let secret = match watcher.next().await {
            Event::Restarted(list) => list.into_iter().find(|o| meta::name(o) == name.1),
            Event::Applied(secret) => Some(secret),
            Event::Deleted(_) => None,
        };
        if news.send((name.clone(), secret)).await.is_err() {
            return;
        }
    }
}
