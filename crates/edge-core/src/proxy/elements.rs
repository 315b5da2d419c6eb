//! Tables as elements of maps, the form in which the kernel holds them, and the difference
//! between two such states: what one changed endpoint costs is a few elements, however many
//! services there are.

use super::{Choice, Front, Patch, Route, Sources, Tables, Target};
use core::net::Ipv4Addr;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Whose connections an element is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Everybody's, unless an element for the inside comes first.
    Any,
    /// Those from pods and from the board itself, where they differ from the others'.
    Inside,
}

/// What a front's element says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Pick one of `count` targets, or the one that the client had.
    Spread {
        /// How many targets the front has; they are numbered from 0.
        count: u32,
        /// See [`Route::affinity_seconds`].
        affinity_seconds: Option<u32>,
    },
    /// Refuse the connection.
    Refuse,
    /// Drop the packet.
    Drop,
}

/// The key of a front's verdict.
pub type VerdictKey = (Source, Front);
/// The key of a front's numbered target.
pub type TargetKey = (Source, Front, u32);

/// A front's verdict and its targets in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spreading {
    /// What becomes of its connections.
    pub verdict: Verdict,
    /// As many as the verdict counts.
    pub targets: Vec<Target>,
}

/// All elements of one board's maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements {
    /// Each front's verdict and targets.
    pub fronts: BTreeMap<VerdictKey, Spreading>,
    /// The addresses of this board's pods among the targets: a pod that reaches itself through a
    /// Service needs its own address hidden from it.
    pub hairpins: BTreeSet<Ipv4Addr>,
    /// Fronts that take some clients only.
    pub restricted: BTreeMap<Front, Sources>,
    /// See [`Tables::addresses`].
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// What to take out and what to put in. A changed element is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Verdicts to take out, with what they said.
    pub old_verdicts: Vec<(VerdictKey, Verdict)>,
    /// Verdicts to put in.
    pub new_verdicts: Vec<(VerdictKey, Verdict)>,
    /// Targets to take out.
    pub old_targets: Vec<(TargetKey, Target)>,
    /// Targets to put in.
    pub new_targets: Vec<(TargetKey, Target)>,
    /// Hairpins to take out.
    pub old_hairpins: Vec<Ipv4Addr>,
    /// Hairpins to put in.
    pub new_hairpins: Vec<Ipv4Addr>,
    /// Restrictions to take out.
    pub old_restricted: Vec<(Front, Sources)>,
    /// Restrictions to put in.
    pub new_restricted: Vec<(Front, Sources)>,
    /// Services' own addresses to take out.
    pub old_addresses: Vec<Ipv4Addr>,
    /// Services' own addresses to put in.
    pub new_addresses: Vec<Ipv4Addr>,
    /// What each front that differs is afterwards; nothing for one that goes.
    fronts: Vec<(VerdictKey, Option<Spreading>)>,
}

impl Change {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many elements are touched.
    pub fn len(&self) -> usize {
        self.old_verdicts.len()
            + self.new_verdicts.len()
            + self.old_targets.len()
            + self.new_targets.len()
            + self.old_hairpins.len()
            + self.new_hairpins.len()
            + self.old_restricted.len()
            + self.new_restricted.len()
            + self.old_addresses.len()
            + self.new_addresses.len()
    }

    /// Notes how a front differs.
    fn front(&mut self, key: VerdictKey, old: Option<&Spreading>, new: Option<&Spreading>) {
        let (before, after) = (old.map(|f| f.verdict), new.map(|f| f.verdict));
        if before != after {
            self.old_verdicts.extend(before.map(|verdict| (key, verdict)));
            self.new_verdicts.extend(after.map(|verdict| (key, verdict)));
        }
        let targets = |front: Option<&Spreading>| front.map_or(0, |front| front.targets.len());
        for index in 0..targets(old).max(targets(new)) {
            let at = |front: Option<&Spreading>| front?.targets.get(index).copied();
            let (before, after) = (at(old), at(new));
            if before != after {
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                let key = (key.0, key.1, number);
                self.old_targets.extend(before.map(|target| (key, target)));
                self.new_targets.extend(after.map(|target| (key, target)));
            }
        }
        self.fronts.push((key, new.cloned()));
    }
}

fn spreading(choice: &Choice, route: &Route) -> Spreading {
    let (verdict, targets) = match choice {
        Choice::Refuse => (Verdict::Refuse, Vec::new()),
        Choice::Drop => (Verdict::Drop, Vec::new()),
        Choice::Spread(targets) => {
            let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
            let affinity_seconds = route.affinity_seconds;
            (Verdict::Spread { count, affinity_seconds }, targets.clone())
        }
    };
    Spreading { verdict, targets }
}

/// A route for everybody, and for the inside where that differs.
fn sides(route: Option<&Route>) -> [(Source, Option<Spreading>); 2] {
    let inside = route.filter(|route| route.inside != route.outside);
    [
        (Source::Any, route.map(|route| spreading(&route.outside, route))),
        (Source::Inside, inside.map(|route| spreading(&route.inside, route))),
    ]
}

/// The addresses of this board's pods among targets, and how often each is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hairpins(BTreeMap<Ipv4Addr, usize>);

impl Hairpins {
    /// Those of all targets; `own` tells the addresses of this board's pods.
    pub fn of(elements: &Elements, own: impl Fn(Ipv4Addr) -> bool) -> Hairpins {
        let mut found = BTreeMap::new();
        for target in elements.fronts.values().flat_map(|front| &front.targets) {
            if own(target.address) {
                *found.entry(target.address).or_default() += 1;
            }
        }
        Hairpins(found)
    }

