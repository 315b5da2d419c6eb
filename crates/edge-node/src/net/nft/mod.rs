//! Services in the kernel: our own table of nf_tables, by netlink. The table has a fixed part
//! (hooks and the rules that ask maps) and maps whose elements follow the desired state; a
//! change is one transaction of the elements that differ. Nothing outside our table is touched.

mod batch;
mod codec;
mod conntrack;
mod guard;
mod guests;
mod layout;
mod own;
mod patch;
pub(super) mod policy;
mod read;
mod spread;
mod wire;

pub(super) use read::base_chains;

use super::board::Ranges;
use super::error::NetError;
use super::netlink::Socket;
use batch::Batch;
use codec::{Element, Value};
use edge_core::proxy::{Change, Elements, Source, Sources};
use guests::Guests;
use layout::{
    ADDRESSES, AFFINITY, ANSWERS, Chain, HAIRPINS, RESTRICTED, SOURCES, SPREADS, TARGETS,
};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use read::Observed;
use sha2::{Digest, Sha256};
use spread::Spread;
use std::collections::{BTreeMap, BTreeSet};

/// Our table, in the family `ip`.
pub(super) const TABLE: &str = "edged";
/// A change is tried so often when others change our table meanwhile.
const ATTEMPTS: usize = 3;

/// Our table, and what we know of it.
#[derive(Debug)]
pub(super) struct Rules {
    socket: Socket,
    fixed: Vec<Chain>,
    comment: String,
    known: Option<(u32, Observed)>,
    /// This board's pods.
    pods: super::range::Range,
    policies: policy::Known,
    /// Which port of the bridge may send with which address, where that is checked.
    senders: Option<BTreeSet<guard::Sender>>,
    /// True when there was no table of ours before.
    pub(super) fresh: bool,
    /// True when connections may wait for an answer of targets that are gone.
    stranded: bool,
}

