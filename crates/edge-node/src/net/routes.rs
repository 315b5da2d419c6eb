//! Routes to other boards' pods in the kernel's main table. Ours carry a mark of our own, so
//! that they are found again by the next edged, and nobody else's is ever touched.

use super::board::{BRIDGE, Board, lock};
use super::error::NetError;
use super::link::{Link, Links, TABLE_MAIN, UNICAST};
use super::netlink::{ACK, Attributes, CREATE, DUMP, Message, REPLACE, Reply};
use super::sysctl;
use edge_core::podnet::{self, Own, Peer, Range, Route, Seen, Unreached, Way};
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
const ATTR_TABLE: u16 = 15;
/// The kind of a route that leads to the board itself.
const LOCAL: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
const HEADER: usize = 12;

fn header(length: u8) -> [u8; HEADER] {
    [INET, length, 0, 0, TABLE_MAIN, PROTOCOL, SCOPE_UNIVERSE, UNICAST, 0, 0, 0, 0]
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

    fn set_pod_route(&mut self, route: &Route) -> Result<(), NetError> {
        let mut request = Message::new(NEWROUTE, CREATE | REPLACE, &header(route.pods.length()));
        request.put(ATTR_DST, &route.pods.base().octets());
        request.put(ATTR_GATEWAY, &route.gateway.octets());
        request.put_u32(ATTR_OIF, route.link);
        let object = format!("{} through {}", route.pods, route.gateway);
        self.socket.request(request).map_err(NetError::refused("set the route to", object))
    }

    /// Removes a route of ours; it may be gone already.
    fn remove_pod_route(&mut self, seen: &Seen) -> Result<(), NetError> {
        let mut request = Message::new(DELROUTE, 0, &header(seen.range.length()));
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
    // What would be sent to our own pods' bridge is no board's address.
    if link.name == BRIDGE {
        return Some(Way::Nowhere);
    }
    Some(if neighbour { Way::Neighbour(index) } else { Way::Routed })
}

impl Board {
    /// See [`super::Net::sync_routes`].
    pub(super) fn sync_routes(
        &self,
        name: &str,
        peers: Vec<Peer>,
    ) -> Result<Vec<Unreached>, NetError> {
        let mut links = Links::open()?;
        let all = links.list()?;
        let mut ways = Vec::with_capacity(peers.len());
        for peer in peers {
            let way = match peer.address {
                Some(address) if peer.name != name => links.way_to(address, &all)?,
                _ => Way::Nowhere,
            };
            ways.push((peer, way));
        }
        let own = Own {
            name: name.to_owned(),
            pods: self.ranges.pods.into(),
            cluster: self.ranges.cluster.into(),
        };
        let plan = podnet::plan(&own, &ways, &links.routes()?);
        // One that can't be set must not keep the others from being set.
        let mut outcome = Ok(());
        for route in &plan.set {
            tracing::debug!("network: route to {} through {}", route.pods, route.gateway);
            outcome = outcome.and(links.set_pod_route(route));
        }
        for seen in &plan.remove {
            tracing::debug!("network: no route to {} any more", seen.range);
            outcome = outcome.and(links.remove_pod_route(seen));
        }
        outcome.map(|()| plan.unreached)
    }

    /// Sets forwarding again if somebody has taken it away; sentences about what can't be set.
    pub(super) fn keep_forwarding(&self) -> Vec<String> {
        sysctl::set(super::board::FORWARDING)
    }

    /// Sentences about what drops the pods' packets on this board.
    pub(super) fn obstacles(&self) -> Result<Vec<String>, NetError> {
        let mut found = self.keep_forwarding();
        if let Some(rules) = lock(&self.rules).as_mut() {
            found.extend(rules.warnings()?);
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