    /// Takes in a change of targets, and adds to it which hairpins come and go.
    pub fn follow(&mut self, change: &mut Change, own: impl Fn(Ipv4Addr) -> bool) {
        let mut before = BTreeMap::new();
        let old = change.old_targets.iter().map(|(_, target)| (target.address, false));
        let new = change.new_targets.iter().map(|(_, target)| (target.address, true));
        for (address, comes) in new.chain(old).filter(|(address, _)| own(*address)) {
            let count = self.0.entry(address).or_default();
            before.entry(address).or_insert(*count > 0);
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        }
        for (address, was) in before {
            let is = self.0.get(&address).is_some_and(|count| *count > 0);
            match (was, is) {
                (true, false) => change.old_hairpins.push(address),
                (false, true) => change.new_hairpins.push(address),
                _ => {}
            }
            if !is {
                self.0.remove(&address);
            }
        }
    }
}

impl Elements {
    /// The elements of the tables; `own` tells the addresses of this board's pods.
    pub fn new(tables: &Tables, own: impl Fn(Ipv4Addr) -> bool) -> Elements {
        let mut fronts = BTreeMap::new();
        for (front, route) in &tables.routes {
            for (source, found) in sides(Some(route)) {
                fronts.extend(found.map(|spreading| ((source, *front), spreading)));
            }
        }
        let (restricted, addresses) = (tables.allowed.clone(), tables.addresses.clone());
        let hairpins = BTreeSet::new();
        let mut elements = Elements { fronts, hairpins, restricted, addresses };
        elements.hairpins = Hairpins::of(&elements, own).0.into_keys().collect();
        elements
    }

    /// What leads from these elements to what a patch says. Which hairpins come and go, only
    /// [`Hairpins::follow`] can tell.
    pub fn change(&self, patch: &Patch) -> Change {
        let mut change = Change::default();
        for (front, now) in &patch.fronts {
            for (source, new) in sides(now.as_ref().map(|(route, _)| route)) {
                let key = (source, *front);
                let old = self.fronts.get(&key);
                if old != new.as_ref() {
                    change.front(key, old, new.as_ref());
                }
            }
            let old = self.restricted.get(front);
            let new = now.as_ref().and_then(|(_, sources)| sources.as_ref());
            if old != new {
                change.old_restricted.extend(old.map(|list| (*front, list.clone())));
                change.new_restricted.extend(new.map(|list| (*front, list.clone())));
            }
        }
        for (address, wanted) in &patch.addresses {
            match (self.addresses.contains(address), wanted) {
                (true, false) => change.old_addresses.push(*address),
                (false, true) => change.new_addresses.push(*address),
                _ => {}
            }
        }
        change
    }

    /// Puts the fronts together that were read element by element; `None` when a front lacks a
    /// target or a target its front.
    pub fn assemble(
        verdicts: BTreeMap<VerdictKey, Verdict>,
        mut targets: BTreeMap<TargetKey, Target>,
    ) -> Option<Elements> {
        let mut fronts = BTreeMap::new();
        for ((source, front), verdict) in verdicts {
            let count = if let Verdict::Spread { count, .. } = verdict { count } else { 0 };
            let own: Option<Vec<Target>> =
                (0..count).map(|number| targets.remove(&(source, front, number))).collect();
            fronts.insert((source, front), Spreading { verdict, targets: own? });
        }
        targets.is_empty().then(|| Elements { fronts, ..Elements::default() })
    }

    /// What leads from these elements to the wanted ones.
    pub fn diff(&self, wanted: &Elements) -> Change {
        let mut change = Change {
            old_hairpins: self.hairpins.difference(&wanted.hairpins).copied().collect(),
            new_hairpins: wanted.hairpins.difference(&self.hairpins).copied().collect(),
            old_restricted: lacking(&self.restricted, &wanted.restricted),
            new_restricted: lacking(&wanted.restricted, &self.restricted),
            old_addresses: self.addresses.difference(&wanted.addresses).copied().collect(),
            new_addresses: wanted.addresses.difference(&self.addresses).copied().collect(),
            ..Change::default()
        };
        let (mut have, mut want) = (self.fronts.iter().peekable(), wanted.fronts.iter().peekable());
        loop {
            let order = match (have.peek(), want.peek()) {
                (None, None) => return change,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let old = if order.is_le() { have.next() } else { None };
            let new = if order.is_ge() { want.next() } else { None };
            let (before, after) = (old.map(|(_, front)| front), new.map(|(_, front)| front));
            if let (Some((key, _)), true) = (old.or(new), before != after) {
                change.front(*key, before, after);
            }
        }
    }

    /// Does to these elements what the change says.
    pub fn apply(&mut self, change: &Change) {
        for (key, front) in &change.fronts {
            match front {
                Some(front) => self.fronts.insert(*key, front.clone()),
                None => self.fronts.remove(key),
            };
        }
        for hairpin in &change.old_hairpins {
            self.hairpins.remove(hairpin);
        }
        self.hairpins.extend(&change.new_hairpins);
        for (front, _) in &change.old_restricted {
            self.restricted.remove(front);
        }
        self.restricted.extend(change.new_restricted.iter().cloned());
        for address in &change.old_addresses {
            self.addresses.remove(address);
        }
        self.addresses.extend(&change.new_addresses);
    }
}

/// What the one has and the other has not, or has otherwise.
fn lacking(
    one: &BTreeMap<Front, Sources>,
    other: &BTreeMap<Front, Sources>,
) -> Vec<(Front, Sources)> {
    let differs = |(front, sources): &(&Front, &Sources)| other.get(front) != Some(sources);
    one.iter().filter(differs).map(|(front, sources)| (*front, sources.clone())).collect()
}
