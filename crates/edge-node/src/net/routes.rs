//! Routes to other boards' pods in the kernel's main table. Ours carry a mark of our own, so
//! that they are found again by the next edged, and nobody else's is ever touched.

use super::board::{BRIDGE, Board, Ranges, lock};
use super::error::NetError;
use super::link::{Link, Links, TABLE_MAIN, UNICAST};
use super::netlink::{ACK, Attributes, CREATE, DUMP, Message, REPLACE, Reply};
use super::sysctl;
use super::wireguard::TUNNEL;
use edge_core::podnet::tunnel::{Announced, Announcement, Tunnel};
use edge_core::podnet::{self, Own, Peer, Range, Route, Seen, Unreached, Via, Way};
use nix::errno::Errno;
use std::net::Ipv4Addr;

/// How a route says that edged made it (`rtm_protocol`); the number is nobody else's.
const PROTOCOL: u8 = 237;

const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const INET: u8 = 2;
const ATTR_DST: u16 = 1;
const ATTR_OIF: u16 = 4;
const ATTR_GATEWAY: u16 = 5;
const ATTR_PRIORITY: u16 = 6;
const ATTR_SOURCE: u16 = 7;
const ATTR_TABLE: u16 = 15;
/// The kind of a route that leads to the board itself.
const LOCAL: u8 = 2;
/// The kind of a route that leads to nobody, and says so.
const UNREACHABLE: u8 = 7;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// Of whatever scope, when a route is to be removed.
const SCOPE_NOWHERE: u8 = 255;
const HEADER: usize = 12;

/// What the agent hears of the routes that were set.
#[derive(Debug)]
pub struct Synced {
    /// Boards whose pods can't be reached.
    pub unreached: Vec<Unreached>,
    /// What this board's Node has to say of tunnels.
    pub announcement: Announcement,
}

fn header(length: u8, scope: u8, kind: u8) -> [u8; HEADER] {
    [INET, length, 0, 0, TABLE_MAIN, PROTOCOL, scope, kind, 0, 0, 0, 0]
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// A route of the main table that comes first for its range.
fn read(reply: &Reply) -> Option<Seen> {
    let header = reply.body.get(..HEADER)?;
    let attributes = Attributes(&reply.body[HEADER..]);
    let table = attributes.ne32(ATTR_TABLE).unwrap_or_else(|| header[4].into());
    if table != u32::from(TABLE_MAIN) || attributes.ne32(ATTR_PRIORITY).unwrap_or(0) != 0 {
        return None;
    }
    let base = attributes.find(ATTR_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), address)?;
    Some(Seen {
        range: Range::new(base, header[1])?,
        gateway: attributes.find(ATTR_GATEWAY).and_then(address),
        link: attributes.ne32(ATTR_OIF),
        dead: header[7] == UNREACHABLE,
        ours: header[5] == PROTOCOL,
    })
}

