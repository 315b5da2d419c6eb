//! One change of Services in the kernel, at the cost of what it touches: neither the maps nor what
//! is known of them is gone through. Where somebody else has changed rules meanwhile, the whole is
//! compared instead ([`Rules::apply`]).

use super::super::range::Range;
use super::batch::Batch;
use super::guests::Guests;
use super::read::{self, Observed};
use super::spread::Spread;
use super::{Rules, conntrack, dismiss, fill, invite};
use crate::net::error::NetError;
use edge_core::proxy::{Change, Elements, Front, Hairpins, Patch, Sources, Verdict, VerdictKey};
use std::collections::{BTreeMap, BTreeSet};

/// How many elements lead to each chain that is made when it is needed, and how often each of this
/// board's pods is a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Uses {
    spreads: BTreeMap<Spread, usize>,
    guests: BTreeMap<Guests, usize>,
    hairpins: Hairpins,
}

/// What of something comes into use, and what goes out of it.
type Turn<T> = (BTreeSet<T>, BTreeSet<T>);

/// Counts what comes and goes; answers what was not there before, and what is not any more.
fn count<T: Ord + Copy>(
    counts: &mut BTreeMap<T, usize>,
    new: impl Iterator<Item = T>,
    old: impl Iterator<Item = T>,
) -> Turn<T> {
    let mut before = BTreeMap::new();
    for (thing, comes) in new.map(|thing| (thing, true)).chain(old.map(|thing| (thing, false))) {
        let count = counts.entry(thing).or_default();
        before.entry(thing).or_insert(*count > 0);
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
    }
    let is = |counts: &BTreeMap<T, usize>, thing: &T| counts.get(thing).is_some_and(|n| *n > 0);
    let (mut come, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for (thing, was) in before {
        match (was, is(counts, &thing)) {
            (false, true) => _ = come.insert(thing),
            (true, false) => _ = gone.insert(thing),
            _ => {}
        }
        if !is(counts, &thing) {
            counts.remove(&thing);
        }
    }
    (come, gone)
}

fn spread((key, verdict): &(VerdictKey, Verdict)) -> Option<Spread> {
    Spread::of(key.0, &key.1, verdict)
}

fn guests((_, sources): &(Front, Sources)) -> Guests {
    Guests::of(sources)
}

impl Uses {
    /// Those of all elements; what they restrict must be known by its ranges.
    pub(super) fn of(elements: &Elements, pods: Range) -> Uses {
        let mut uses =
            Uses { hairpins: Hairpins::of(elements, |ip| pods.contains(ip)), ..Uses::default() };
        for ((source, front), spreading) in &elements.fronts {
            if let Some(spread) = Spread::of(*source, front, &spreading.verdict) {
                *uses.spreads.entry(spread).or_default() += 1;
            }
        }
        for sources in elements.restricted.values() {
            *uses.guests.entry(Guests::of(sources)).or_default() += 1;
        }
        uses
    }
}

impl Rules {
    /// See [`super::super::Net::patch_proxy`].
    pub(in super::super) fn patch(&mut self, patch: &Patch) -> Result<bool, NetError> {
        let generation = read::generation(&mut self.socket)?;
        let known = self.known.take().filter(|(known, _)| *known == generation);
        let Some((_, mut observed)) = known else { return Ok(false) };
        let mut change = observed.elements.change(patch);
        let pods = self.pods;
        observed.uses.hairpins.follow(&mut change, |ip| pods.contains(ip));
        let uses = &mut observed.uses;
        let (new, old) = (change.new_verdicts.iter(), change.old_verdicts.iter());
        let spreads = count(&mut uses.spreads, new.filter_map(spread), old.filter_map(spread));
        let (new, old) = (change.new_restricted.iter(), change.old_restricted.iter());
        let lists = count(&mut uses.guests, new.map(guests), old.map(guests));
        let mut batch = Batch::new();
        let wanted = change.new_restricted.iter().map(|(_, sources)| sources);
        invite(&mut batch, wanted, &lists.1, &lists.0);
        fill(&mut batch, &change, &spreads.1, &spreads.0);
        dismiss(&mut batch, &lists.1, &lists.0);
        let now = self.carry_out(batch, &change, &observed, generation)?;
        observed.elements.apply(&change);
        observed.spreads.extend(spreads.0);
        observed.guests.extend(lists.0);
        observed.spreads.retain(|spread| !spreads.1.contains(spread));
        observed.guests.retain(|guests| !lists.1.contains(guests));
        self.known = Some((now, observed));
        Ok(true)
    }

    /// Does a change, and what follows from it for connections that are open. Answers the
    /// generation of the rules afterwards.
    pub(super) fn carry_out(
        &mut self,
        batch: Batch,
        change: &Change,
        before: &Observed,
        generation: u32,
    ) -> Result<u32, NetError> {
        let mut now = generation;
        if !batch.is_empty() {
            self.commit(batch)?;
            now = generation.wrapping_add(1);
            if before.spreads.iter().any(|spread| spread.affinity_seconds.is_some()) {
                now = now.wrapping_add(self.forget_clients(change)?);
            }
            conntrack::forget(change);
            self.stranded |= conntrack::strands(change);
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_again_neither_comes_nor_goes() {
        let mut counts = BTreeMap::from([(1, 2), (2, 1)]);
        let turn = count(&mut counts, [2, 3].into_iter(), [1, 2].into_iter());
        assert_eq!(turn, (BTreeSet::from([3]), BTreeSet::new()));
        let turn = count(&mut counts, [].into_iter(), [1, 3].into_iter());
        assert_eq!(turn, (BTreeSet::new(), BTreeSet::from([1, 3])));
        assert_eq!(counts, BTreeMap::from([(2, 1)]));
    }
}
