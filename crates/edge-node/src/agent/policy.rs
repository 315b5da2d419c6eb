//! NetworkPolicies on this board: follows them in the API, and while there are any also all pods
//! and namespaces, which their selectors mean; keeps the kernel's rules as they want them. A board
//! without policies follows nothing more than that there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edge_api::kinds::{Kind, NAMESPACE, NETWORK_POLICY, POD};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{WatchParams, Watcher};
use edge_core::policy::{Compiled, Labels, Live, Pod, Policy, Unmatched, World};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::board::Board;
use super::events::Grade::Warning;
use super::events::Subject;

/// Changes that come within this time of each other are applied together.
const SETTLE: Duration = Duration::from_millis(10);
/// Rules that could not be applied are tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Somebody may have flushed the board's rules: so often we look.
const LOOK: Duration = Duration::from_secs(60);
/// How long the API may take for its first answer, before the ledger stands in for it: the same
/// as for pods.
const API_PATIENCE: Duration = Duration::from_secs(2);

/// The watches that only policies need.
struct Others {
    pods: Watcher,
    namespaces: Watcher,
    heard: (bool, bool),
}

/// All that is known from one look to the next.
struct Keeper {
    board: Arc<Board>,
    live: Live,
    /// Pods that the board runs and the API has not shown yet.
    borrowed: BTreeSet<String>,
    /// Policies as the ledger has them, by namespace and name.
    written: BTreeMap<(String, String), Value>,
    /// Whether what is known is enough to go by.
    heard: bool,
    /// Whether the ledger lacks something of what is known.
    unrecorded: bool,
    /// True once the ledger has stood in for the API.
    recalled: bool,
    others: Option<Others>,
    told: BTreeSet<Unmatched>,
}

/// Keeps the rules for as long as the agent runs.
pub(crate) async fn run(board: Arc<Board>) {
    // Until it is known what policies there are, new pods wait behind a closed door.
    let standing = board.net.holds_pods();
    board.net.hold_pods(true);
    let mut policies = watch(&board, NETWORK_POLICY);
    let mut keeper = Keeper {
        board: board.clone(),
        live: Live::default(),
        borrowed: BTreeSet::new(),
        written: BTreeMap::new(),
        heard: false,
        unrecorded: true,
        recalled: false,
        others: None,
        told: BTreeSet::new(),
    };
    let mut due = Some(Instant::now() + API_PATIENCE);
    loop {
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = policies.next() => keeper.policies(event),
            event = next(&mut keeper.others) => {
                if !keeper.others(event) {
                    continue;
                }
            }
            () = board.pods_made.notified() => {}
            () = wait => {
                if !keeper.heard {
                    keeper.recall(standing);
                }
                due = keeper.apply().await.map(|again| Instant::now() + again);
                continue;
            }
        }
        if keeper.ready() {
            let soon = Instant::now() + SETTLE;
            due = Some(due.map_or(soon, |at| at.min(soon)));
        }
    }
}

fn watch(board: &Board, kind: &'static Kind) -> Watcher {
    Watcher::new(board.client.clone(), kind, "", WatchParams::default())
}

/// News of pods, or of namespaces.
enum News {
    Pods(Event),
    Namespaces(Event),
}

/// The next news of pods and namespaces.
async fn next(others: &mut Option<Others>) -> News {
    let Some(others) = others else { return std::future::pending().await };
    tokio::select! {
        event = others.pods.next() => {
            others.heard.0 |= matches!(event, Event::Restarted(_));
            News::Pods(event)
        }
        event = others.namespaces.next() => {
            others.heard.1 |= matches!(event, Event::Restarted(_));
            News::Namespaces(event)
        }
    }
}

fn labels(object: &Object) -> Labels {
    object["metadata"]["labels"].as_object().cloned().unwrap_or_default()
}

fn take<K: Ord, V>(map: &mut BTreeMap<K, V>, event: Event, read: impl Fn(&Object) -> (K, V)) {
    match event {
        Event::Restarted(list) => *map = list.iter().map(read).collect(),
        Event::Applied(object) => {
            let (key, value) = read(&object);
            map.insert(key, value);
        }
        Event::Deleted(object) => {
            map.remove(&read(&object).0);
        }
    }
}

/// What the ledger keeps of a policy.
fn essence(policy: &Object) -> Value {
    let meta = json!({"namespace": meta::namespace(policy), "name": meta::name(policy),
                      "uid": meta::uid(policy)});
    json!({"metadata": meta, "spec": policy["spec"]})
}

fn key(policy: &Object) -> (String, String) {
    (meta::namespace(policy).to_owned(), meta::name(policy).to_owned())
}

impl Keeper {
    /// Takes in what policies there are.
    fn policies(&mut self, event: Event) {
        self.heard |= matches!(event, Event::Restarted(_));
        self.unrecorded = true;
        self.live.set_policies(|all| take(all, event.clone(), |o| (key(o), Policy::read(o))));
        take(&mut self.written, event, |object| (key(object), essence(object)));
        if self.is_idle() {
            self.others = None;
            self.live = Live::default();
            self.borrowed.clear();
            self.told.clear();
        } else if self.others.is_none() {
            let (pods, namespaces) = (watch(&self.board, POD), watch(&self.board, NAMESPACE));
            self.others = Some(Others { pods, namespaces, heard: (false, false) });
        }
    }

    fn is_idle(&self) -> bool {
        self.live.world().policies.is_empty()
    }

