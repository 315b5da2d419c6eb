//! Links, addresses, routes and neighbours of the board and of its pods, over rtnetlink.

use super::error::NetError;
use super::netlink::{ACK, Attributes, CREATE, DUMP, EXCL, Message, REPLACE, Reply, Socket};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;

const IFF_UP: u32 = 1;
const IFF_BROADCAST: u32 = 0x2;
/// Loopback, from point to point, without neighbours.
const IFF_LONELY: u32 = 0x8 | 0x10 | 0x80;
const INET: u8 = 2;
const INET6: u16 = 10;
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_AF_SPEC: u16 = 26;
const LINK_NETNS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_PEER: u16 = 1;
const PORT_HAIRPIN: u16 = 4;
const INET6_ADDRESS_MODE: u16 = 8;
const ADDRESS_MODE_NONE: u8 = 1;
const ADDR_ADDRESS: u16 = 1;
const ADDR_LOCAL: u16 = 2;
const ROUTE_DST: u16 = 1;
const ROUTE_OIF: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_PREFSRC: u16 = 7;
pub(super) const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
pub(super) const UNICAST: u8 = 1;
const NEIGHBOUR_DST: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
const PERMANENT: u16 = 0x80;

/// An interface's hardware address.
pub(super) type Mac = [u8; 6];

/// The hardware address that belongs to an address of a pod: the same each time, so that a
/// reused address is never remembered under a wrong one.
pub(super) fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) master: Option<u32>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// True when it leads to many, each with a hardware address: Ethernet and its kind.
    pub(super) neighbours: bool,
    pub(super) kind: String,
}

/// A veth pair to make: one end on the bridge here, the other as `eth0` in a pod.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    pub(super) alias: &'a str,
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) pod_namespace: BorrowedFd<'a>,
    pub(super) pod_mac: Mac,
}

