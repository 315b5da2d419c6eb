//! What the board's kernel has that explains where packets go and where they end: for people, when
//! something can't be reached. Nothing is changed here, not even what would be ours to set right.

use super::board::{Board, lock};
use super::error::NetError;
use super::link::{Links, TABLE_MAIN, UNICAST};
use super::netlink::{Attributes, DUMP, Message};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

const GETROUTE: u16 = 26;
const INET: u8 = 2;
const HEADER: usize = 12;
const ATTR_DST: u16 = 1;
const ATTR_GATEWAY: u16 = 5;
/// Routes that are told at most.
const ROUTES: usize = 256;

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// The largest packet of the board's pods: that of its link, or of its tunnel.
    pub(crate) mtu: u32,
    /// Whether the kernel passes packets on; unknown when it does not say.
    pub(crate) forwarding: Option<bool>,
    /// Routes of the main table: the range, and through whom.
    pub(crate) routes: Vec<(String, Option<Ipv4Addr>)>,
    /// Chains of others that drop what comes through, or some of it.
    pub(crate) droppers: Vec<String>,
}

impl Board {
    /// See [`super::Net::look`].
    pub(super) fn look(&self) -> Result<Look, NetError> {
        let droppers = match lock(&self.rules).as_mut() {
            Some(rules) => rules.droppers()?,
            None => Vec::new(),
        };
        let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").ok();
        Ok(Look {
            mtu: self.mtu.load(Ordering::Relaxed),
            forwarding: forwarding.map(|text| text.trim() == "1"),
            routes: routes(&mut Links::open()?)?,
            droppers,
        })
    }
}

fn routes(links: &mut Links) -> Result<Vec<(String, Option<Ipv4Addr>)>, NetError> {
    let request = Message::new(GETROUTE, DUMP, &[INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let replies = links.socket.dump(request).map_err(NetError::refused("list", "routes"))?;
    let address = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let read = |reply: &super::netlink::Reply| {
        let header = reply.body.get(..HEADER)?;
        let attributes = Attributes(&reply.body[HEADER..]);
        if header[4] != TABLE_MAIN || header[7] != UNICAST {
            return None;
        }
        let base = attributes.find(ATTR_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), address)?;
        let gateway = attributes.find(ATTR_GATEWAY).and_then(address);
        Some((format!("{base}/{}", header[1]), gateway))
    };
    Ok(replies.iter().filter_map(read).take(ROUTES).collect())
}
