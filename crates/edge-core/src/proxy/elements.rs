//! Tables as elements of maps, the form in which the kernel holds them, and the difference
//! between two such states: what one changed endpoint costs is a few elements, however many
//! services there are.

use super::{Choice, Front, Route, Tables, Target};
use core::net::Ipv4Addr;
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

/// All elements of one board's maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements {
    /// What becomes of connections to each front.
    pub verdicts: BTreeMap<VerdictKey, Verdict>,
    /// The numbered targets of each front that spreads.
    pub targets: BTreeMap<TargetKey, Target>,
    /// Every address among the targets: a pod that reaches itself through a Service needs its
    /// own address hidden from it.
    pub backends: BTreeSet<Ipv4Addr>,
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
    /// Backends to take out.
    pub old_backends: Vec<Ipv4Addr>,
    /// Backends to put in.
    pub new_backends: Vec<Ipv4Addr>,
}

impl Change {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }

    /// How many elements are touched.
    pub fn len(&self) -> usize {
        self.old_verdicts.len()
            + self.new_verdicts.len()
            + self.old_targets.len()
            + self.new_targets.len()
            + self.old_backends.len()
            + self.new_backends.len()
    }
}

impl From<&Tables> for Elements {
    fn from(tables: &Tables) -> Elements {
        let mut elements = Elements::default();
        for (front, route) in &tables.routes {
            elements.add(Source::Any, *front, &route.outside, route);
            if route.inside != route.outside {
                elements.add(Source::Inside, *front, &route.inside, route);
            }
        }
        elements.backends = elements.targets.values().map(|target| target.address).collect();
        elements
    }
}

impl Elements {
    fn add(&mut self, source: Source, front: Front, choice: &Choice, route: &Route) {
        let verdict = match choice {
            Choice::Refuse => Verdict::Refuse,
            Choice::Drop => Verdict::Drop,
            Choice::Spread(targets) => {
                let mut count = 0;
                for target in targets {
                    self.targets.insert((source, front, count), *target);
                    count += 1;
                }
                Verdict::Spread { count, affinity_seconds: route.affinity_seconds }
            }
        };
        self.verdicts.insert((source, front), verdict);
    }

    /// What leads from these elements to the wanted ones.
    pub fn diff(&self, wanted: &Elements) -> Change {
        let (old_verdicts, new_verdicts) = differ(&self.verdicts, &wanted.verdicts);
        let (old_targets, new_targets) = differ(&self.targets, &wanted.targets);
        Change {
            old_verdicts,
            new_verdicts,
            old_targets,
            new_targets,
            old_backends: self.backends.difference(&wanted.backends).copied().collect(),
            new_backends: wanted.backends.difference(&self.backends).copied().collect(),
        }
    }

    /// Does to these elements what the change says.
    pub fn apply(&mut self, change: &Change) {
        for (key, _) in &change.old_verdicts {
            self.verdicts.remove(key);
        }
        for (key, _) in &change.old_targets {
            self.targets.remove(key);
        }
        for backend in &change.old_backends {
            self.backends.remove(backend);
        }
        self.verdicts.extend(change.new_verdicts.iter().copied());
        self.targets.extend(change.new_targets.iter().copied());
        self.backends.extend(change.new_backends.iter().copied());
    }
}

type Pairs<K, V> = Vec<(K, V)>;

fn differ<K: Ord + Copy, V: PartialEq + Copy>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> (Pairs<K, V>, Pairs<K, V>) {
    let without = |a: &BTreeMap<K, V>, b: &BTreeMap<K, V>| {
        let gone = a.iter().filter(|(key, value)| b.get(key) != Some(value));
        gone.map(|(key, value)| (*key, *value)).collect()
    };
    (without(old, new), without(new, old))
}
