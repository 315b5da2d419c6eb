//! Services where the kernel has no nf_tables: edged itself listens where clients come, and
//! carries what they send. From the same tables as the kernel's maps. Much is lost: pods see the
//! board instead of their clients, nobody hides pods that speak to the outside, and there is no
//! SCTP; addresses that the board does not have (`externalIPs`, those of a LAN pool) are not
//! served.

mod pick;
mod tcp;
mod udp;

use super::board::{BRIDGE, Board, lock};
use super::error::NetError;
use edge_core::podnet::Range;
use edge_core::proxy::{Front, Protocol, Tables};
use pick::Ways;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Connections carried at once; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// What people are told.
pub(super) const LOST: &str = "this kernel has no nf_tables: edged carries what is sent to \
     Services itself, slower; pods see the board's address instead of their clients', pods reach \
     nobody outside the cluster, and SCTP, externalIPs and addresses of a LAN pool don't work; \
     load or build in nf_tables, nft_nat, nft_masq, nft_numgen, nft_reject and nft_fib";

type Shared = Arc<Mutex<Ways>>;
/// The connections that are open, and how many at each address of the board.
#[derive(Debug, Default)]
struct Carried {
    tasks: Mutex<JoinSet<()>>,
    busy: Mutex<BTreeMap<Ipv4Addr, usize>>,
}

/// One connection at an address, for as long as this is kept.
struct Busy(Arc<Carried>, Ipv4Addr);

impl Busy {
    fn new(carried: &Arc<Carried>, address: Ipv4Addr) -> Busy {
        *locked(&carried.busy).entry(address).or_default() += 1;
        Busy(carried.clone(), address)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = locked(&self.0.busy);
        if let Some(count) = busy.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.1);
            }
        }
    }
}

/// Where clients come.
type Door = (Ipv4Addr, Protocol, u16);

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock(mutex)
}

/// Whether a client is the board itself, asking itself.
fn here(client: Ipv4Addr, local: IpAddr) -> bool {
    client.is_loopback() || IpAddr::V4(client) == local
}

/// What is open. All ends when this is dropped.
#[derive(Debug)]
pub(super) struct Splice {
    open: BTreeMap<Door, (Shared, AbortHandle)>,
    doors: JoinSet<()>,
    carried: Arc<Carried>,
    slots: Arc<Semaphore>,
    /// Doors that something else stands in, so that it is told once.
    taken: BTreeSet<Door>,
}

impl Default for Splice {
    fn default() -> Splice {
        Splice {
            open: BTreeMap::new(),
            doors: JoinSet::new(),
            carried: Arc::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            taken: BTreeSet::new(),
        }
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        // Each connection holds what it is counted in.
        locked(&self.carried.tasks).abort_all();
    }
}

/// The board's addresses as the tables want them: which may be listened on.
pub(super) struct Addresses {
    own: BTreeSet<Ipv4Addr>,
    services: Range,
    cluster: Range,
}

impl Board {
    /// Gives the bridge the addresses of Services, and takes those of former ones that no open
    /// connection needs. Answers where may be listened.
    pub(super) fn hold_addresses(
        &self,
        tables: &Tables,
        busy: &BTreeSet<Ipv4Addr>,
    ) -> Result<Addresses, NetError> {
        let services = Range::from(self.ranges.services);
        let mut links = lock(&self.links);
        let bridge = links.find(BRIDGE)?.map_or(0, |link| link.index);
        let fronts = tables.routes.keys().filter_map(|front| front.address);
        let wanted: BTreeSet<Ipv4Addr> = fronts.filter(|ip| services.contains(*ip)).collect();
        let all = links.addresses()?;
        let (mut held, mut own) = (BTreeSet::new(), BTreeSet::new());
        for (index, address, length) in all {
            let services_own = index == bridge && length == 32 && services.contains(address);
            if !services_own {
                own.insert(address);
            } else if wanted.contains(&address)
                || busy.contains(&address)
                || Some(address) == self.ranges.services.dns()
            {
                held.insert(address);
            } else {
                links.remove_address(index, address, length)?;
            }
        }
        for address in wanted.difference(&held) {
            links.add_address(bridge, *address, 32)?;
        }
        Ok(Addresses { own, services, cluster: Range::from(self.ranges.cluster) })
    }
}

impl Addresses {
    fn doors(&self, front: &Front) -> Vec<Door> {
        let door = |ip: &Ipv4Addr| (*ip, front.protocol, front.port);
        match &front.address {
            _ if front.protocol == Protocol::Sctp => Vec::new(),
            Some(ip) if self.own.contains(ip) || self.services.contains(*ip) => vec![door(ip)],
            Some(_) => Vec::new(),
            None => self.own.iter().map(door).collect(),
        }
    }
}

impl Splice {
    /// The board's addresses at which connections are open.
    pub(super) fn busy(&self) -> BTreeSet<Ipv4Addr> {
        locked(&self.carried.busy).keys().copied().collect()
    }

    /// Opens and closes doors as the tables say. Connections that are open stay.
    pub(super) async fn apply(&mut self, tables: &Tables, addresses: &Addresses) {
        let mut wanted = BTreeMap::new();
        for (front, route) in tables.routes.iter().filter(|(_, route)| Ways::lead(route)) {
            for door in addresses.doors(front) {
                // An address and its port count before a node port of that number.
                if front.address.is_some() || !wanted.contains_key(&door) {
                    wanted.insert(door, (route, tables.allowed.get(front)));
                }
            }
        }
        while self.doors.try_join_next().is_some() {}
        self.taken.retain(|door| wanted.contains_key(door));
        self.open.retain(|door, (_, task)| {
            let stays = wanted.contains_key(door);
            if !stays {
                task.abort();
            }
            stays
        });
        // A task that is to end still accepts until it has: a client must find no door there
        // once this has returned.
        while self.doors.len() > self.open.len() && self.doors.join_next().await.is_some() {}
        for (door, (route, sources)) in wanted {
            if let Some((ways, _)) = self.open.get(&door) {
                locked(ways).change(route, sources);
                continue;
            }
            let ways = Ways::new(route.clone(), sources.cloned(), addresses.cluster);
            if let Err(error) = self.open(door, Arc::new(Mutex::new(ways))).await
                && self.taken.insert(door)
            {
                let (ip, protocol, port) = door;
                tracing::warn!("{} is not served at {ip}:{port} {protocol:?}: {error}", route.name);
            }
        }
    }

    async fn open(&mut self, door: Door, ways: Shared) -> std::io::Result<()> {
        let (ip, protocol, port) = door;
        let task = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind((ip, port)).await?;
                let (slots, carried) = (self.slots.clone(), self.carried.clone());
                self.doors.spawn(tcp::serve(listener, ways.clone(), slots, carried))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind((ip, port)).await?;
                self.doors.spawn(udp::serve(socket, ways.clone()))
            }
            Protocol::Sctp => return Ok(()),
        };
        self.taken.remove(&door);
        self.open.insert(door, (ways, task));
        Ok(())
    }
}
