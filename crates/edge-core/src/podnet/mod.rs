//! Which routes a board wants, so that its pods and those of other boards reach each other:
//! Nodes, the kernel's way to each board, and the routes that stand go in; what to set and what
//! to remove comes out, and in words why a board has no route.
//!
//! Neighbours on one network get a plain route. A board behind a router gets none, since a router
//! would not know where pods are: its pods are reached through a tunnel, and so are everybody's
//! when one of the two boards asks for encryption.

mod range;
#[cfg(test)]
mod tests;
pub mod tunnel;
mod why;

pub use range::Range;
pub use why::{Cause, Unreached, Why};

use core::net::{Ipv4Addr, SocketAddrV4};
use edge_api::{Object, meta};
use std::collections::BTreeMap;
use tunnel::{Announced, Announcement, Tunnel, TunnelPeer};

/// What is to be known of a board: where it is, and which pods are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its Node's name.
    pub name: String,
    /// The addresses of its pods.
    pub pods: Range,
    /// Its IPv4 address; `None` when it says addresses and none of them is one.
    pub address: Option<Ipv4Addr>,
    /// What it says of tunnels.
    pub says: Announcement,
}

impl Peer {
    /// Reads a Node; `None` as long as it has no pod addresses or says no address of its own.
    pub fn read(node: &Object) -> Option<Peer> {
        let pods = Range::parse(node["spec"]["podCIDR"].as_str()?)?;
        let addresses = node["status"]["addresses"].as_array()?;
        let mut internal = addresses
            .iter()
            .filter(|entry| entry["type"] == "InternalIP")
            .filter_map(|entry| entry["address"].as_str())
            .peekable();
        internal.peek()?;
        let address = internal.find_map(|address| address.parse().ok());
        let says = Announcement::read(node);
        Some(Peer { name: meta::name(node).to_owned(), pods, address, says })
    }
}

/// The kernel's way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is a neighbour on a link, given by its index.
    Neighbour(u32),
    /// It is behind a router, or a link that has no neighbours.
    Routed,
    /// It is the board's own.
    Own,
    /// There is none.
    Nowhere,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// To a board that is a neighbour.
    Board {
        /// Its address.
        gateway: Ipv4Addr,
        /// The index of the link that it is a neighbour on.
        link: u32,
    },
    /// Through this board's tunnel link, by its index.
    Tunnel(u32),
    /// To nobody: whoever sends there is told so.
    Nobody,
}

/// A route to another board's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The pods.
    pub pods: Range,
    /// The way to them.
    pub via: Via,
}

/// A route of the kernel's main table, of those that come first for their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Where it leads to.
    pub range: Range,
    /// Through whom; `None` when through nobody, or through several.
    pub gateway: Option<Ipv4Addr>,
    /// By which link; `None` when by none, or by several.
    pub link: Option<u32>,
    /// True when it leads to nobody, and says so to whoever sends there.
    pub dead: bool,
    /// True when it carries our mark.
    pub ours: bool,
}

/// What does not change while an agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The board's own Node.
    pub name: String,
    /// Its own pods.
    pub pods: Range,
    /// All boards' pods.
    pub cluster: Range,
    /// Whether it wants all traffic of its pods with other boards encrypted.
    pub encrypts: bool,
    /// Its own end of tunnels.
    pub tunnel: Tunnel,
}

/// What to do about routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ours that nobody wants any more.
    pub remove: Vec<Seen>,
    /// Those to make, or to put in place of one of ours to the same pods, at once: nothing is
    /// ever removed first that is wanted after.
    pub set: Vec<Route>,
    /// The boards at the other ends of this board's tunnel.
    pub peers: Vec<TunnelPeer>,
    /// Boards that get none.
    pub unreached: Vec<Unreached>,
}

impl Plan {
    /// True when the kernel has the routes that are wanted.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// Plans the routes of a board, and its tunnel's other ends. `peers` are all boards, with the
/// kernel's way to each; the board itself may be among them.
pub fn plan(own: &Own, peers: &[(Peer, Way)], seen: &[Seen]) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeMap<Range, Route> = BTreeMap::new();
    let mut secret = own.encrypts;
    for (peer, way, judged) in judged(own, peers) {
        let routed = judged.and_then(|address| {
            secret |= peer.says.encrypts;
            let cause = cause(own, peer, way, address, seen);
            let via = choose(own, way, address, cause)?;
            let route = Route { pods: peer.pods, via };
            let theirs = seen.iter().find(|seen| !seen.ours && seen.range == peer.pods);
            if theirs.is_some_and(|theirs| !theirs.is(&route)) {
                return Err(Why::Taken);
            }
            if let Some(cause) = cause {
                plan.peers.push(other_end(own, (peer, way, address), cause, &plan.peers)?);
            }
            if theirs.is_none() {
                wanted.insert(peer.pods, route);
            }
            // What goes through a tunnel has its route also while the board is out of reach.
            if way == Way::Nowhere { Err(Why::Nowhere(address)) } else { Ok(()) }
        });
        if let Err(why) = routed {
            plan.unreached.push(Unreached { board: peer.name.clone(), pods: peer.pods, why });
        }
    }
    // What is secret must not follow the board's default route for want of a better one.
    let taken = seen.iter().any(|seen| !seen.ours && seen.range == own.cluster);
    if secret && !taken && own.cluster != own.pods {
        wanted.insert(own.cluster, Route { pods: own.cluster, via: Via::Nobody });
    }
    let ours = || seen.iter().filter(|seen| seen.ours);
    plan.remove = ours().filter(|seen| !wanted.contains_key(&seen.range)).copied().collect();
    plan.set = wanted.into_values().filter(|route| !ours().any(|seen| seen.is(route))).collect();
    plan
}

