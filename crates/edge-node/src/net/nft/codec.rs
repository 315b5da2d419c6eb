//! The elements of our maps as bytes: keys and values in the kernel's layout, four bytes to a
//! field, and back.

use super::super::netlink::{Attributes, Message};
use super::layout::{INSIDE, REFUSE, REFUSED, SERVICES};
use super::spread::{INSIDE_FROM, Spread};
use super::wire::{DATA_VALUE, LIST_ITEM, Outcome, Step, bytes};
use edge_core::proxy::{Front, Protocol, Source, Sources, Target, TargetKey, Verdict, VerdictKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
/// The element only says where the one before it ends.
const ENDS: u32 = 1;

/// One element as it goes into a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) value: Value,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Outcome(Outcome),
    /// The first key that the stretch before it does not have.
    End,
}

impl Element {
    /// Appends the element to a list; the key alone will do to take it out.
    pub(super) fn write(&self, list: &mut Message, with_value: bool) {
        list.nest(LIST_ITEM, |item| {
            bytes(item, KEY, &self.key);
            match &self.value {
                Value::Bytes(value) if with_value => bytes(item, DATA, value),
                Value::Outcome(outcome) if with_value => outcome.write(item, DATA),
                Value::End => item.put_be32(FLAGS, ENDS),
                _ => {}
            }
        });
    }
}

/// What has been read of our maps so far.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) verdicts: BTreeMap<VerdictKey, Verdict>,
    pub(super) targets: BTreeMap<TargetKey, Target>,
    pub(super) hairpins: BTreeSet<Ipv4Addr>,
    pub(super) restricted: BTreeMap<Front, Sources>,
    pub(super) addresses: BTreeSet<Ipv4Addr>,
}

fn front_key(front: &Front) -> Vec<u8> {
    let mut key = front.address.unwrap_or(Ipv4Addr::UNSPECIFIED).octets().to_vec();
    key.extend([front.protocol.number(), 0, 0, 0]);
    key.extend(front.port.to_be_bytes());
    key.extend([0, 0]);
    key
}

fn read_front(key: &[u8]) -> Option<Front> {
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(key.get(..4)?).ok()?);
    Some(Front {
        address: (!address.is_unspecified()).then_some(address),
        protocol: Protocol::from_number(*key.get(4)?)?,
        port: u16::from_be_bytes(key.get(8..10)?.try_into().ok()?),
    })
}

const REFUSE_BYTES: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
const DROP_BYTES: [u8; 8] = [2, 0, 0, 0, 0, 0, 0, 0];

/// A front's map and its element. There is none for an inside that refuses: it is refused
/// for everybody then.
pub(super) fn verdict(key: &VerdictKey, verdict: &Verdict) -> Option<(&'static str, Element)> {
    let (source, front) = key;
    let (map, value) = match (Spread::of(*source, front, verdict), source) {
        (Some(spread), Source::Any) => (SERVICES, spread.bytes()),
        (Some(spread), Source::Inside) => (INSIDE, spread.bytes()),
        (None, Source::Inside) => return None,
        (None, Source::Any) if *verdict == Verdict::Drop => (REFUSED, DROP_BYTES),
        (None, Source::Any) => (REFUSED, REFUSE_BYTES),
    };
    Some((map, Element { key: front_key(front), value: answer(&value) }))
}

/// A value that is the next question's key: see [`Step::ASIDE`].
pub(super) fn answer(value: &[u8]) -> Value {
    Value::Bytes([&[0; Step::ASIDE][..], value].concat())
}

/// What leads from a way of spreading to its chain.
pub(super) fn spread(spread: &Spread) -> Element {
    let outcome = Outcome::Goto(spread.to_string());
    Element { key: spread.bytes().to_vec(), value: Value::Outcome(outcome) }
}

/// What refusing and dropping are.
pub(super) fn answers() -> [Element; 2] {
    let answer =
        |key: [u8; 8], outcome| Element { key: key.to_vec(), value: Value::Outcome(outcome) };
    [answer(REFUSE_BYTES, Outcome::Goto(REFUSE.to_owned())), answer(DROP_BYTES, Outcome::Drop)]
}

/// The element of a numbered target.
pub(super) fn target(key: &TargetKey, target: &Target) -> Element {
    let (source, front, number) = key;
    let mut bytes = front_key(front);
    bytes.extend((number + Spread::offset(*source)).to_ne_bytes());
    Element { key: bytes, value: Value::Bytes(target_bytes(target)) }
}

