//! The elements of the maps of policies as bytes, and back. A stretch is two elements: where it
//! begins, and the first key that it does not have.

use super::super::super::error::NetError;
use super::super::super::netlink::{Attributes, Socket};
use super::super::codec::{Element as Bytes, Value, answer, is_end, split};
use super::super::read;
use super::super::wire::Step;
use super::TABLE_ID;
use super::layout::{ALLOWED, BLOCKS, EGRESS, INGRESS, ITSELF, PODS};
use edge_core::policy::{Element, Id, Span, Stretch, Traffic};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

fn id_bytes(id: Id) -> [u8; 4] {
    id.to_be_bytes()
}

fn read_id(bytes: &[u8]) -> Option<Id> {
    Some(Id::from_be_bytes(bytes.try_into().ok()?))
}

/// The same in a map's value.
fn read_answered(value: &[u8]) -> Option<Id> {
    read_id(value.get(Step::ASIDE..)?)
}

fn read_address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// Protocol and port as the kernel has them in a key.
fn traffic_bytes(traffic: Traffic) -> [u8; 8] {
    let protocol = u8::try_from(traffic.protocol()).unwrap_or(u8::MAX);
    let [high, low] = traffic.port().to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

/// The first key behind a stretch.
fn behind(last: Traffic) -> [u8; 8] {
    match (u8::try_from(last.protocol()), last.port()) {
        (Ok(protocol), u16::MAX) => [protocol, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        (Ok(_), _) => traffic_bytes(Traffic(last.0 + 1)),
        // All protocols.
        (Err(_), _) => [0xff; 8],
    }
}

fn read_behind(bytes: &[u8]) -> Option<Traffic> {
    let port = u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?);
    match bytes {
        [0xff, 0xff, ..] => Some(Stretch::ALL.last),
        [protocol, _, _, _, 0xff, 0xff, 0xff, 0xff] => Some(Traffic::new(*protocol, u16::MAX)),
        [protocol, ..] => Some(Traffic(Traffic::new(*protocol, port).0.checked_sub(1)?)),
        [] => None,
    }
}

fn read_traffic(bytes: &[u8]) -> Option<Traffic> {
    let port = u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some(Traffic::new(*bytes.first()?, port))
}

/// An element's map, and its one or two parts.
fn encode(element: &Element) -> (&'static str, Vec<Bytes>) {
    let value = |id: &Id| answer(&id_bytes(*id));
    let map = |ip: &Ipv4Addr, id: &Id| vec![Bytes { key: ip.octets().to_vec(), value: value(id) }];
    match element {
        Element::Ingress(ip, id) => (INGRESS, map(ip, id)),
        Element::Egress(ip, id) => (EGRESS, map(ip, id)),
        Element::Pod(ip, id) => (PODS, map(ip, id)),
        Element::Itself(ip) => {
            let key = [ip.octets(), ip.octets()].concat();
            (ITSELF, vec![Bytes { key, value: Value::Nothing }])
        }
        Element::Block(span, id) => {
            // Nobody is at the last address there is, so that there is always one behind.
            let end = span.last.saturating_add(1).to_be_bytes().to_vec();
            let begin = Bytes { key: span.first.to_be_bytes().to_vec(), value: value(id) };
            (BLOCKS, vec![begin, Bytes { key: end, value: Value::End }])
        }
        Element::Allowed(profile, class, stretch) => {
            let key =
                |traffic: [u8; 8]| [&id_bytes(*profile)[..], &id_bytes(*class), &traffic].concat();
            let begin = Bytes { key: key(traffic_bytes(stretch.first)), value: Value::Nothing };
            let end = Bytes { key: key(behind(stretch.last)), value: Value::End };
            (ALLOWED, vec![begin, end])
        }
    }
}

/// The elements of each map.
pub(super) fn by_set(elements: &[Element]) -> BTreeMap<&'static str, Vec<Bytes>> {
    let mut out: BTreeMap<&'static str, Vec<Bytes>> = BTreeMap::new();
    for element in elements {
        let (set, parts) = encode(element);
        out.entry(set).or_default().extend(parts);
    }
    out
}

