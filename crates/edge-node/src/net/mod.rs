//! The network of one board's pods: a bridge, a namespace and an address for each pod, and
//! the kernel's rules for Services. By netlink alone; nothing here runs another program.
//!
//! The kernel and the run directory hold all state, so edged may die at any moment: what a
//! crash left half made is removed when the next edged opens the network.

mod announce;
mod board;
mod error;
mod events;
mod inside;
mod link;
mod look;
mod netlink;
mod nft;
mod pods;
mod policy;
mod range;
mod record;
mod routes;
mod sandbox;
mod splice;
pub(crate) mod survey;
mod sysctl;
mod wireguard;

pub use announce::{ArpSocket, Network};
pub use error::NetError;
pub use events::LinkEvents;
pub(crate) use inside::within;
pub(crate) use look::Look;
pub use routes::Synced;

use crate::seams::PodNetwork;
use board::Board;
use edge_core::podnet::Peer;
use edge_core::policy::Compiled;
use edge_core::proxy::{Patch, Tables};
use splice::Splice;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The address of a pod that runs, as its record in the run directory has it: its own, or that of
/// the board, whose network it is on. For who has no network open.
pub(crate) fn address(run_dir: &Path, uid: &str, board: IpAddr) -> Option<IpAddr> {
    let record = record::Records::of(run_dir, uid)?;
    if record.host_network { Some(board) } else { record.ip.map(IpAddr::V4) }
}

/// Pods whose changes may be under way at once; changes to one pod always wait for each other.
const TURNS: usize = 16;

/// What a board's network needs to know.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// What dies with the board's uptime: pinned namespaces and the pods' records.
    pub run_dir: PathBuf,
    /// What outlives it: the private key for tunnels, in its `pki`.
    pub data_dir: PathBuf,
    /// This board's range of pod addresses, part of `cluster_cidr`.
    pub pod_cidr: String,
    /// The range of all boards' pods.
    pub cluster_cidr: String,
    /// The range of Services' addresses.
    pub service_cidr: String,
    /// This board's address on the LAN.
    pub node_ip: IpAddr,
    /// Whether what its pods and those of other boards say to each other is to be encrypted.
    pub encrypt_pods: bool,
    /// The UDP port of its end of tunnels to other boards.
    pub wireguard_port: u16,
    /// Serve Services as where the kernel has no nf_tables, whether it has or not: for tests.
    pub without_nf_tables: bool,
}

/// The network of this board's pods. A cheap handle; clones are the same network.
#[derive(Debug, Clone)]
pub struct Net {
    board: Arc<Board>,
    turns: Arc<Vec<Arc<Mutex<()>>>>,
    /// What carries Services where the kernel can't.
    splice: Arc<Mutex<Option<Splice>>>,
}

/// Whether a cluster's ranges are good, and meet no network of this board and no route on it. It
/// changes nothing.
///
/// # Errors
/// [`NetError::Config`] names the setting and what it meets; others mean that it is not known.
pub fn check_ranges(cluster_cidr: &str, service_cidr: &str) -> Result<(), NetError> {
    let ranges = board::Ranges::of_cluster(cluster_cidr, service_cidr)?;
    routes::check_ranges(&mut link::Links::open()?, &ranges)
}

impl Net {
    /// Sets up bridge, forwarding and routes, takes over the pods that an earlier edged left,
    /// and removes what it left half made. Blocks for some milliseconds.
    pub fn open(config: NetConfig) -> Result<Net, NetError> {
        let turns = (0..TURNS).map(|_| Arc::default()).collect();
        let board = Arc::new(Board::open(&config)?);
        Ok(Net { board, turns: Arc::new(turns), splice: Arc::default() })
    }

    /// The address at which this board answers its pods' DNS questions; it stands on our bridge.
    pub fn dns_address(&self) -> Option<std::net::Ipv4Addr> {
        self.board.ranges.services.dns()
    }

    /// What doesn't stop the board but keeps some traffic from working, in sentences.
    pub fn warnings(&self) -> &[String] {
        self.board.warnings()
    }

    /// Makes a pod's namespaces and network, or finds them as they already are.
    pub async fn create_pod(
        &self,
        uid: &str,
        hostname: &str,
        host_network: bool,
    ) -> Result<PodNetwork, NetError> {
        record::check_uid(uid)?;
        let (name, hostname) = (uid.to_owned(), hostname.to_owned());
        self.change(uid, "make the pod's network", move |board| {
            board.create(&name, &hostname, host_network)
        })
        .await
    }

    /// The network of a pod, if it stands.
    pub fn find_pod(&self, uid: &str) -> Option<PodNetwork> {
        self.board.find(uid)
    }

    /// The uids of all pods whose network stands.
    pub fn list_pods(&self) -> Vec<String> {
        self.board.list()
    }

