//! Policies, pods and namespaces as they are now, and what one board enforces, kept up: labels are
//! matched again only where something changed. A pod of another board costs its own matches with
//! the groups that rules name, a pod of this board those with the policies. What is left for each
//! change is to go once through the addresses, without looking at a label. A test holds this
//! against [`World::compile`], which makes everything anew.

use super::compile::{Compiler, Group, Made, Parts, Whom, allowed, classes, places};
use super::ids::Ids;
use super::lens::Port;
use super::{Compiled, Direction, Id, Labels, NONE, Pod, Policy, Stretch, World};
use crate::proxy::Protocol;
use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

/// Numbers that may have been given out in vain before all are given out anew.
const STALE_IDS: usize = 4096;

/// One of the board's pods: its profiles, and what they are made of.
#[derive(Debug, Clone)]
struct Judged {
    ingress: Option<Id>,
    egress: Option<Id>,
    made: Made,
}

/// What each profile allows each class, and from which of both that was made.
#[derive(Debug, Clone, Default)]
struct Matrix {
    profiles: BTreeMap<Id, Parts>,
    classes: BTreeMap<Id, BTreeSet<Whom>>,
    allowed: BTreeMap<(Id, Id), Vec<Stretch>>,
}

impl Matrix {
    /// Makes the rows of new profiles and the columns of new classes. Both are numbered by what
    /// they stand for: what has the same number is the same.
    fn follow(&mut self, profiles: BTreeMap<Id, Parts>, classes: BTreeMap<Id, BTreeSet<Whom>>) {
        let stays = |(profile, class): &(Id, Id)| {
            profiles.contains_key(profile) && (*class == NONE || classes.contains_key(class))
        };
        self.allowed.retain(|key, _| stays(key));
        let fresh = lacking(&profiles, &self.profiles);
        self.allowed.extend(allowed(&fresh, &classes));
        let fresh = lacking(&classes, &self.classes);
        if !fresh.is_empty() {
            self.allowed.extend(allowed(&profiles, &fresh));
        }
        (self.profiles, self.classes) = (profiles, classes);
    }
}

/// What the one has and the other has not.
fn lacking<V: Clone>(one: &BTreeMap<Id, V>, other: &BTreeMap<Id, V>) -> BTreeMap<Id, V> {
    let fresh = one.iter().filter(|(id, _)| !other.contains_key(*id));
    fresh.map(|(id, value)| (*id, value.clone())).collect()
}

/// All that is known, and what was made of it so far.
#[derive(Debug, Default)]
pub struct Live {
    world: World,
    ids: Ids,
    /// Ports of others that rules name: what a number is behind them, any pod may say.
    named: BTreeSet<(Protocol, String)>,
    judged: BTreeMap<String, Judged>,
    groups: BTreeMap<Id, Group>,
    /// The groups of each pod, by uid.
    members: BTreeMap<String, BTreeSet<Id>>,
    matrix: Matrix,
}

impl Live {
    /// All that is known.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes in what policies there are now.
    pub fn set_policies(&mut self, change: impl FnOnce(&mut BTreeMap<(String, String), Policy>)) {
        change(&mut self.world.policies);
        self.forget();
        let rules = self.world.policies.values().filter_map(|p| p.rules(Direction::Egress));
        let ports = rules.flatten().filter_map(|rule| rule.ports.as_ref()).flatten();
        let named = ports.filter_map(|port| match port {
            Port::Named(protocol, name) => Some((*protocol, name.clone())),
            Port::Range(..) => None,
        });
        self.named = named.collect();
    }

