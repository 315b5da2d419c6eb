//! Which address of the LAN a Service has, and which board announces it. Addresses are kept while
//! their Service lives, and by their board while that is well: nothing moves without need.

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

use edge_api::{Object, kinds, meta};

use super::{EXCLUDED, LanPool, boards_with_endpoints, node, ours};
use crate::liveness::Standing;
use crate::podnet::{Peer, Range};
use crate::proxy::ANNOUNCED_BY;
use crate::view::View;

/// The address that a Service wants, or [`AT_BOARDS`].
pub const WANTED: &str = "edged.dev/lan-address";
/// Instead of an address of the LAN, those of all boards.
const AT_BOARDS: &str = "boards";
/// A Node's networks, as `192.168.1.0/24,…`: where it can announce addresses.
pub const NETWORKS: &str = "edged.dev/networks";
/// Addresses that somebody else was found to have, as `192.168.1.240=02:00:00:00:00:01,…`.
pub const CONFLICTS: &str = "edged.dev/lan-conflicts";

/// A board that may announce addresses.
#[derive(Debug)]
struct Board<'a> {
    name: &'a str,
    networks: Vec<Range>,
}

/// What has been decided for each Service that has, or should have, an address of the LAN.
#[derive(Debug, Default)]
pub(super) struct Lan<'a> {
    given: BTreeMap<(&'a str, &'a str), Result<Ipv4Addr, Refused>>,
    boards: Vec<Board<'a>>,
}

/// Why a Service has no address: one word, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) why: String,
}

fn refused<T>(reason: &'static str, why: String) -> Result<T, Refused> {
    Err(Refused { reason, why })
}

fn key(service: &Object) -> (&str, &str) {
    (meta::namespace(service), meta::name(service))
}

/// Whether a Service has an address of its own where there is a pool.
fn wants(service: &Object) -> bool {
    ours(service) && meta::annotation(service, WANTED) != Some(AT_BOARDS)
}

/// The address that a Service names itself; the annotation counts first.
fn fixed(service: &Object) -> Option<&str> {
    let named = service["spec"]["loadBalancerIP"].as_str();
    meta::annotation(service, WANTED).or(named).filter(|text| !text.is_empty())
}

/// The address that it has.
fn held(service: &Object) -> Option<Ipv4Addr> {
    meta::annotation(service, ANNOUNCED_BY)?;
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.parse().ok()
}

