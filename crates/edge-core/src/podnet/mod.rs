//! Which routes a board wants, so that its pods and those of other boards reach each other:
//! Nodes, the kernel's way to each board, and the routes that stand go in; what to set and what
//! to remove comes out, and in words why a board has no route.
//!
//! So far a board must be a neighbour on the same network. One that is not gets no route, since
//! a router would not know where pods are: a tunnel will be one more [`Way`].

mod range;
#[cfg(test)]
mod tests;

pub use range::Range;

use core::net::Ipv4Addr;
use edge_api::{Object, meta};
use std::collections::BTreeMap;
use std::fmt;

/// What is to be known of a board: where it is, and which pods are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its Node's name.
    pub name: String,
    /// The addresses of its pods.
    pub pods: Range,
    /// Its IPv4 address; `None` when it says addresses and none of them is one.
    pub address: Option<Ipv4Addr>,
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
        Some(Peer { name: meta::name(node).to_owned(), pods, address })
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

/// A route to another board's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The pods.
    pub pods: Range,
    /// Their board.
    pub gateway: Ipv4Addr,
    /// The index of the link that it is a neighbour on.
    pub link: u32,
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
}

/// Why a board has no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It has no IPv4 address.
    NoAddress,
    /// Its pods' addresses are none of the cluster's.
    Foreign,
    /// This board, or another one, has some of its pods' addresses.
    Overlap(String),
    /// Its own address is one of the cluster's pods'.
    AddressAmongPods(Ipv4Addr),
    /// Its address is on another network.
    Apart(Ipv4Addr),
    /// Its address is this board's.
    OwnAddress(Ipv4Addr),
    /// No link of this board leads to it.
    Nowhere(Ipv4Addr),
    /// There is a route to its pods that somebody else has made.
    Taken,
}

/// A board whose pods can't be reached from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The board.
    pub board: String,
    /// Its pods.
    pub pods: Range,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Unreached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreached { board, pods, why } = self;
        write!(out, "pods of board {board} ({pods}) can't be reached from here: ")?;
        match why {
            Why::NoAddress => out.write_str("it has no IPv4 address (InternalIP)"),
            Why::Foreign => out.write_str("their addresses are outside this board's cluster-cidr"),
            Why::Overlap(other) => write!(out, "board {other} has some of these addresses"),
            Why::AddressAmongPods(ip) => write!(
                out,
                "its own address {ip} is one of cluster-cidr; give the board another one"
            ),
            Why::Apart(ip) => write!(
                out,
                "its address {ip} is on another network than this board's, and pods are only \
                 routed within one network so far"
            ),
            Why::OwnAddress(ip) => {
                write!(out, "this board has its address {ip}; restart edged there")
            }
            Why::Nowhere(ip) => {
                write!(out, "no link of this board leads to its address {ip}; check the cable")
            }
            Why::Taken => {
                write!(out, "somebody else has made a route to {pods}; remove it")
            }
        }
    }
}

/// What to do about routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ours that nobody wants any more.
    pub remove: Vec<Seen>,
    /// Those to make, or to put in place of one of ours to the same pods, at once: nothing is
    /// ever removed first that is wanted after.
    pub set: Vec<Route>,
    /// Boards that get none.
    pub unreached: Vec<Unreached>,
}

impl Plan {
    /// True when the kernel has the routes that are wanted.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// Plans the routes of a board. `peers` are all boards, with the kernel's way to each; the
/// board itself may be among them.
pub fn plan(own: &Own, peers: &[(Peer, Way)], seen: &[Seen]) -> Plan {
    let mut plan = Plan::default();
    let mut peers: Vec<&(Peer, Way)> = peers.iter().filter(|(p, _)| p.name != own.name).collect();
    peers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let mut wanted: BTreeMap<Range, Route> = BTreeMap::new();
    let mut claimed: Vec<(Range, &str)> = vec![(own.pods, &own.name)];
    for (peer, way) in peers {
        let unreached = |why| Unreached { board: peer.name.clone(), pods: peer.pods, why };
        let route = match judge(own, peer, *way, &claimed) {
            Ok(route) => route,
            Err(why) => {
                plan.unreached.push(unreached(why));
                continue;
            }
        };
        claimed.push((peer.pods, &peer.name));
        let theirs = seen.iter().find(|seen| !seen.ours && seen.range == peer.pods);
        match theirs {
            Some(theirs) if !theirs.is(&route) => plan.unreached.push(unreached(Why::Taken)),
            Some(_) => {}
            None => {
                wanted.insert(peer.pods, route);
            }
        }
    }
    let ours = || seen.iter().filter(|seen| seen.ours);
    plan.remove = ours().filter(|seen| !wanted.contains_key(&seen.range)).copied().collect();
    plan.set = wanted.into_values().filter(|route| !ours().any(|seen| seen.is(route))).collect();
    plan
}

impl Seen {
    fn is(&self, route: &Route) -> bool {
        let (gateway, link) = (Some(route.gateway), Some(route.link));
        self.range == route.pods && self.gateway == gateway && self.link == link
    }
}

/// The route to a board's pods, or why there is none. What a Node says is not believed beyond
/// the cluster's own range: it must not lead the board's other traffic anywhere.
fn judge(own: &Own, peer: &Peer, way: Way, claimed: &[(Range, &str)]) -> Result<Route, Why> {
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
    match way {
        Way::Neighbour(link) => Ok(Route { pods: peer.pods, gateway: address, link }),
        Way::Routed => Err(Why::Apart(address)),
        Way::Own => Err(Why::OwnAddress(address)),
        Way::Nowhere => Err(Why::Nowhere(address)),
    }
}
