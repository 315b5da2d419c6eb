//! Connections that the kernel remembers: a UDP client has no handshake, so its old way to a
//! target that is gone would hold for as long as it keeps sending. Those are forgotten when
//! the target goes. A TCP client that is connected notices by itself; one that nobody has answered
//! sends its first packet again after a second, and would be led to the dead target each time, as
//! would be, for two minutes, whoever uses the same port anew: those are forgotten a moment later,
//! when an answer that was under way has come. A policy that newly forbids a connection has it
//! forgotten as well.

use super::super::error::NetError;
use super::super::netlink::{Attributes, DUMP, Message, Socket};
use super::wire::{IPV4, header};
use edge_core::proxy::{Change, Elements, Front, Protocol, Source, Target, Verdict};
use nix::sys::socket::SockProtocol;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const NESTED: u16 = 0x8000;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
/// The kernel's mark of a connection that was answered.
const ANSWERED: u32 = 0x2;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// What must be forgotten: ways from a front to a target, and ways past a front that had none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stale {
    ways: BTreeSet<(Front, Target)>,
    fronts: BTreeSet<Front>,
}

fn stale(change: &Change) -> Stale {
    let udp = |front: &Front| front.protocol == Protocol::Udp;
    let spreads = |verdict: &Verdict| matches!(verdict, Verdict::Spread { .. });
    let kept: BTreeSet<(Front, Target)> =
        change.new_targets.iter().map(|(key, target)| (key.1, *target)).collect();
    let old = change.old_targets.iter().map(|(key, target)| (key.1, *target));
    let spread_before: BTreeSet<Front> = change
        .old_verdicts
        .iter()
        .filter(|(_, verdict)| spreads(verdict))
        .map(|(key, _)| key.1)
        .collect();
    let fresh = change.new_verdicts.iter().filter(|(_, verdict)| spreads(verdict));
    Stale {
        ways: old.filter(|way| udp(&way.0) && !kept.contains(way)).collect(),
        fronts: fresh
            .map(|(key, _)| key.1)
            .filter(|front| udp(front) && !spread_before.contains(front))
            .collect(),
    }
}

/// One direction of a remembered connection.
#[derive(Debug)]
pub(super) struct Tuple {
    pub(super) source: Target,
    pub(super) destination: Target,
    pub(super) protocol: u8,
    /// Whether the connection was ever answered.
    pub(super) answered: bool,
}

fn tuple(attributes: Attributes<'_>, which: u16) -> Option<Tuple> {
    let within = attributes.within(which);
    let (addresses, ports) = (within.within(TUPLE_ADDRESSES), within.within(TUPLE_PROTOCOL));
    let end = |address: u16, port: u16| {
        let address = Ipv4Addr::from(<[u8; 4]>::try_from(addresses.find(address)?).ok()?);
        // Without ports there is none: ICMP.
        let port =
            ports.find(port).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
        Some(Target { address, port: port.unwrap_or(0) })
    };
    let status = attributes.find(STATUS).and_then(|bytes| bytes.try_into().ok());
    Some(Tuple {
        source: end(1, 2)?,
        destination: end(2, 3)?,
        protocol: *ports.find(1)?.first()?,
        answered: status.is_none_or(|status| u32::from_be_bytes(status) & ANSWERED != 0),
    })
}

impl Stale {
    fn concerns(&self, original: &Tuple, reply: &Tuple) -> bool {
        let port = original.destination.port;
        let fronts = [Some(original.destination.address), None].map(|address| Front {
            address,
            protocol: Protocol::Udp,
            port,
        });
        let unchanged = reply.source == original.destination;
        fronts.into_iter().any(|front| {
            self.ways.contains(&(front, reply.source))
                || (unchanged && self.fronts.contains(&front))
        })
    }
}

/// Forgets what a change has made stale. Best effort: without it, clients wait half a minute.
pub(super) fn forget(change: &Change) {
    let stale = stale(change);
    if stale == Stale::default() {
        return;
    }
    let udp = Protocol::Udp.number();
    let old = |original: &Tuple, reply: &Tuple| {
        original.protocol == udp && stale.concerns(original, reply)
    };
    if let Err(error) = forget_where(old) {
        tracing::debug!("network: {error}");
    }
}

/// True when a change takes a target away from TCP clients.
pub(super) fn strands(change: &Change) -> bool {
    let kept: BTreeSet<(Front, Target)> =
        change.new_targets.iter().map(|(key, target)| (key.1, *target)).collect();
    let mut old = change.old_targets.iter().map(|(key, target)| (key.1, *target));
    old.any(|way| way.0.protocol == Protocol::Tcp && !kept.contains(&way))
}

/// Forgets TCP connections that nobody has answered, where their front has their target no more;
/// answers how many.
pub(super) fn forget_unanswered(elements: &Elements) -> Result<usize, NetError> {
    let tcp = Protocol::Tcp.number();
    forget_where(|original, reply| {
        let changed = reply.source != original.destination;
        if original.protocol != tcp || original.answered || !changed {
            return false;
        }
        let Target { address, port } = original.destination;
        let fronts =
            [Some(address), None].map(|address| Front { address, protocol: Protocol::Tcp, port });
        let sides = [Source::Any, Source::Inside];
        let keys = fronts.iter().flat_map(|front| sides.map(|source| (source, *front)));
        let mut known = keys.filter_map(|key| elements.fronts.get(&key)).peekable();
        known.peek().is_some() && known.all(|front| !front.targets.contains(&reply.source))
    })
}

/// Forgets the connections that `old` picks by their two directions; answers how many.
pub(super) fn forget_where(old: impl Fn(&Tuple, &Tuple) -> bool) -> Result<usize, NetError> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)
        .map_err(NetError::kernel("open a socket for", "connection tracking"))?;
    let found = socket
        .dump(Message::new(GET, DUMP, &header(IPV4, 0)))
        .map_err(NetError::refused("list", "tracked connections"))?;
    let mut count = 0;
    for reply in &found {
        let attributes = Attributes(reply.body.get(4..).unwrap_or(&[]));
        let tuples = (tuple(attributes, ORIGINAL), tuple(attributes, REPLY));
        let (Some(original), Some(answer)) = tuples else { continue };
        if !old(&original, &answer) {
            continue;
        }
        let Some(bytes) = attributes.find(ORIGINAL) else { continue };
        let mut request = Message::new(DELETE, 0, &header(IPV4, 0));
        request.put(ORIGINAL | NESTED, bytes);
        // It may have ended by itself.
        count += usize::from(socket.request(request).is_ok());
    }
    Ok(count)
}