impl<'a> Lan<'a> {
    /// Gives addresses to Services, the oldest first; those that have one come before all others.
    pub(super) fn decide(view: &'a View, services: &[&'a Object]) -> Lan<'a> {
        let pool = &view.lan_pool;
        if pool.is_empty() {
            return Lan::default();
        }
        let nodes = || view.list(kinds::NODE).map(AsRef::as_ref);
        let of_boards: BTreeSet<Ipv4Addr> =
            nodes().filter_map(|node| Peer::read(node)?.address).collect();
        let well: Vec<&Object> = nodes().filter(|node| is_well(view, node)).collect();
        let conflicts: BTreeMap<Ipv4Addr, (&str, &str)> =
            well.iter().flat_map(|node| conflicts(node)).collect();
        let services: Vec<&Object> = services.iter().copied().filter(|s| wants(s)).collect();
        let mut taken: BTreeMap<Ipv4Addr, &Object> = BTreeMap::new();
        let mut given = BTreeMap::new();
        let free = |ip: &Ipv4Addr| !of_boards.contains(ip) && !conflicts.contains_key(ip);
        for service in &services {
            let own = held(service).filter(|ip| pool.contains(*ip) && free(ip));
            let own = own.filter(|ip| fixed(service).is_none_or(|f| f.parse() == Ok(*ip)));
            if let Some(ip) = own.filter(|ip| !taken.contains_key(ip)) {
                taken.insert(ip, service);
                given.insert(key(service), Ok(ip));
            }
        }
        for service in services {
            if given.contains_key(&key(service)) {
                continue;
            }
            let chosen = match fixed(service) {
                Some(text) => named(text, pool, &of_boards, &conflicts, &taken),
                None => match pool.addresses().find(|ip| free(ip) && !taken.contains_key(ip)) {
                    Some(ip) => Ok(ip),
                    None => {
                        let why = format!("no address is left in the LAN pool ({pool})");
                        refused("PoolExhausted", why)
                    }
                },
            };
            if let Ok(ip) = chosen {
                taken.insert(ip, service);
            }
            given.insert(key(service), chosen);
        }
        let boards = well.into_iter().filter(|node| meta::label(node, EXCLUDED).is_none());
        let boards = boards.map(|node| {
            let networks = meta::annotation(node, NETWORKS).unwrap_or_default();
            let networks = networks.split(',').filter_map(Range::parse).collect();
            Board { name: meta::name(node), networks }
        });
        Lan { given, boards: boards.collect() }
    }

    /// The address of a Service, or why it has none; `None` for one that is found at the boards.
    pub(super) fn address(&self, service: &'a Object) -> Option<&Result<Ipv4Addr, Refused>> {
        self.given.get(&key(service))
    }

    /// The board that announces a Service's address: the one that does, while it can; else the
    /// first by rendezvous hash, so that addresses spread. `None` where no board can.
    pub(super) fn announcer(&self, view: &View, service: &Object, ip: Ipv4Addr) -> Option<&str> {
        let local = service["spec"]["externalTrafficPolicy"] == "Local";
        let with_pods = local.then(|| boards_with_endpoints(view, service));
        let can = |board: &&Board<'_>| {
            let there = board.networks.iter().any(|network| network.contains(ip));
            there && with_pods.as_ref().is_none_or(|names| names.contains(board.name))
        };
        let now = meta::annotation(service, ANNOUNCED_BY).unwrap_or_default();
        let fit: Vec<&Board<'_>> = self.boards.iter().filter(can).collect();
        let stays = fit.iter().find(|board| board.name == now);
        let first = || fit.iter().max_by_key(|board| (score(board.name, ip), board.name));
        stays.or_else(first).map(|board| board.name)
    }
}

/// An address that somebody asks for by name.
fn named(
    text: &str,
    pool: &LanPool,
    of_boards: &BTreeSet<Ipv4Addr>,
    conflicts: &BTreeMap<Ipv4Addr, (&str, &str)>,
    taken: &BTreeMap<Ipv4Addr, &Object>,
) -> Result<Ipv4Addr, Refused> {
    let Some(ip) = text.parse::<Ipv4Addr>().ok().filter(|ip| pool.contains(*ip)) else {
        return refused("NotInPool", format!("{text:?} is not in the LAN pool ({pool})"));
    };
    if of_boards.contains(&ip) {
        return refused("AddressTaken", format!("{ip} is the address of a board"));
    }
    if let Some(holder) = taken.get(&ip) {
        let (namespace, name) = key(holder);
        let why = format!("{ip} is taken by Service {namespace}/{name}");
        return refused("AddressTaken", why);
    }
    if let Some((mac, board)) = conflicts.get(&ip) {
        let why = format!("somebody else on the LAN has {ip}: {mac} answered board {board}");
        return refused("AddressTaken", why);
    }
    Ok(ip)
}

/// A board that is heard and Ready. One that is being restarted can't answer for an address.
fn is_well(view: &View, node: &Object) -> bool {
    let standing = view.standing(meta::name(node));
    node::ready(node) && matches!(standing, Standing::Unheard | Standing::Alive)
}

/// Addresses that a board found somebody else to have, with whom and the board.
fn conflicts(node: &Object) -> impl Iterator<Item = (Ipv4Addr, (&str, &str))> {
    let list = meta::annotation(node, CONFLICTS).unwrap_or_default().split(',');
    list.filter_map(|entry| {
        let (ip, mac) = entry.split_once('=')?;
        Some((ip.parse().ok()?, (mac, meta::name(node))))
    })
}

/// How much a board wants an address: the highest of all boards has it (rendezvous hashing,
/// Thaler and Ravishankar 1996). FNV-1a, and SplitMix64's last steps to spread it.
fn score(board: &str, ip: Ipv4Addr) -> u64 {
    let bytes = ip.octets().into_iter().chain(board.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