impl Links {
    fn routes(&mut self) -> Result<Vec<Seen>, NetError> {
        let request = Message::new(GETROUTE, DUMP, &[INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let replies = self.socket.dump(request).map_err(NetError::refused("list", "routes"))?;
        Ok(replies.iter().filter_map(read).collect())
    }

    /// The way to another board, as the kernel would send a packet there.
    fn way_to(&mut self, to: Ipv4Addr, links: &[Link]) -> Result<Way, NetError> {
        let mut request = Message::new(GETROUTE, ACK, &[INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        request.put(ATTR_DST, &to.octets());
        let replies = match self.socket.dump(request) {
            Ok(replies) => replies,
            Err(refusal) => match refusal.errno {
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL | Errno::EACCES => {
                    return Ok(Way::Nowhere);
                }
                _ => return Err(NetError::refused("find the way to", to.to_string())(refusal)),
            },
        };
        Ok(replies.iter().find_map(|reply| way(reply, links)).unwrap_or(Way::Nowhere))
    }

    /// Sets a route of ours. Through a tunnel the board itself speaks as `own`, its pods' gateway.
    fn set_pod_route(&mut self, route: &Route, own: Ipv4Addr) -> Result<(), NetError> {
        let (scope, kind) = match route.via {
            Via::Board { .. } => (SCOPE_UNIVERSE, UNICAST),
            Via::Tunnel(_) => (SCOPE_LINK, UNICAST),
            Via::Nobody => (SCOPE_UNIVERSE, UNREACHABLE),
        };
        let header = header(route.pods.length(), scope, kind);
        let mut request = Message::new(NEWROUTE, CREATE | REPLACE, &header);
        request.put(ATTR_DST, &route.pods.base().octets());
        match route.via {
            Via::Board { gateway, link } => {
                request.put(ATTR_GATEWAY, &gateway.octets());
                request.put_u32(ATTR_OIF, link);
            }
            Via::Tunnel(link) => {
                request.put(ATTR_SOURCE, &own.octets());
                request.put_u32(ATTR_OIF, link);
            }
            Via::Nobody => {}
        }
        let object = route.pods.to_string();
        self.socket.request(request).map_err(NetError::refused("set the route to", object))
    }

    /// Removes a route of ours; it may be gone already.
    fn remove_pod_route(&mut self, seen: &Seen) -> Result<(), NetError> {
        let kind = if seen.dead { UNREACHABLE } else { UNICAST };
        let header = header(seen.range.length(), SCOPE_NOWHERE, kind);
        let mut request = Message::new(DELROUTE, 0, &header);
        request.put(ATTR_DST, &seen.range.base().octets());
        if let Some(gateway) = seen.gateway {
            request.put(ATTR_GATEWAY, &gateway.octets());
        }
        if let Some(link) = seen.link {
            request.put_u32(ATTR_OIF, link);
        }
        match self.socket.request(request) {
            Err(refusal) if refusal.errno != Errno::ESRCH => {
                let object = seen.range.to_string();
                Err(NetError::refused("remove the route to", object)(refusal))
            }
            _ => Ok(()),
        }
    }
}

fn way(reply: &Reply, links: &[Link]) -> Option<Way> {
    let header = reply.body.get(..HEADER)?;
    let attributes = Attributes(&reply.body[HEADER..]);
    if header[7] == LOCAL {
        return Some(Way::Own);
    }
    let index = attributes.ne32(ATTR_OIF)?;
    let link = links.iter().find(|link| link.index == index)?;
    let neighbour = attributes.find(ATTR_GATEWAY).is_none() && link.neighbours;
    // What would be sent to pods is no board's address.
    if link.name == BRIDGE || link.name == TUNNEL {
        return Some(Way::Nowhere);
    }
    Some(if neighbour { Way::Neighbour(index) } else { Way::Routed })
}

/// Refuses ranges that meet a network of the board, or a route that somebody made: either the
/// pods or the hosts there could not be reached.
pub(super) fn check_ranges(links: &mut Links, ranges: &Ranges) -> Result<(), NetError> {
    let all = links.list()?;
    let named = |index| all.iter().find(|link| Some(link.index) == index);
    let name = |index| named(index).map_or("", |link| link.name.as_str());
    let own = |link: &str| [BRIDGE, TUNNEL].contains(&link);
    let (addresses, routes) = (links.addresses()?, links.routes()?);
    for (setting, range) in [("service-cidr", ranges.services), ("cluster-cidr", ranges.cluster)] {
        let range = Range::from(range);
        let clash = |other: Range, what: String| NetError::Config {
            setting,
            value: range.to_string(),
            reason: format!("overlaps {other}, {what}; choose another"),
        };
        for (index, address, length) in &addresses {
            let link = name(Some(*index));
            let bits = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            let base = Ipv4Addr::from(u32::from(*address) & bits);
            let network = Range::new(base, *length).filter(|_| !own(link));
            if let Some(network) = network.filter(|network| network.overlaps(&range)) {
                return Err(clash(network, format!("the network of {link}")));
            }
        }
        for seen in routes.iter().filter(|seen| !seen.ours && seen.range.length() > 0) {
            // Single routes to pods that somebody made are told of, and left alone.
            let within = setting == "cluster-cidr" && !seen.range.covers(&range);
            let link = name(seen.link);
            if !own(link) && !within && seen.range.overlaps(&range) {
                return Err(clash(seen.range, format!("to which a route leads by {link}")));
            }
        }
    }
    Ok(())
}

impl Board {
    /// See [`super::Net::sync_routes`].
    pub(super) fn sync_routes(&self, name: &str, peers: Vec<Peer>) -> Result<Synced, NetError> {
        let mut links = Links::open()?;
        self.look_at_link(&mut links)?;
        let all = links.list()?;
        let mut ways = Vec::with_capacity(peers.len());
        for peer in peers {
            let way = match peer.address {
                Some(address) if peer.name != name => links.way_to(address, &all)?,
                _ => Way::Nowhere,
            };
            ways.push((peer, way));
        }
        let mut own = Own {
            name: name.to_owned(),
            pods: self.ranges.pods.into(),
            cluster: self.ranges.cluster.into(),
            encrypts: self.tunnel.encrypts,
            tunnel: self.find_tunnel(&all)?,
        };
        let seen = links.routes()?;
        let needed = podnet::needs_tunnel(&own, &ways, &seen);
        // One thing that can't be done must not keep the others from being done.
        let mut outcome = Ok(());
        if needed {
            own.tunnel = self.raise_tunnel(&mut links).unwrap_or_else(|error| {
                outcome = Err(error);
                Tunnel::Down
            });
        }
        let mut plan = podnet::plan(&own, &ways, &seen);
        if let Some(link) = own.tunnel.link() {
            match self.sync_ends(link, &plan.peers) {
                Ok(silent) => plan.unreached.extend(silent),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome = outcome.and(self.realise(&mut links, &plan));
        if !needed && own.tunnel != Tunnel::Down {
            outcome = outcome.and(self.remove_tunnel(&mut links));
        }
        let fitting = needed && own.tunnel.link().is_some();
        outcome = outcome.and(self.fit_pods(&mut links, &all, fitting));
        let wireguard = match own.tunnel {
            Tunnel::Up { key, .. } if needed => Announced::Key { key, port: self.tunnel.port },
            Tunnel::Lacking => Announced::Lacking,
            Tunnel::Up { .. } | Tunnel::Down => Announced::Nothing,
        };
        let announcement = Announcement { encrypts: self.tunnel.encrypts, wireguard };
        outcome.map(|()| Synced { unreached: plan.unreached, announcement })
    }

    fn realise(&self, links: &mut Links, plan: &podnet::Plan) -> Result<(), NetError> {
        let mut outcome = Ok(());
        for route in &plan.set {
            tracing::debug!("network: route to {}: {:?}", route.pods, route.via);
            outcome = outcome.and(links.set_pod_route(route, self.ranges.pods.gateway()));
        }
        for seen in &plan.remove {
            tracing::debug!("network: no route to {} any more", seen.range);
            outcome = outcome.and(links.remove_pod_route(seen));
        }
        outcome
    }

    /// See [`super::Net::shut_plain_ways`].
    pub(super) fn shut_plain_ways(&self) -> Result<(), NetError> {
        let mut links = Links::open()?;
        let cluster = self.ranges.cluster.into();
        let free = links.routes()?.iter().all(|seen| seen.range != cluster);
        if free && self.ranges.cluster != self.ranges.pods {
            let nobody = Route { pods: cluster, via: Via::Nobody };
            links.set_pod_route(&nobody, self.ranges.pods.gateway())?;
        }
        Ok(())
    }

    /// Sets forwarding again if somebody has taken it away; sentences about what can't be set.
    pub(super) fn keep_forwarding(&self) -> Vec<String> {
        sysctl::set(super::board::FORWARDING)
    }

    /// Sentences about what drops the pods' packets on this board.
    pub(super) fn obstacles(&self) -> Result<Vec<String>, NetError> {
        let mut found = self.keep_forwarding();
        let mut rules = lock(&self.rules);
        match rules.as_mut() {
            Some(rules) => found.extend(rules.warnings()?),
            None if matches!(self.fresh_rules(), Err(NetError::NoNfTables { .. })) => {
                found.push(super::splice::LOST.to_owned());
            }
            None => {}
        }
        Ok(found)
    }

    /// Removes all routes of ours.
    pub(super) fn remove_routes(&self) -> Result<(), NetError> {
        let mut links = Links::open()?;
        for seen in links.routes()?.iter().filter(|seen| seen.ours) {
            links.remove_pod_route(seen)?;
        }
        Ok(())
    }
}