/// A target as a map's value.
pub(super) fn target_bytes(target: &Target) -> Vec<u8> {
    let mut value = target.address.octets().to_vec();
    value.extend(target.port.to_be_bytes());
    value.extend([0, 0]);
    value
}

/// The element of a pod that may meet itself.
pub(super) fn hairpin(address: &Ipv4Addr) -> Element {
    let octets = address.octets();
    Element { key: [octets, octets].concat(), value: Value::Nothing }
}

/// The element that names a front's list of clients.
pub(super) fn restriction(front: &Front, sources: &Sources) -> Element {
    Element { key: front_key(front), value: answer(&sources.digest().to_ne_bytes()) }
}

/// What leads from a list's number to its chain.
pub(super) fn guest_list(digest: u64, chain: String) -> Element {
    Element { key: digest.to_ne_bytes().to_vec(), value: Value::Outcome(Outcome::Goto(chain)) }
}

/// The element of a Service's own address.
pub(super) fn address(address: &Ipv4Addr) -> Element {
    Element { key: address.octets().to_vec(), value: Value::Nothing }
}

/// The key and the plain bytes of an element that was read.
pub(super) fn split(item: Attributes<'_>) -> Option<(&[u8], &[u8])> {
    let key = item.within(KEY).find(DATA_VALUE)?;
    Some((key, item.within(DATA).find(DATA_VALUE).unwrap_or(&[])))
}

/// True for an element that is the end of a stretch.
pub(super) fn is_end(item: Attributes<'_>) -> bool {
    item.be32(FLAGS).is_some_and(|flags| flags & ENDS != 0)
}

/// The front within the key of a remembered client.
pub(super) fn affinity_front(key: &[u8]) -> Option<Front> {
    read_front(key.get(4..)?)
}

/// Adds an element of a map of fronts. `None` when it isn't one of ours.
pub(super) fn read_verdict(map: &str, item: Attributes<'_>, elements: &mut Read) -> Option<()> {
    let (key, value) = split(item)?;
    let (front, value) = (read_front(key)?, value.get(Step::ASIDE..)?);
    let (source, verdict) = match map {
        REFUSED if value == DROP_BYTES => (Source::Any, Verdict::Drop),
        REFUSED => (Source::Any, Verdict::Refuse),
        _ => {
            let spread = Spread::read(value)?;
            (spread.source, spread.verdict())
        }
    };
    elements.verdicts.insert((source, front), verdict);
    Some(())
}

/// Adds an element of the map of targets.
pub(super) fn read_target(item: Attributes<'_>, elements: &mut Read) -> Option<()> {
    let (key, value) = split(item)?;
    let front = read_front(key)?;
    let number = u32::from_ne_bytes(key.get(12..16)?.try_into().ok()?);
    let (source, number) = match number.checked_sub(INSIDE_FROM) {
        Some(number) => (Source::Inside, number),
        None => (Source::Any, number),
    };
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(value.get(..4)?).ok()?);
    let port = u16::from_be_bytes(value.get(4..6)?.try_into().ok()?);
    elements.targets.insert((source, front, number), Target { address, port });
    Some(())
}

/// Adds a pod that may meet itself.
pub(super) fn read_hairpin(item: Attributes<'_>, elements: &mut Read) -> Option<()> {
    let (key, _) = split(item)?;
    elements.hairpins.insert(Ipv4Addr::from(<[u8; 4]>::try_from(key.get(..4)?).ok()?));
    Some(())
}

/// Adds a front that takes some clients only.
pub(super) fn read_restriction(item: Attributes<'_>, elements: &mut Read) -> Option<()> {
    let (key, value) = split(item)?;
    let digest = u64::from_ne_bytes(value.get(Step::ASIDE..)?.try_into().ok()?);
    elements.restricted.insert(read_front(key)?, Sources::known_as(digest));
    Some(())
}

/// Adds a Service's own address.
pub(super) fn read_address(item: Attributes<'_>, elements: &mut Read) -> Option<()> {
    let (key, _) = split(item)?;
    elements.addresses.insert(Ipv4Addr::from(<[u8; 4]>::try_from(key.get(..4)?).ok()?));
    Some(())
}