    /// Removes a pod's network and namespaces; there may be none. Its processes must have ended.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), NetError> {
        record::check_uid(uid)?;
        let name = uid.to_owned();
        self.change(uid, "remove the pod's network", move |board| board.remove(&name)).await
    }

    /// Makes the kernel's rules for Services say what the tables say. Only elements that differ
    /// from what the kernel has are changed, in one transaction: no connection notices. Cheap
    /// when nothing differs.
    pub async fn apply_proxy(&self, tables: &Tables) -> Result<(), NetError> {
        let wanted = self.board.elements(tables);
        let operation = "change the rules for Services";
        let outcome = self.change("services", operation, move |board| board.apply(&wanted)).await;
        let mut splice = self.splice.lock().await;
        if !matches!(outcome, Err(NetError::NoNfTables { .. })) {
            *splice = None;
            return outcome;
        }
        let all = tables.clone();
        let operation = "hold the addresses of Services";
        let busy = splice.as_ref().map(Splice::busy).unwrap_or_default();
        let hold = move |board: &Board| board.hold_addresses(&all, &busy);
        let addresses = self.change("services", operation, hold).await?;
        splice.get_or_insert_default().apply(tables, &addresses).await;
        Ok(())
    }

    /// Brings what [`Net::apply_proxy`] has made up to date with one change, which costs what it
    /// touches. False when that can't be said to lead there: the rules are not known, somebody else
    /// has changed some, or there are none in this kernel; then the whole must be applied.
    pub async fn patch_proxy(&self, patch: Patch) -> Result<bool, NetError> {
        let operation = "change the rules for Services";
        self.change("services", operation, move |board| board.patch(&patch)).await
    }

    /// Keeps new pods from everybody, or no longer, until [`Net::apply_policies`] knows them.
    pub fn hold_pods(&self, hold: bool) {
        self.board.holds.store(hold, std::sync::atomic::Ordering::Release);
    }

    /// Whether new pods are held.
    pub fn holds_pods(&self) -> bool {
        self.board.holds.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The addresses of this board's pods, by uid; those on the board's own network have none.
    pub fn pod_addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        self.board.addresses()
    }

    /// Makes the kernel's rules for policies say what is wanted, and cuts connections that they
    /// forbid; without anything wanted, all are gone, and nobody is held. Answers how many
    /// connections were cut.
    pub async fn apply_policies(&self, wanted: Option<Compiled>) -> Result<usize, NetError> {
        self.change("policies", "change the rules for policies", move |board| {
            board.apply_policies(wanted.as_ref())
        })
        .await
    }

    /// Keeps addresses for pods that may come back, by their uids: those had them before the board
    /// was booted, and others still know them by these.
    pub fn keep_addresses(&self, had: impl IntoIterator<Item = (String, std::net::Ipv4Addr)>) {
        let mut pool = board::lock(&self.board.pool);
        had.into_iter().for_each(|(uid, address)| pool.keep(address, &uid));
    }

    /// True when the board had no rules for Services before this edged made them: it was booted.
    pub fn is_fresh(&self) -> bool {
        self.board.fresh
    }

    /// Forgets connections that wait for an answer of targets that an earlier change took away:
    /// their next packet goes to another. To be called once answers that were under way have come;
    /// cheap when there was no such change. Answers how many those were.
    pub async fn forget_unanswered(&self) -> Result<usize, NetError> {
        let work = |board: &Board| board.forget_unanswered();
        self.change("services", "forget unanswered connections", work).await
    }

    /// The number of the last change to any rules of the board: it stays while nothing changes.
    pub fn rules_generation(&self) -> Result<u32, NetError> {
        self.board.generation()
    }

    /// Makes the routes and tunnels to other boards' pods those that are wanted, with the fewest
    /// changes, and says which boards get none. `name` is this board's own Node; it may be among
    /// the peers.
    pub async fn sync_routes(&self, name: &str, peers: Vec<Peer>) -> Result<Synced, NetError> {
        let name = name.to_owned();
        self.change("routes", "set the routes to other boards' pods", move |board| {
            board.sync_routes(&name, peers)
        })
        .await
    }

    /// Before any pod runs: what is for other boards' pods and is to be secret goes nowhere until
    /// there is a tunnel for it. Done by itself where this board asks; to be called where another
    /// is known to ask. The next [`Net::sync_routes`] sets right what nobody asks for.
    pub async fn shut_plain_ways(&self) -> Result<(), NetError> {
        let about = "keep what is secret from plain ways";
        self.change("routes", about, Board::shut_plain_ways).await
    }

    /// Tells when links, addresses or routes of the board change.
    pub fn link_events(&self) -> Result<LinkEvents, NetError> {
        LinkEvents::open()
    }

    /// The networks that the board is on, by links that have neighbours.
    pub async fn networks(&self) -> Result<Vec<Network>, NetError> {
        self.change("networks", "look at the board's networks", Board::networks).await
    }

    /// Hears and says ARP on a link.
    pub fn hear_arp(&self, link: &str) -> Result<ArpSocket, NetError> {
        ArpSocket::open(link)
    }

    /// What drops the pods' packets on this board right now, in sentences; what is ours to set
    /// right is set right first.
    pub async fn obstacles(&self) -> Result<Vec<String>, NetError> {
        self.change("obstacles", "look at the board's own rules", Board::obstacles).await
    }

    /// What there is on this board that explains where packets go and end. Changes nothing.
    pub(crate) async fn look(&self) -> Result<Look, NetError> {
        self.change("look", "look at the board's network", Board::look).await
    }

    /// Removes everything of ours from the board: pods, bridge, rules, files. Nothing else.
    pub async fn cleanup(&self) -> Result<(), NetError> {
        *self.splice.lock().await = None;
        self.change("", "clean up the network", |board| board.cleanup()).await
    }

    /// Does one pod's change on a thread of its own, after the changes before it. It goes on
    /// to its end even when the caller stops waiting.
    async fn change<T: Send + 'static>(
        &self,
        uid: &str,
        operation: &'static str,
        work: impl FnOnce(&Board) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, NetError> {
        let sum: usize = uid.bytes().map(usize::from).sum();
        let turn = self.turns[sum % TURNS].clone().lock_owned().await;
        let board = self.board.clone();
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("edged-net".to_owned())
            .spawn(move || {
                let result = work(&board);
                // First of all let go, so that whoever is answered finds the network free.
                drop((board, turn));
                let _ = answer.send(result);
            })
            .map_err(|_| NetError::Thread { operation })?;
        answered.await.unwrap_or(Err(NetError::Thread { operation }))
    }
}
