//! What all workers of the agent share: the board's parts, and where things are on its disk.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use edge_api::{Object, meta};
use edge_client::Client;
use edge_core::dns::ClusterDns;
use edge_core::doctor::Condition;
use edge_core::pod::Desired;
use edge_core::podnet::tunnel::Announcement;
use edge_core::proxy::claims::Mac;
use tokio::sync::{Notify, watch};

use super::events::{Events, Subject};
use super::ledger::Ledger;
use super::node::Facts;
use super::service_table::ServiceTable;
use super::sources::Sources;
use super::tokens::TokenBox;
use crate::dns::{Files, SharedTable};
use crate::images::ImageStore;
use crate::net::Net;
use crate::runtime::Runtime;
use crate::trust::Keys;
use crate::upgrade::Upgrades;

/// The parts of a board.
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) cluster_domain: String,
    pub(crate) dns: Option<ClusterDns>,
    /// Whom the board itself asks.
    pub(crate) resolv: Files,
    pub(crate) client: Client,
    /// Which boards' keys still count.
    pub(crate) keys: Arc<Keys>,
    pub(crate) runtime: Runtime,
    pub(crate) images: ImageStore,
    pub(crate) net: Net,
    pub(crate) sources: Sources,
    pub(crate) tokens: TokenBox,
    pub(crate) events: Events,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) facts: Facts,
    pub(crate) allocatable: BTreeMap<String, String>,
    pub(crate) services: RwLock<ServiceTable>,
    /// What they are called, for the board's DNS server.
    pub(crate) names: SharedTable,
    /// Which pod a container belongs to.
    pub(crate) routes: Mutex<BTreeMap<String, String>>,
    /// Something about the board's images has changed.
    pub(crate) images_changed: Notify,
    /// The pods that run here, by uid, for those who ask.
    pub(crate) pods: Mutex<BTreeMap<String, PodView>>,
    /// Counts ends of containers, for those who wait for one.
    pub(crate) exits: watch::Sender<u64>,
    /// Ports of pods on the board's own address may have changed.
    pub(crate) ports_changed: Notify,
    /// Services or their endpoints have changed, and all are known.
    pub(crate) endpoints_changed: Notify,
    /// A pod's network stands, and its policies may not be known yet.
    pub(crate) pods_made: Notify,
    /// The Node in the API may be out of date.
    pub(crate) node_changed: Notify,
    /// Why some pods can't be reached from here, when that is so.
    pub(crate) network_problem: Mutex<Option<String>>,
    /// What else is wrong with the board, and stays so; `None` until it has been looked at.
    pub(crate) conditions: Mutex<Option<Vec<Condition>>>,
    /// Whether the kernel's alarm has told since edged started that the supply was too weak.
    pub(crate) alarmed: AtomicBool,
    /// Networks without a pod that checks of the cluster's paths use right now, by uid, and how
    /// each is told to end.
    pub(crate) checks: Mutex<BTreeMap<String, watch::Sender<bool>>>,
    /// What the Node has to say of tunnels; `None` until that is known.
    pub(crate) announcement: Mutex<Option<Announcement>>,
    /// Addresses of the LAN that somebody else was found to have.
    pub(crate) lan_conflicts: Mutex<BTreeMap<Ipv4Addr, Mac>>,
    /// How new programs come here.
    pub(crate) upgrades: Option<Arc<Upgrades>>,
}

impl Board {
    /// A pod's directory.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// Where the logs of a pod are.
    pub(crate) fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("log/pods").join(format!("{namespace}_{name}_{uid}"))
    }

    /// The board's addresses.
    pub(crate) fn host_ips(&self) -> Vec<String> {
        vec![self.ip.to_string()]
    }

    /// Which pod each container belongs to.
    pub(crate) fn routes(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why some pods can't be reached from here.
    pub(crate) fn network_problem(&self) -> Option<String> {
        self.network_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the Node has to say of tunnels; `None` until that is known.
    pub(crate) fn announcement(&self) -> Option<Announcement> {
        *self.announcement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the Node say this of tunnels, if it does not already.
    pub(crate) fn announce(&self, announcement: Announcement) {
        let mut known = self.announcement.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(announcement) != Some(announcement) {
            self.node_changed.notify_one();
        }
    }

    /// Notes why some pods can't be reached from here, or that all can.
    pub(crate) fn set_network_problem(&self, problem: Option<String>) {
        *self.network_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// What else is wrong with the board, and stays so; `None` until it has been looked at, and
    /// nothing is known of an earlier process.
    pub(crate) fn conditions(&self) -> MutexGuard<'_, Option<Vec<Condition>>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Networks without a pod that checks use right now.
    pub(crate) fn checks(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<bool>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, PodView>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pods that run here, oldest first.
    pub(crate) fn pod_views(&self) -> Vec<PodView> {
        let mut views: Vec<PodView> = self.pods().values().cloned().collect();
        views.sort_by(|a, b| {
            let made = |view: &PodView| meta::creation_timestamp(&view.object).to_owned();
            made(a).cmp(&made(b))
        });
        views
    }

    /// A pod that runs here.
    pub(crate) fn pod_view(&self, uid: &str) -> Option<PodView> {
        self.pods().get(uid).cloned()
    }

    /// How many pods run here.
    pub(crate) fn pod_count(&self) -> usize {
        self.pods().len()
    }

    /// True for a pod that has a worker.
    pub(crate) fn shows(&self, uid: &str) -> bool {
        self.pods().contains_key(uid)
    }

    /// Shows a pod to those who ask, or no longer.
    pub(crate) fn show(&self, uid: &str, view: Option<PodView>) {
        match view {
            Some(view) => self.pods().insert(uid.to_owned(), view),
            None => self.pods().remove(uid),
        };
    }

    /// Service variables for a pod of this namespace.
    pub(crate) fn service_env(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let table = self.services.read().unwrap_or_else(PoisonError::into_inner);
        table.environment(namespace, links)
    }
}

/// A pod as others may see it: what it shall be, and what was last reported of it.
#[derive(Debug, Clone)]
pub(crate) struct PodView {
    pub(crate) object: Arc<Object>,
    pub(crate) status: Arc<Object>,
}

impl PodView {
    pub(crate) fn name(&self) -> &str {
        meta::name(&self.object)
    }

    pub(crate) fn namespace(&self) -> &str {
        meta::namespace(&self.object)
    }

    pub(crate) fn uid(&self) -> &str {
        meta::uid(&self.object)
    }

    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace() == namespace && self.name() == name
    }
}

/// A pod as the subject of events; `container` narrows it down.
pub(crate) fn subject(pod: &Desired, container: Option<&str>) -> Subject {
    let field_path = container.map(|name| {
        let list =
            if pod.init().iter().any(|c| c.name == name) { "initContainers" } else { "containers" };
        format!("spec.{list}{{{name}}}")
    });
    Subject {
        kind: "Pod",
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        uid: pod.uid().to_owned(),
        field_path,
    }
}
