//! Who says truly who it is. What comes by another link than the pods' bridge has no pod's address
//! of this board and no Service's, and another board's pod's only by the link that leads to it.
//! What comes from a pod has that pod's own address: this is checked where frames enter the bridge,
//! for there each pod has a port of its own, and a pod can forge everything else.

use super::super::board::{BRIDGE, Ranges};
use super::super::error::NetError;
use super::super::link::mac_of;
use super::super::record::PAIR_PREFIX;
use super::batch::Batch;
use super::codec::{self, Element, Value};
use super::layout::{ADDRESS, Chain, MARK, PREROUTING, Set, hooked, link_name, named, within};
use super::wire::{BRIDGES, Outcome, Register, Step};
use super::{Rules, read};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Our table of the family `bridge`.
const TABLE: &str = "edged";
/// Which port of the bridge may send with which address.
const SENDERS: &str = "senders";
/// What frames carry, as they have it: IPv4 and ARP.
const IP: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

/// A port of the bridge by its index, and its pod's address.
pub(in crate::net) type Sender = (u32, Ipv4Addr);

/// What packets that reach the board may say they come from.
pub(super) fn chain(ranges: &Ranges) -> Chain {
    let mut chain = hooked("guard", "filter", PREROUTING, -300);
    let register = Register(0);
    let drop = || vec![Step::Finally(Outcome::Drop)];
    let elsewhere = || {
        let links = [link_name(), named("lo")];
        let others = links.map(|name| vec![Step::InLink(register), Step::IsNot(register, name)]);
        others.concat()
    };
    // Pods' packets may be routed to loopback addresses here, so that node ports work there; no
    // pod may use that to reach what listens on loopback only.
    let loopback = vec![
        Step::InLink(register),
        Step::Is(register, link_name()),
        Step::Destination(register),
        Step::Mask(register, vec![255, 0, 0, 0]),
        Step::Is(register, vec![127, 0, 0, 0]),
    ];
    let no_way_back = vec![Step::WayBack(register), Step::Is(register, vec![0; 4])];
    chain.rules = vec![
        [loopback, drop()].concat(),
        [elsewhere(), within(Step::Source, &ranges.services, true), drop()].concat(),
        [elsewhere(), within(Step::Source, &ranges.cluster, true), no_way_back, drop()].concat(),
    ];
    chain
}

/// What enters the bridge by a pod's port: for the board only, with the pod's own address.
fn senders_chain(ranges: &Ranges) -> Chain {
    let mut chain = hooked("senders", "filter", PREROUTING, -300);
    let (port, address) = (Register(0), Register(1));
    let carries = |what: [u8; 2]| vec![Step::Carries(port), Step::Is(port, what.to_vec())];
    let gateway = mac_of(ranges.pods.gateway()).to_vec();
    let known = |load: fn(Register) -> Step| {
        vec![
            Step::InIndex(port),
            load(address),
            Step::In(port, SENDERS),
            Step::Finally(Outcome::Accept),
        ]
    };
    let prefix = PAIR_PREFIX.as_bytes().to_vec();
    chain.rules = vec![
        [carries(IP), vec![Step::FrameTo(port), Step::Is(port, gateway)], known(Step::Source)]
            .concat(),
        [carries(ARP), known(Step::ArpSource)].concat(),
        vec![Step::InLink(port), Step::Is(port, prefix), Step::Finally(Outcome::Drop)],
    ];
    chain
}

fn senders_set() -> Set {
    Set { name: SENDERS, flags: 0, key: vec![MARK, ADDRESS], data: None, size: None }
}

fn element((port, address): &Sender) -> Element {
    let key = [port.to_ne_bytes(), address.octets()].concat();
    Element { key, value: Value::Nothing }
}

fn read_sender(key: &[u8]) -> Option<Sender> {
    let port = u32::from_ne_bytes(key.get(..4)?.try_into().ok()?);
    Some((port, Ipv4Addr::from(<[u8; 4]>::try_from(key.get(4..8)?).ok()?)))
}

impl Rules {
    /// Makes the table of senders, or sets right the one that stands. Until this has gone well,
    /// senders are not checked.
    pub(in crate::net) fn open_senders(
        &mut self,
        ranges: &Ranges,
        wanted: &BTreeSet<Sender>,
    ) -> Result<(), NetError> {
        let chain = senders_chain(ranges);
        let digest = Sha256::digest(format!("{BRIDGE}{chain:?}").as_bytes());
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let comment = format!("edged, senders {hex}");
        let found = read::comment_of(&mut self.socket, BRIDGES, TABLE)?;
        let table = (BRIDGES, TABLE);
        let whole = found.as_deref() == Some(&comment)
            && read::size(&mut self.socket, table)? == (1, chain.rules.len());
        if whole {
            let mut have = BTreeSet::new();
            read::elements_of(&mut self.socket, table, SENDERS, |item| {
                have.insert(read_sender(codec::split(item)?.0)?);
                Some(())
            })?;
            self.senders = Some(have);
            return self.keep_senders(|_| true, wanted);
        }
        let mut batch = Batch::of(BRIDGES, TABLE);
        batch.add_table(&comment);
        batch.remove_table();
        batch.add_table(&comment);
        batch.add_set(&senders_set(), 1);
        batch.add_chain(&chain);
        batch.add_rules(&chain);
        batch.add_elements(SENDERS, &wanted.iter().map(element).collect::<Vec<_>>());
        self.commit(batch)?;
        self.senders = Some(wanted.clone());
        Ok(())
    }

    /// Of the senders that `concerned` names, lets these be the only ones.
    pub(in crate::net) fn keep_senders(
        &mut self,
        concerned: impl Fn(&Sender) -> bool,
        wanted: &BTreeSet<Sender>,
    ) -> Result<(), NetError> {
        let Some(have) = &self.senders else { return Ok(()) };
        let goes = have.iter().filter(|sender| concerned(sender) && !wanted.contains(sender));
        let old: Vec<Sender> = goes.copied().collect();
        let new: Vec<Sender> = wanted.difference(have).copied().collect();
        let mut batch = Batch::of(BRIDGES, TABLE);
        batch.remove_elements(SENDERS, &old.iter().map(element).collect::<Vec<_>>());
        batch.add_elements(SENDERS, &new.iter().map(element).collect::<Vec<_>>());
        if batch.is_empty() {
            return Ok(());
        }
        self.commit(batch)?;
        if let Some(have) = &mut self.senders {
            old.iter().for_each(|sender| {
                have.remove(sender);
            });
            have.extend(new);
        }
        Ok(())
    }

    /// Removes the table of senders, if it is there.
    pub(in crate::net) fn remove_senders(&mut self) -> Result<(), NetError> {
        self.senders = None;
        if read::comment_of(&mut self.socket, BRIDGES, TABLE)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::of(BRIDGES, TABLE);
        batch.remove_table();
        self.commit(batch)
    }
}