fn link_header(family: u8, index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

fn address_header(length: u8, scope: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [INET, length, 0, scope, a, b, c, d]
}

fn read_link(reply: &Reply) -> Option<Link> {
    let header = reply.body.get(..16)?;
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let attributes = Attributes(&reply.body[16..]);
    Some(Link {
        index: word(4),
        name: attributes.text(LINK_NAME)?.to_owned(),
        alias: attributes.text(LINK_ALIAS).unwrap_or_default().to_owned(),
        master: attributes.ne32(LINK_MASTER),
        mtu: attributes.ne32(LINK_MTU).unwrap_or(0),
        up: word(8) & IFF_UP != 0,
        neighbours: word(8) & (IFF_BROADCAST | IFF_LONELY) == IFF_BROADCAST,
        kind: attributes.within(LINK_INFO).text(INFO_KIND).unwrap_or_default().to_owned(),
    })
}

fn octets(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// rtnetlink in one network namespace.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) socket: Socket,
}

impl Links {
    /// For the calling thread's network namespace.
    pub(super) fn open() -> Result<Links, NetError> {
        let socket = Socket::open(SockProtocol::NetlinkRoute)
            .map_err(NetError::kernel("open a socket for", "rtnetlink"))?;
        Ok(Links { socket })
    }

    /// Every link.
    pub(super) fn list(&mut self) -> Result<Vec<Link>, NetError> {
        let request = Message::new(GETLINK, DUMP, &link_header(0, 0, false));
        let replies = self.socket.dump(request).map_err(NetError::refused("list", "links"))?;
        Ok(replies.iter().filter_map(read_link).collect())
    }

    /// The link of that name, if there is one.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>, NetError> {
        let mut request = Message::new(GETLINK, ACK, &link_header(0, 0, false));
        request.put_str(LINK_NAME, name);
        match self.socket.dump(request) {
            Ok(replies) => Ok(replies.iter().find_map(read_link)),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
            Err(refusal) => Err(NetError::refused("look up the link", name)(refusal)),
        }
    }

    /// Makes a bridge, down and without addresses.
    pub(super) fn add_bridge(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<(), NetError> {
        let mut request = Message::new(NEWLINK, CREATE | EXCL, &link_header(0, 0, false));
        request.put_str(LINK_NAME, name);
        request.put(LINK_ADDRESS, &mac);
        request.put_u32(LINK_MTU, mtu);
        request.nest(LINK_INFO, |info| info.put_str(INFO_KIND, "bridge"));
        self.socket.request(request).map_err(NetError::refused("create the bridge", name))
    }

    /// Sets a link up, with an alias that says what it is for.
    pub(super) fn raise(&mut self, index: u32, alias: Option<&str>) -> Result<(), NetError> {
        let mut request = Message::new(SETLINK, 0, &link_header(0, index, true));
        if let Some(alias) = alias {
            request.put(LINK_ALIAS, alias.as_bytes());
        }
        let object = alias.map_or_else(|| format!("number {index}"), str::to_owned);
        self.socket.request(request).map_err(NetError::refused("set up the link", object))
    }

    /// Makes a pod's pair of interfaces; the end here is up afterwards.
    pub(super) fn add_pair(&mut self, pair: &Pair<'_>) -> Result<(), NetError> {
        let mut request = Message::new(NEWLINK, CREATE | EXCL, &link_header(0, 0, false));
        request.put_str(LINK_NAME, pair.name);
        request.put_u32(LINK_MTU, pair.mtu);
        request.put_u32(LINK_MASTER, pair.bridge);
        request.nest(LINK_INFO, |info| {
            info.put_str(INFO_KIND, "veth");
            info.nest(INFO_DATA, |data| {
                data.nest(VETH_PEER, |peer| {
                    peer.raw(&link_header(0, 0, false));
                    peer.put_str(LINK_NAME, "eth0");
                    peer.put(LINK_ADDRESS, &pair.pod_mac);
                    peer.put_u32(LINK_MTU, pair.mtu);
                    let fd = pair.pod_namespace.as_raw_fd();
                    peer.put(LINK_NETNS_FD, &fd.to_ne_bytes());
                });
            });
        });
        self.socket
            .request(request)
            .map_err(NetError::refused("create the interface pair", pair.name))?;
        // A bridge port needs no address of its own. Best effort: a kernel without IPv6 says no.
        let mut quiet = Message::new(NEWLINK, 0, &link_header(0, 0, false));
        quiet.put_str(LINK_NAME, pair.name);
        quiet.nest(LINK_AF_SPEC, |spec| {
            spec.nest(INET6, |v6| v6.put(INET6_ADDRESS_MODE, &[ADDRESS_MODE_NONE]));
        });
        let _ = self.socket.request(quiet);
        self.set_port(pair.name, pair.alias)
    }

    /// Puts a pod's interface, if it is there, on the bridge, where it may be already.
    pub(super) fn attach(&mut self, name: &str, alias: &str, bridge: u32) -> Result<(), NetError> {
        let mut request = Message::new(NEWLINK, 0, &link_header(0, 0, true));
        request.put_str(LINK_NAME, name);
        request.put_u32(LINK_MASTER, bridge);
        match self.socket.request(request) {
            Ok(()) => self.set_port(name, alias),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(()),
            Err(refusal) => Err(NetError::refused("put on the bridge", name)(refusal)),
        }
    }

    /// A pod may meet itself through a Service, and then by way of the port that it came by.
    fn set_port(&mut self, name: &str, alias: &str) -> Result<(), NetError> {
        let mut request = Message::new(NEWLINK, 0, &link_header(0, 0, true));
        request.put_str(LINK_NAME, name);
        request.put(LINK_ALIAS, alias.as_bytes());
        request.nest(LINK_INFO, |info| {
            info.put_str(INFO_SLAVE_KIND, "bridge");
            info.nest(INFO_SLAVE_DATA, |port| port.put(PORT_HAIRPIN, &[1]));
        });
        self.socket.request(request).map_err(NetError::refused("set up the bridge port", name))
    }

    /// Removes a link; true when there was one.
    pub(super) fn remove(&mut self, name: &str) -> Result<bool, NetError> {
        let mut request = Message::new(DELLINK, 0, &link_header(0, 0, false));
        request.put_str(LINK_NAME, name);
        match self.socket.request(request) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(false),
            Err(refusal) => Err(NetError::refused("remove the link", name)(refusal)),
        }
    }

    /// The IPv4 addresses, each with the index of its link and its prefix length.
    pub(super) fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Addr, u8)>, NetError> {
        let request = Message::new(GETADDR, DUMP, &address_header(0, 0, 0));
        let replies = self.socket.dump(request).map_err(NetError::refused("list", "addresses"))?;
        let read = |reply: &Reply| {
            let header = reply.body.get(..8)?;
            let attributes = Attributes(&reply.body[8..]);
            let bytes = attributes.find(ADDR_LOCAL).or_else(|| attributes.find(ADDR_ADDRESS))?;
            let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
            Some((index, octets(bytes)?, header[1]))
        };
        Ok(replies.iter().filter_map(read).collect())
    }

    /// Gives a link an address; it may have it already.
    pub(super) fn add_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> Result<(), NetError> {
        let header = address_header(length, SCOPE_UNIVERSE, index);
        let mut request = Message::new(NEWADDR, CREATE | REPLACE, &header);
        request.put(ADDR_LOCAL, &address.octets());
        request.put(ADDR_ADDRESS, &address.octets());
        self.socket
            .request(request)
            .map_err(NetError::refused("add the address", address.to_string()))
    }

    /// Takes an address from a link.
    pub(super) fn remove_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> Result<(), NetError> {
        let header = address_header(length, SCOPE_UNIVERSE, index);
        let mut request = Message::new(DELADDR, 0, &header);
        request.put(ADDR_LOCAL, &address.octets());
        request.put(ADDR_ADDRESS, &address.octets());
        self.socket
            .request(request)
            .map_err(NetError::refused("remove the address", address.to_string()))
    }

    /// Sets the route to a range: on the link itself, or through a gateway there.
    pub(super) fn set_route(&mut self, route: &Route) -> Result<(), NetError> {
        let scope = if route.gateway.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
        let header =
            [INET, route.length, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, UNICAST, 0, 0, 0, 0];
        let mut request = Message::new(NEWROUTE, CREATE | REPLACE, &header);
        if route.length > 0 {
            request.put(ROUTE_DST, &route.to.octets());
        }
        if let Some(gateway) = route.gateway {
            request.put(ROUTE_GATEWAY, &gateway.octets());
        }
        if let Some(source) = route.source {
            request.put(ROUTE_PREFSRC, &source.octets());
        }
        request.put_u32(ROUTE_OIF, route.link);
        let object = format!("{}/{}", route.to, route.length);
        self.socket.request(request).map_err(NetError::refused("set the route to", object))
    }

    /// The link that the default route of the main table goes through.
    pub(super) fn default_route_link(&mut self) -> Result<Option<u32>, NetError> {
        let request = Message::new(GETROUTE, DUMP, &[INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let replies = self.socket.dump(request).map_err(NetError::refused("list", "routes"))?;
        Ok(replies.iter().find_map(|reply| {
            let header = reply.body.get(..12)?;
            let wanted = header[1] == 0 && header[4] == TABLE_MAIN && header[7] == UNICAST;
            wanted.then(|| Attributes(&reply.body[12..]).ne32(ROUTE_OIF))?
        }))
    }

    /// Tells the board for good which hardware address a pod's address has.
    pub(super) fn add_neighbour(
        &mut self,
        link: u32,
        address: Ipv4Addr,
        mac: Mac,
    ) -> Result<(), NetError> {
        let mut request = Message::new(NEWNEIGH, CREATE | REPLACE, &neighbour_header(link));
        request.put(NEIGHBOUR_DST, &address.octets());
        request.put(NEIGHBOUR_MAC, &mac);
        self.socket
            .request(request)
            .map_err(NetError::refused("add the neighbour", address.to_string()))
    }

    /// Forgets a pod's hardware address.
    pub(super) fn remove_neighbour(
        &mut self,
        link: u32,
        address: Ipv4Addr,
    ) -> Result<(), NetError> {
        let mut request = Message::new(DELNEIGH, 0, &neighbour_header(link));
        request.put(NEIGHBOUR_DST, &address.octets());
        match self.socket.request(request) {
            Err(refusal) if !matches!(refusal.errno, Errno::ENOENT | Errno::ENODEV) => {
                Err(NetError::refused("remove the neighbour", address.to_string())(refusal))
            }
            _ => Ok(()),
        }
    }
}

fn neighbour_header(link: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = INET;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    header
}

/// A route to set.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) to: Ipv4Addr,
    pub(super) length: u8,
    pub(super) link: u32,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) source: Option<Ipv4Addr>,
}