/// Keys where stretches begin, with what they hold, and where they end.
#[derive(Default)]
struct Ends {
    begins: BTreeMap<Vec<u8>, Vec<u8>>,
    ends: BTreeSet<Vec<u8>>,
}

impl Ends {
    fn take(&mut self, item: Attributes<'_>) -> Option<()> {
        let (key, value) = split(item)?;
        if is_end(item) {
            self.ends.insert(key.to_vec());
        } else {
            self.begins.insert(key.to_vec(), value.to_vec());
        }
        Some(())
    }

    /// Each stretch, with its end.
    fn pairs(&self) -> impl Iterator<Item = Option<(&[u8], &[u8], &[u8])>> {
        self.begins.iter().map(|(begin, value)| {
            let end = self.ends.range(begin.clone()..).find(|end| *end > begin)?;
            Some((begin.as_slice(), end.as_slice(), value.as_slice()))
        })
    }
}

/// All elements that the kernel has; `None` when some make no sense.
pub(super) fn read(socket: &mut Socket) -> Result<Option<BTreeSet<Element>>, NetError> {
    let mut found = BTreeSet::new();
    let (mut blocks, mut allowed) = (Ends::default(), Ends::default());
    for set in [INGRESS, EGRESS, ITSELF, PODS, BLOCKS, ALLOWED] {
        let read = read::elements_of(socket, TABLE_ID, set, |item| {
            match set {
                BLOCKS => return blocks.take(item),
                ALLOWED => return allowed.take(item),
                _ => {}
            }
            let (key, value) = split(item)?;
            let address = read_address(key.get(..4)?)?;
            found.insert(match set {
                INGRESS => Element::Ingress(address, read_answered(value)?),
                EGRESS => Element::Egress(address, read_answered(value)?),
                PODS => Element::Pod(address, read_answered(value)?),
                _ => Element::Itself(address),
            });
            Some(())
        });
        match read {
            Ok(true) => {}
            Ok(false) | Err(NetError::Kernel { errno: Errno::ENOENT, .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let spans = blocks.pairs().map(|pair| {
        let (begin, end, value) = pair?;
        let at = |bytes: &[u8]| read_address(bytes).map(u32::from);
        let last = match at(end)? {
            u32::MAX => u32::MAX,
            end => end.checked_sub(1)?,
        };
        Some(Element::Block(Span { first: at(begin)?, last }, read_answered(value)?))
    });
    let stretches = allowed.pairs().map(|pair| {
        let (begin, end, _) = pair?;
        let (first, last) = (read_traffic(begin.get(8..)?)?, read_behind(end.get(8..)?)?);
        let (profile, class) = (read_id(begin.get(..4)?)?, read_id(begin.get(4..8)?)?);
        Some(Element::Allowed(profile, class, Stretch { first, last }))
    });
    let more: Option<Vec<Element>> = spans.chain(stretches).collect();
    Ok(more.map(|more| {
        found.extend(more);
        found
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_end_where_the_next_one_could_begin() {
        let traffic = |protocol, port| Traffic::new(protocol, port);
        for last in [traffic(6, 80), traffic(6, 65_535), traffic(255, 65_535), Stretch::ALL.last] {
            assert_eq!(read_behind(&behind(last)), Some(last), "{last:?}");
        }
        assert!(behind(traffic(6, 80)) == traffic_bytes(traffic(6, 81)));
        assert!(behind(traffic(6, 65_535)) > traffic_bytes(traffic(6, 65_535)));
        assert!(behind(traffic(6, 65_535)) < traffic_bytes(traffic(7, 0)));
        assert!(behind(Stretch::ALL.last) > traffic_bytes(traffic(255, 65_535)));
        assert_eq!(read_traffic(&traffic_bytes(traffic(17, 53))), Some(traffic(17, 53)));
    }
}