    /// Takes in what became of pods and namespaces; false when that changes nothing.
    fn others(&mut self, news: News) -> bool {
        match news {
            News::Pods(Event::Restarted(list)) => {
                let stay: BTreeSet<&str> = list.iter().map(meta::uid).collect();
                let known = self.live.world().pods.keys();
                let gone: Vec<String> =
                    known.filter(|uid| !stay.contains(uid.as_str())).cloned().collect();
                gone.iter().for_each(|uid| _ = self.live.set_pod(uid, None));
                list.iter().for_each(|pod| _ = self.shown(pod));
                true
            }
            News::Pods(Event::Applied(pod)) => self.shown(&pod),
            News::Pods(Event::Deleted(pod)) => self.live.set_pod(meta::uid(&pod), None),
            News::Namespaces(event) => {
                self.unrecorded = true;
                let whole = matches!(event, Event::Restarted(_));
                let mut all = self.live.world().namespaces.clone();
                take(&mut all, event, |object| (meta::name(object).to_owned(), labels(object)));
                self.namespaces(all) || whole
            }
        }
    }

    fn shown(&mut self, pod: &Object) -> bool {
        self.borrowed.remove(meta::uid(pod));
        self.live.set_pod(meta::uid(pod), Some(Pod::read(pod)))
    }

    fn namespaces(&mut self, all: BTreeMap<String, Labels>) -> bool {
        let known = self.live.world().namespaces.keys();
        let gone: Vec<String> = known.filter(|name| !all.contains_key(*name)).cloned().collect();
        let mut news = !gone.is_empty();
        gone.iter().for_each(|name| _ = self.live.set_namespace(name, None));
        for (name, labels) in all {
            news |= self.live.set_namespace(&name, Some(labels));
        }
        news
    }

    /// True when enough is known to say who may talk to whom. What stands in the kernel stays
    /// until then, and new pods are held.
    fn ready(&self) -> bool {
        let both = self.others.as_ref().is_some_and(|others| others.heard == (true, true));
        let enough = self.heard && (self.is_idle() || both);
        enough || (self.recalled && !self.heard)
    }

    /// No server answers: the board goes by what it was last told, unless the kernel still has
    /// rules that know more.
    fn recall(&mut self, standing: bool) {
        if standing || self.recalled {
            return;
        }
        self.recalled = true;
        let Some(known) = self.board.ledger.policies() else { return };
        tracing::info!("no server answers: policies are enforced as the ledger has them");
        let policies: Vec<&Value> = known["policies"].as_array().into_iter().flatten().collect();
        self.live
            .set_policies(|all| all.extend(policies.iter().map(|p| (key(p), Policy::read(p)))));
        self.written.extend(policies.iter().map(|policy| (key(policy), (*policy).clone())));
        for (name, labels) in known["namespaces"].as_object().into_iter().flatten() {
            let labels = labels.as_object().cloned().unwrap_or_default();
            self.live.set_namespace(name, Some(labels));
        }
    }

    fn record(&mut self) {
        let namespaces = &self.live.world().namespaces;
        let policies: Vec<&Value> = self.written.values().collect();
        let known = json!({"policies": policies, "namespaces": namespaces});
        let known = (!policies.is_empty()).then_some(known);
        if let Err(error) = self.board.ledger.put_policies(known.as_ref()) {
            tracing::warn!("record policies in the ledger: {error}");
        } else {
            self.unrecorded = false;
        }
    }

    /// Makes the kernel's rules what they should be. Says when to look again, if at all.
    async fn apply(&mut self) -> Option<Duration> {
        if !self.ready() {
            return None;
        }
        if self.heard && self.unrecorded {
            self.record();
        }
        if self.is_idle() {
            return match self.board.net.apply_policies(None).await {
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!("remove the rules of policies: {error}; tried again in 5 s");
                    Some(RETRY)
                }
            };
        }
        let compiled = self.compile();
        self.tell(&compiled.unmatched);
        match self.board.net.apply_policies(Some(compiled)).await {
            Ok(0) => Some(LOOK),
            Ok(cut) => {
                tracing::info!("policies: cut {cut} connections that are no longer allowed");
                Some(LOOK)
            }
            Err(error) => {
                tracing::warn!("enforce policies on this board: {error}; tried again in 5 s");
                Some(RETRY)
            }
        }
    }

    fn compile(&mut self) -> Compiled {
        // What the API has not shown yet is known from what the board runs.
        let views = self.board.pod_views();
        let runs: BTreeSet<&str> = views.iter().map(|view| view.uid()).collect();
        let borrowed = std::mem::take(&mut self.borrowed);
        for uid in borrowed {
            if runs.contains(uid.as_str()) {
                self.borrowed.insert(uid);
            } else {
                self.live.set_pod(&uid, None);
            }
        }
        for view in &views {
            let uid = view.uid();
            if self.borrowed.contains(uid) || !self.live.world().pods.contains_key(uid) {
                self.live.set_pod(uid, Some(Pod::read(&view.object)));
                self.borrowed.insert(uid.to_owned());
            }
        }
        if let Some(address) = self.board.net.dns_address() {
            let dns = World::dns_pod(address);
            self.live.set_pod(&dns.uid.clone(), Some(dns));
        }
        self.live.compile(&self.board.net.pod_addresses())
    }

    /// Says which rules name ports that nobody has, each once for as long as it is so.
    fn tell(&mut self, unmatched: &[Unmatched]) {
        for found in unmatched.iter().filter(|found| !self.told.contains(*found)) {
            let about = Subject {
                kind: NETWORK_POLICY.kind,
                namespace: found.namespace.clone(),
                name: found.name.clone(),
                uid: found.uid.clone(),
                field_path: None,
            };
            self.board.events.say(&about, Warning, "UnknownPortName", found.message.clone());
        }
        self.told = unmatched.iter().cloned().collect();
    }
}
