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
use edge_core::policy::{Labels, Pod, Policy, Unmatched, World};
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
    world: World,
    /// Policies as the ledger has them, by namespace and name.
    written: BTreeMap<(String, String), Value>,
    /// Whether what is known is enough to go by.
    heard: bool,
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
        world: World::default(),
        written: BTreeMap::new(),
        heard: false,
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
            () = next(&mut keeper.others, &mut keeper.world) => {}
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

/// Takes in the next news of pods and namespaces.
async fn next(others: &mut Option<Others>, world: &mut World) {
    let Some(others) = others else { return std::future::pending().await };
    tokio::select! {
        event = others.pods.next() => {
            others.heard.0 |= matches!(event, Event::Restarted(_));
            let pod = |pod: &Object| (meta::uid(pod).to_owned(), Pod::read(pod));
            take(&mut world.pods, event, pod);
        }
        event = others.namespaces.next() => {
            others.heard.1 |= matches!(event, Event::Restarted(_));
            take(&mut world.namespaces, event, |object| {
                (meta::name(object).to_owned(), labels(object))
            });
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
        take(&mut self.world.policies, event.clone(), |o| (key(o), Policy::read(o)));
        take(&mut self.written, event, |object| (key(object), essence(object)));
        if self.world.policies.is_empty() {
            self.others = None;
            self.world = World::default();
            self.told.clear();
        } else if self.others.is_none() {
            let (pods, namespaces) = (watch(&self.board, POD), watch(&self.board, NAMESPACE));
            self.others = Some(Others { pods, namespaces, heard: (false, false) });
        }
    }

    /// True when enough is known to say who may talk to whom. What stands in the kernel stays
    /// until then, and new pods are held.
    fn ready(&self) -> bool {
        let both = self.others.as_ref().is_some_and(|others| others.heard == (true, true));
        let enough = self.heard && (self.world.policies.is_empty() || both);
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
        for policy in known["policies"].as_array().into_iter().flatten() {
            self.world.policies.insert(key(policy), Policy::read(policy));
            self.written.insert(key(policy), policy.clone());
        }
        for (name, labels) in known["namespaces"].as_object().into_iter().flatten() {
            let labels = labels.as_object().cloned().unwrap_or_default();
            self.world.namespaces.insert(name.clone(), labels);
        }
    }

    fn record(&self) {
        let namespaces: BTreeMap<&String, &Labels> = self.world.namespaces.iter().collect();
        let policies: Vec<&Value> = self.written.values().collect();
        let known = json!({"policies": policies, "namespaces": namespaces});
        let known = (!policies.is_empty()).then_some(known);
        if let Err(error) = self.board.ledger.put_policies(known.as_ref()) {
            tracing::warn!("record policies in the ledger: {error}");
        }
    }

    /// Makes the kernel's rules what they should be. Says when to look again, if at all.
    async fn apply(&mut self) -> Option<Duration> {
        if !self.ready() {
            return None;
        }
        if self.heard {
            self.record();
        }
        if self.world.policies.is_empty() {
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

    fn compile(&mut self) -> edge_core::policy::Compiled {
        let own = self.board.net.pod_addresses();
        // What the API has not shown yet is known from what the board runs.
        let mut borrowed = Vec::new();
        for view in self.board.pod_views() {
            if !self.world.pods.contains_key(view.uid()) {
                borrowed.push(view.uid().to_owned());
                self.world.pods.insert(view.uid().to_owned(), Pod::read(&view.object));
            }
        }
        if let Some(address) = self.board.net.dns_address() {
            let dns = World::dns_pod(address);
            borrowed.push(dns.uid.clone());
            self.world.pods.insert(dns.uid.clone(), dns);
        }
        let compiled = self.world.compile(&own);
        for uid in borrowed {
            self.world.pods.remove(&uid);
        }
        compiled
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