    /// Takes in a namespace's labels, or that it is gone; says whether that is news.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        if self.world.namespaces.get(name) == labels.as_ref() {
            return false;
        }
        match labels {
            Some(labels) => self.world.namespaces.insert(name.to_owned(), labels),
            None => self.world.namespaces.remove(name),
        };
        self.forget();
        true
    }

    /// Takes in a pod, or that it is gone; says whether that is news.
    pub fn set_pod(&mut self, uid: &str, pod: Option<Pod>) -> bool {
        let before = self.world.pods.get(uid);
        if before == pod.as_ref() {
            return false;
        }
        let ports = before.into_iter().chain(&pod).flat_map(|pod| &pod.ports);
        let mut keys = ports.map(|port| (port.protocol, port.name.clone()));
        if keys.any(|key| self.named.contains(&key)) {
            self.judged.clear();
        }
        self.judged.remove(uid);
        self.members.remove(uid);
        match pod {
            Some(pod) => self.world.pods.insert(uid.to_owned(), pod),
            None => self.world.pods.remove(uid),
        };
        true
    }

    /// What was made may be wrong by now.
    fn forget(&mut self) {
        let world = take(&mut self.world);
        *self = Live { world, named: take(&mut self.named), ..Live::default() };
    }

    /// The rules of a board whose pods, by uid, have these addresses: see [`World::compile`].
    pub fn compile(&mut self, own: &BTreeMap<String, Ipv4Addr>) -> Compiled {
        if self.ids.count() > STALE_IDS + 4 * self.world.pods.len() {
            self.forget();
        }
        let mut out = Compiled::default();
        let made = self.judge(own, &mut out);
        self.enrol(made.groups);
        let nobody = BTreeSet::new();
        let members = &self.members;
        let groups = |uid: &String| members.get(uid).unwrap_or(&nobody).clone();
        let found = self.world.pods.iter().map(|(uid, pod)| (pod, groups(uid)));
        let at = places(found, own);
        let classes = classes(&mut self.ids, &at, &made.blocks, &mut out.rules);
        self.matrix.follow(made.profiles, classes);
        out.rules.allowed.clone_from(&self.matrix.allowed);
        out.unmatched = made.unmatched.into_iter().collect();
        out
    }

    /// Finds the profiles of the board's pods; answers what all of them are made of.
    fn judge(&mut self, own: &BTreeMap<String, Ipv4Addr>, out: &mut Compiled) -> Made {
        self.judged.retain(|uid, _| own.contains_key(uid));
        let mut all = Made::default();
        for (uid, address) in own {
            let Some(pod) = self.world.pods.get(uid) else { continue };
            let judged = self.judged.entry(uid.clone()).or_insert_with(|| {
                let mut compiler = Compiler::new(&self.world, take(&mut self.ids));
                let ingress = compiler.profile(pod, Direction::Ingress);
                let egress = compiler.profile(pod, Direction::Egress);
                self.ids = take(&mut compiler.ids);
                Judged { ingress, egress, made: compiler.made }
            });
            out.judged.insert(*address);
            out.rules.ingress.extend(judged.ingress.map(|profile| (*address, profile)));
            out.rules.egress.extend(judged.egress.map(|profile| (*address, profile)));
            all.add(&judged.made);
        }
        all
    }

    /// Finds which of these groups each pod is in, where that is not known.
    fn enrol(&mut self, groups: BTreeMap<Id, Group>) {
        if self.groups != groups {
            let gone: Vec<Id> =
                self.groups.keys().filter(|id| !groups.contains_key(*id)).copied().collect();
            let fresh: BTreeMap<&Id, &Group> =
                groups.iter().filter(|(id, _)| !self.groups.contains_key(*id)).collect();
            for (uid, of) in &mut self.members {
                gone.iter().for_each(|id| _ = of.remove(id));
                let Some(pod) = self.world.pods.get(uid) else { continue };
                of.extend(self.world.groups_of(pod, fresh.iter().map(|(id, group)| (*id, *group))));
            }
            self.groups = groups;
        }
        for (uid, pod) in &self.world.pods {
            if !self.members.contains_key(uid) {
                let of = self.world.groups_of(pod, self.groups.iter());
                self.members.insert(uid.clone(), of);
            }
        }
    }
}