/// Whether this board needs its end of a tunnel.
pub fn needs_tunnel(own: &Own, peers: &[(Peer, Way)], seen: &[Seen]) -> bool {
    own.encrypts
        || judged(own, peers).iter().any(|(peer, way, judged)| match judged {
            Ok(address) => cause(own, peer, *way, *address, seen).is_some(),
            Err(_) => false,
        })
}

impl Seen {
    fn is(&self, route: &Route) -> bool {
        let same = match route.via {
            Via::Board { gateway, link } => {
                !self.dead && self.gateway == Some(gateway) && self.link == Some(link)
            }
            Via::Tunnel(link) => !self.dead && self.gateway.is_none() && self.link == Some(link),
            Via::Nobody => self.dead,
        };
        same && self.range == route.pods
    }
}

type Judged<'a> = (&'a Peer, Way, Result<Ipv4Addr, Why>);

/// All other boards by name, each with its address, or with what is wrong about it.
fn judged<'a>(own: &'a Own, peers: &'a [(Peer, Way)]) -> Vec<Judged<'a>> {
    let mut peers: Vec<&(Peer, Way)> = peers.iter().filter(|(p, _)| p.name != own.name).collect();
    peers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut claimed: Vec<(Range, &str)> = vec![(own.pods, &own.name)];
    let judge = |(peer, way): &'a (Peer, Way)| {
        let judged = judge(own, peer, *way, &claimed);
        if judged.is_ok() {
            claimed.push((peer.pods, &peer.name));
        }
        (peer, *way, judged)
    };
    peers.into_iter().map(judge).collect()
}

/// A board's address, or why there can't be a route to its pods. What a Node says is not believed
/// beyond the cluster's own range: it must not lead the board's other traffic anywhere.
fn judge(own: &Own, peer: &Peer, way: Way, claimed: &[(Range, &str)]) -> Result<Ipv4Addr, Why> {
    if !own.cluster.covers(&peer.pods) {
        return Err(Why::Foreign);
    }
    if let Some((_, other)) = claimed.iter().find(|(range, _)| range.overlaps(&peer.pods)) {
        return Err(Why::Overlap((*other).to_owned()));
    }
    let address = peer.address.ok_or(Why::NoAddress)?;
    if own.cluster.contains(address) {
        return Err(Why::AddressAmongPods(address));
    }
    if way == Way::Own { Err(Why::OwnAddress(address)) } else { Ok(address) }
}

/// Why a board's pods are to be reached through a tunnel, if they are. While a link is down nobody
/// knows whether a board is behind a router: what stood goes on.
fn cause(own: &Own, peer: &Peer, way: Way, address: Ipv4Addr, seen: &[Seen]) -> Option<Cause> {
    let stands = |link| {
        let route = Route { pods: peer.pods, via: Via::Tunnel(link) };
        seen.iter().any(|seen| seen.ours && seen.is(&route))
    };
    if own.encrypts {
        return Some(Cause::Asked);
    }
    if peer.says.encrypts {
        return Some(Cause::AskedThere);
    }
    let away = match way {
        Way::Routed => true,
        Way::Nowhere => own.tunnel.link().is_some_and(stands),
        Way::Neighbour(_) | Way::Own => false,
    };
    away.then_some(Cause::Apart(address))
}

/// The way to a board's pods.
fn choose(own: &Own, way: Way, address: Ipv4Addr, cause: Option<Cause>) -> Result<Via, Why> {
    match (cause, own.tunnel, way) {
        (Some(_), Tunnel::Up { link, .. }, _) => Ok(Via::Tunnel(link)),
        (Some(cause), Tunnel::Lacking, _) => Err(Why::NoTunnelHere(cause)),
        (Some(cause), Tunnel::Down, _) => Err(Why::TunnelDown(cause)),
        (None, _, Way::Neighbour(link)) => Ok(Via::Board { gateway: address, link }),
        (None, _, _) => Err(Why::Nowhere(address)),
    }
}

/// A board as the other end of a tunnel.
fn other_end(
    own: &Own,
    (peer, way, address): (&Peer, Way, Ipv4Addr),
    cause: Cause,
    others: &[TunnelPeer],
) -> Result<TunnelPeer, Why> {
    let (key, port) = match peer.says.wireguard {
        Announced::Key { key, port } => (key, port),
        Announced::Lacking => return Err(Why::NoTunnelThere(cause)),
        Announced::Nothing => return Err(Why::NoKey(cause)),
    };
    // One key is one end: a board that shows another one's would take its traffic.
    if own.tunnel.key() == Some(key) {
        return Err(Why::SameKey(own.name.clone()));
    }
    if let Some(other) = others.iter().find(|other| other.key == key) {
        return Err(Why::SameKey(other.board.clone()));
    }
    Ok(TunnelPeer {
        board: peer.name.clone(),
        key,
        endpoint: SocketAddrV4::new(address, port),
        pods: peer.pods,
        keepalive: tunnel::keepalive(way),
    })
}