impl Rules {
    /// Finds our table, or makes it without any Service yet. A table of another layout stays
    /// until the first [`Rules::apply`] replaces it in one go.
    pub(super) fn open(ranges: &Ranges) -> Result<Rules, NetError> {
        let fixed = layout::chains(ranges);
        let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)
            .map_err(|errno| NetError::NoNfTables { errno })?;
        read::generation(&mut socket)?;
        let comment = fingerprint(&fixed);
        let policies = policy::Known::default();
        let mut rules = Rules {
            socket,
            fixed,
            comment,
            known: None,
            pods: ranges.pods,
            policies,
            senders: None,
            fresh: false,
            stranded: false,
        };
        if read::comment(&mut rules.socket)?.is_none() {
            rules.fresh = true;
            rules.apply(&Elements::default())?;
        }
        Ok(rules)
    }

    /// See [`super::Net::rules_generation`].
    pub(super) fn generation(&mut self) -> Result<u32, NetError> {
        read::generation(&mut self.socket)
    }

    /// Sentences about what other tables do to our traffic.
    pub(super) fn warnings(&mut self) -> Result<Vec<String>, NetError> {
        let droppers = read::forward_droppers(&mut self.socket)?;
        Ok(droppers
            .into_iter()
            .map(|chain| {
                format!(
                    "the board's own rules (nftables chain {chain}) drop forwarded packets, so \
                     pods may reach nobody; accept there what comes from and goes to edge0"
                )
            })
            .collect())
    }

    /// Chains of others that drop what comes through the board, or some of it.
    pub(super) fn droppers(&mut self) -> Result<Vec<String>, NetError> {
        let mut found = read::forward_droppers(&mut self.socket)?;
        for chain in read::dropping_rules(&mut self.socket)? {
            if !found.contains(&chain) {
                found.push(chain);
            }
        }
        Ok(found)
    }

    /// Makes the kernel's maps say what is wanted, with the fewest elements changed.
    pub(super) fn apply(&mut self, wanted: &Elements) -> Result<(), NetError> {
        let mut attempt = 1;
        loop {
            match self.try_apply(wanted) {
                Err(error @ NetError::NoNfTables { .. }) => return Err(error),
                Err(error) if attempt >= ATTEMPTS => return Err(error),
                Err(error) => {
                    tracing::debug!("network: reading the rules again: {error}");
                    self.known = None;
                    attempt += 1;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    fn try_apply(&mut self, wanted: &Elements) -> Result<(), NetError> {
        let (generation, found) = self.observe()?;
        let rebuild = found.is_none();
        let mut observed = found.unwrap_or_default();
        let mut batch = Batch::new();
        if rebuild {
            self.build(&mut batch);
        }
        let change = observed.elements.diff(wanted);
        let spreads = wanted_spreads(wanted);
        let guests: BTreeSet<Guests> = wanted.restricted.values().map(Guests::of).collect();
        invite(&mut batch, wanted.restricted.values(), &observed.guests, &guests);
        fill(&mut batch, &change, &observed.spreads, &spreads);
        dismiss(&mut batch, &observed.guests, &guests);
        let now = self.carry_out(batch, &change, &observed, generation)?;
        observed.elements.apply(&change);
        // What was read knows lists by their digests only.
        observed.elements.restricted.clone_from(&wanted.restricted);
        observed.uses = patch::Uses::of(wanted, self.pods);
        (observed.spreads, observed.guests) = (spreads, guests);
        self.known = Some((now, observed));
        Ok(())
    }

    /// See [`super::Net::forget_unanswered`].
    pub(super) fn forget_unanswered(&mut self) -> Result<usize, NetError> {
        let Some((_, observed)) = self.known.as_ref().filter(|_| self.stranded) else {
            return Ok(0);
        };
        self.stranded = false;
        conntrack::forget_unanswered(&observed.elements)
    }

    /// What the kernel has, from memory unless anybody changed any table since.
    fn observe(&mut self) -> Result<(u32, Option<Observed>), NetError> {
        let generation = read::generation(&mut self.socket)?;
        let known = self.known.take().filter(|(known, _)| *known == generation);
        if let Some((_, observed)) = known {
            return Ok((generation, Some(observed)));
        }
        if read::comment(&mut self.socket)?.as_deref() != Some(&self.comment) {
            return Ok((generation, None));
        }
        let rules = self.fixed.iter().map(|chain| chain.rules.len()).sum();
        Ok((generation, read::observe(&mut self.socket, self.fixed.len(), rules)?))
    }

    /// The fixed part, in place of whatever table of that name there is.
    fn build(&self, batch: &mut Batch) {
        batch.add_table(&self.comment);
        batch.remove_table();
        batch.add_table(&self.comment);
        for (number, set) in (1..).zip(layout::sets()) {
            batch.add_set(&set, number);
        }
        self.fixed.iter().for_each(|chain| batch.add_chain(chain));
        self.fixed.iter().for_each(|chain| batch.add_rules(chain));
        batch.add_elements(ANSWERS, &codec::answers());
    }

    /// Clients that were to keep a target that is gone may choose again. Answers how many
    /// transactions that took.
    fn forget_clients(&mut self, change: &Change) -> Result<u32, NetError> {
        let kept: BTreeSet<_> =
            change.new_targets.iter().map(|(key, target)| (key.1, *target)).collect();
        let old = change.old_targets.iter().map(|(key, target)| (key.1, *target));
        let gone: BTreeSet<_> = old
            .filter(|way| !kept.contains(way))
            .map(|(front, target)| (front, codec::target_bytes(&target)))
            .collect();
        let mut stale = Vec::new();
        if !gone.is_empty() {
            read::elements(&mut self.socket, AFFINITY, |item| {
                let (key, value) = codec::split(item)?;
                if gone.contains(&(codec::affinity_front(key)?, value.to_vec())) {
                    stale.push(Element { key: key.to_vec(), value: Value::Nothing });
                }
                Some(())
            })?;
        }
        // One by one: each may run out by itself before we get there.
        let mut transactions = 0;
        for element in stale {
            let mut batch = Batch::new();
            batch.remove_elements(AFFINITY, &[element]);
            match self.commit(batch) {
                Ok(()) => transactions += 1,
                Err(NetError::Kernel { errno: Errno::ENOENT, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(transactions)
    }

    /// Removes our table, if it is there.
    pub(super) fn remove(&mut self) -> Result<(), NetError> {
        self.known = None;
        let mut batch = Batch::new();
        batch.add_table(&self.comment);
        batch.remove_table();
        self.commit(batch)
    }

    /// Hands a transaction to the kernel. What is known of tables that it does not touch stays
    /// known; whoever touches one says what is known of it afterwards.
    fn commit(&mut self, batch: Batch) -> Result<(), NetError> {
        let before = read::generation(&mut self.socket)?;
        batch.commit(&mut self.socket)?;
        let services = self.known.as_mut().map(|(at, _)| at);
        let policies = self.policies.seen.as_mut().map(|(at, _)| at);
        for at in [services, policies].into_iter().flatten().filter(|at| **at == before) {
            *at = before.wrapping_add(1);
        }
        Ok(())
    }
}

/// What the fixed part is, in a few letters: a table with another comment is another layout.
fn fingerprint(fixed: &[Chain]) -> String {
    let sample = |affinity_seconds| {
        Spread { count: 2, node_port: true, source: Source::Inside, affinity_seconds }.chain()
    };
    let text = format!("{fixed:?}{:?}{:?}{:?}", layout::sets(), sample(None), sample(Some(1)));
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("edged, layout {hex}")
}

fn wanted_spreads(wanted: &Elements) -> BTreeSet<Spread> {
    let fronts = wanted.fronts.iter();
    fronts.filter_map(|((source, front), f)| Spread::of(*source, front, &f.verdict)).collect()
}

/// Makes the chains of lists of clients that are new.
fn invite<'a>(
    batch: &mut Batch,
    lists: impl Iterator<Item = &'a Sources> + Clone,
    have: &BTreeSet<Guests>,
    want: &BTreeSet<Guests>,
) {
    for guests in want.difference(have) {
        let mut lists = lists.clone();
        let Some(list) = lists.find(|list| list.digest() == guests.digest) else { continue };
        let chain = guests.chain(list);
        batch.add_chain(&chain);
        batch.add_rules(&chain);
        batch.add_elements(SOURCES, &[codec::guest_list(guests.digest, guests.to_string())]);
    }
}

/// Removes the chains of lists that no front has any more.
fn dismiss(batch: &mut Batch, have: &BTreeSet<Guests>, want: &BTreeSet<Guests>) {
    for guests in have.difference(want) {
        let name = guests.to_string();
        batch.remove_elements(SOURCES, &[codec::guest_list(guests.digest, name.clone())]);
        batch.remove_chain(&name);
    }
}

/// Puts a change into a transaction: new chains first, what leads to old chains out before them.
fn fill(batch: &mut Batch, change: &Change, have: &BTreeSet<Spread>, want: &BTreeSet<Spread>) {
    for spread in want.difference(have) {
        let chain = spread.chain();
        batch.add_chain(&chain);
        batch.add_rules(&chain);
        batch.add_elements(SPREADS, &[codec::spread(spread)]);
    }
    for (old, verdicts, targets, hairpins) in [
        (true, &change.old_verdicts, &change.old_targets, &change.old_hairpins),
        (false, &change.new_verdicts, &change.new_targets, &change.new_hairpins),
    ] {
        let mut maps: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
        for (key, verdict) in verdicts {
            if let Some((map, element)) = codec::verdict(key, verdict) {
                maps.entry(map).or_default().push(element);
            }
        }
        let targets = targets.iter().map(|(key, target)| codec::target(key, target)).collect();
        maps.insert(TARGETS, targets);
        maps.insert(HAIRPINS, hairpins.iter().map(codec::hairpin).collect());
        let (restricted, addresses) = match old {
            true => (&change.old_restricted, &change.old_addresses),
            false => (&change.new_restricted, &change.new_addresses),
        };
        let lists = restricted.iter().map(|(front, list)| codec::restriction(front, list));
        maps.insert(RESTRICTED, lists.collect());
        maps.insert(ADDRESSES, addresses.iter().map(codec::address).collect());
        for (map, elements) in maps {
            if old {
                batch.remove_elements(map, &elements);
            } else {
                batch.add_elements(map, &elements);
            }
        }
    }
    for spread in have.difference(want) {
        batch.remove_elements(SPREADS, &[codec::spread(spread)]);
        batch.remove_chain(&spread.to_string());
    }
}
