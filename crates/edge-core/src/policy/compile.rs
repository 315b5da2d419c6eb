//! From policies, pods and namespaces to what one board enforces.

use super::ids::Ids;
use super::lens::{Direction, Labels, NamedPort, Namespaces, Peer, Pod, Policy, Port, Rule};
use super::{Id, NONE, Rules, Span, Stretch, merged, span};
use crate::proxy::Protocol;
use core::net::Ipv4Addr;
use edge_api::selector::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};

/// All that is known.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// All policies, by namespace and name.
    pub policies: BTreeMap<(String, String), Policy>,
    /// All pods, by uid.
    pub pods: BTreeMap<String, Pod>,
    /// The labels of all namespaces.
    pub namespaces: BTreeMap<String, Labels>,
}

/// A port that a policy names and a pod does not have: the rule matches nothing there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmatched {
    /// The policy's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What to tell people.
    pub message: String,
}

/// What one board enforces, and what people should know about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The rules.
    pub rules: Rules,
    /// The addresses of the board's pods about which the rules know all there is to know.
    pub judged: BTreeSet<Ipv4Addr>,
    /// Ports that are named in vain.
    pub unmatched: Vec<Unmatched>,
}

/// Pods that a rule names, and the number behind the port that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    namespaces: Option<Namespaces>,
    pods: LabelSelector,
    port: Option<(Protocol, String, u16)>,
}

/// Whom one part of a profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    Everybody,
    Group(Id),
    Block(Id),
}

pub(super) type Parts = BTreeSet<(Whom, Stretch)>;

pub(super) struct Compiler<'a> {
    world: &'a World,
    pods: Vec<&'a Pod>,
    pub(super) ids: Ids,
    pub(super) made: Made,
}

/// What profiles are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    pub(super) groups: BTreeMap<Id, Group>,
    pub(super) blocks: BTreeMap<Id, Vec<Span>>,
    pub(super) profiles: BTreeMap<Id, Parts>,
    pub(super) unmatched: BTreeSet<Unmatched>,
}

impl Made {
    /// Adds what another profile is made of.
    pub(super) fn add(&mut self, other: &Made) {
        self.groups.extend(other.groups.iter().map(|(id, group)| (*id, group.clone())));
        self.blocks.extend(other.blocks.iter().map(|(id, spans)| (*id, spans.clone())));
        self.profiles.extend(other.profiles.iter().map(|(id, parts)| (*id, parts.clone())));
        self.unmatched.extend(other.unmatched.iter().cloned());
    }
}

impl World {
    /// The pod that the board's own DNS server stands for: rules that name the usual one mean it.
    pub fn dns_pod(address: Ipv4Addr) -> Pod {
        let port = |name: &str, protocol| NamedPort { name: name.to_owned(), protocol, port: 53 };
        Pod {
            namespace: "kube-system".to_owned(),
            name: "kube-dns".to_owned(),
            uid: "kube-dns".to_owned(),
            labels: [("k8s-app".to_owned(), "kube-dns".into())].into_iter().collect(),
            address: Some(address),
            ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        }
    }

    /// The rules of a board whose pods, by uid, have these addresses.
    pub fn compile(&self, own: &BTreeMap<String, Ipv4Addr>) -> Compiled {
        let mut compiler = Compiler::new(self, Ids::default());
        let mut out = Compiled::default();
        for (uid, address) in own {
            let Some(pod) = self.pods.get(uid) else { continue };
            out.judged.insert(*address);
            for direction in [Direction::Ingress, Direction::Egress] {
                let Some(profile) = compiler.profile(pod, direction) else { continue };
                match direction {
                    Direction::Ingress => out.rules.ingress.insert(*address, profile),
                    Direction::Egress => out.rules.egress.insert(*address, profile),
                };
            }
        }
        let Made { groups, .. } = &compiler.made;
        let found = self.pods.values().map(|pod| (pod, self.groups_of(pod, groups.iter())));
        let at = places(found, own);
        let classes = classes(&mut compiler.ids, &at, &compiler.made.blocks, &mut out.rules);
        out.rules.allowed = allowed(&compiler.made.profiles, &classes);
        out.unmatched = compiler.made.unmatched.into_iter().collect();
        out
    }

    /// Those of some groups that a pod is in.
    pub(super) fn groups_of<'a>(
        &self,
        pod: &Pod,
        groups: impl Iterator<Item = (&'a Id, &'a Group)>,
    ) -> BTreeSet<Id> {
        groups.filter(|(_, group)| self.is_in(pod, group)).map(|(id, _)| *id).collect()
    }

    fn is_in(&self, pod: &Pod, group: &Group) -> bool {
        let there = match &group.namespaces {
            None => true,
            Some(Namespaces::Only(name)) => pod.namespace == *name,
            // A namespace that is not known yet is nobody's.
            Some(Namespaces::With(labels)) => {
                let found = self.namespaces.get(&pod.namespace);
                found.is_some_and(|found| labels.matches_labels(Some(found)))
            }
        };
        let port = |(protocol, name, number): &(Protocol, String, u16)| {
            pod.named(name, *protocol) == Some(*number)
        };
        there
            && group.port.as_ref().is_none_or(port)
            && group.pods.matches_labels(Some(&pod.labels))
    }
}

/// The groups of each address; `own` knows the board's own pods' better. An address that two pods
/// claim is in what both are in.
pub(super) fn places<'a>(
    found: impl Iterator<Item = (&'a Pod, BTreeSet<Id>)>,
    own: &BTreeMap<String, Ipv4Addr>,
) -> BTreeMap<Ipv4Addr, BTreeSet<Id>> {
    let mut at: BTreeMap<Ipv4Addr, BTreeSet<Id>> = BTreeMap::new();
    for (pod, groups) in found {
        let Some(address) = own.get(&pod.uid).copied().or(pod.address) else { continue };
        at.entry(address).and_modify(|had| had.retain(|id| groups.contains(id))).or_insert(groups);
    }
    at
}

/// Gives every peer its class; answers what each class stands for.
pub(super) fn classes(
    ids: &mut Ids,
    at: &BTreeMap<Ipv4Addr, BTreeSet<Id>>,
    blocks: &BTreeMap<Id, Vec<Span>>,
    rules: &mut Rules,
) -> BTreeMap<Id, BTreeSet<Whom>> {
    let mut classes: BTreeMap<Id, BTreeSet<Whom>> = BTreeMap::new();
    let mut known: BTreeMap<&BTreeSet<Id>, Id> = BTreeMap::new();
    for (address, groups) in at.iter().filter(|(_, groups)| !groups.is_empty()) {
        let class = *known.entry(groups).or_insert_with(|| {
            let class = ids.of(&format!("class of groups {groups:?}"));
            classes.insert(class, groups.iter().map(|id| Whom::Group(*id)).collect());
            class
        });
        rules.pods.insert(*address, class);
    }
    let blocks: Vec<(Id, &[Span])> =
        blocks.iter().map(|(id, spans)| (*id, spans.as_slice())).collect();
    for (span, within) in span::cut(&blocks) {
        let class = ids.of(&format!("class of blocks {within:?}"));
        rules.blocks.insert(span, class);
        classes.entry(class).or_insert_with(|| within.into_iter().map(Whom::Block).collect());
    }
    classes
}

/// What each profile allows each class.
pub(super) fn allowed(
    profiles: &BTreeMap<Id, Parts>,
    classes: &BTreeMap<Id, BTreeSet<Whom>>,
) -> BTreeMap<(Id, Id), Vec<Stretch>> {
    let mut out = BTreeMap::new();
    for (profile, parts) in profiles {
        let allows = |whom: &dyn Fn(Whom) -> bool| {
            let stretches = parts.iter().filter(|(found, _)| whom(*found)).map(|(_, s)| *s);
            merged(stretches.collect())
        };
        let everybody = allows(&|whom| whom == Whom::Everybody);
        let each = classes.iter().map(|(class, sets)| (*class, allows(&|w| sets.contains(&w))));
        for (class, stretches) in [(NONE, everybody)].into_iter().chain(each) {
            if !stretches.is_empty() {
                out.insert((*profile, class), stretches);
            }
        }
    }
    out
}

impl<'a> Compiler<'a> {
    /// Nothing compiled yet.
    pub(super) fn new(world: &'a World, ids: Ids) -> Compiler<'a> {
        Compiler { world, pods: world.pods.values().collect(), ids, made: Made::default() }
    }

    /// What a pod allows in one direction; `None` when no policy is about it.
    pub(super) fn profile(&mut self, pod: &Pod, direction: Direction) -> Option<Id> {
        let world = self.world;
        let about = world.policies.values().filter(|policy| policy.selects(pod));
        let about: Vec<_> =
            about.filter_map(|policy| Some((policy, policy.rules(direction)?))).collect();
        if about.is_empty() {
            return None;
        }
        let mut parts = Parts::new();
        for (policy, rules) in about {
            for (index, rule) in rules.iter().enumerate() {
                let place = (policy, direction, index + 1);
                match direction {
                    Direction::Ingress => self.ingress(pod, rule, place, &mut parts),
                    Direction::Egress => self.egress(rule, place, &mut parts),
                }
            }
        }
        if parts.is_empty() {
            return Some(NONE);
        }
        let id = self.ids.of(&format!("profile {parts:?}"));
        self.made.profiles.insert(id, parts);
        Some(id)
    }

    fn ingress(&mut self, pod: &Pod, rule: &Rule, place: Place<'_>, parts: &mut Parts) {
        let mut stretches = Vec::new();
        match &rule.ports {
            None => stretches.push(Stretch::ALL),
            Some(ports) => {
                for port in ports {
                    match port {
                        Port::Range(protocol, first, last) => {
                            stretches.push(Stretch::ports(*protocol, *first, *last));
                        }
                        Port::Named(protocol, name) => match pod.named(name, *protocol) {
                            Some(port) => stretches.push(Stretch::ports(*protocol, port, port)),
                            None => {
                                let whose = format!("pod {}/{}", pod.namespace, pod.name);
                                self.complain(place, *protocol, name, &whose);
                            }
                        },
                    }
                }
            }
        }
        let whom = self.whom(rule.peers.as_deref(), None);
        parts.extend(whom.iter().flat_map(|w| stretches.iter().map(move |s| (*w, *s))));
    }

    fn egress(&mut self, rule: &Rule, place: Place<'_>, parts: &mut Parts) {
        let Some(ports) = &rule.ports else {
            let whom = self.whom(rule.peers.as_deref(), None);
            return parts.extend(whom.into_iter().map(|whom| (whom, Stretch::ALL)));
        };
        for port in ports {
            match port {
                Port::Range(protocol, first, last) => {
                    let stretch = Stretch::ports(*protocol, *first, *last);
                    let whom = self.whom(rule.peers.as_deref(), None);
                    parts.extend(whom.into_iter().map(|whom| (whom, stretch)));
                }
                Port::Named(protocol, name) => {
                    // Each pod may mean another number by it.
                    let named = |pod: &&Pod| pod.named(name, *protocol);
                    let numbers: BTreeSet<u16> = self.pods.iter().filter_map(named).collect();
                    let mut some = false;
                    for number in numbers {
                        let port = (*protocol, name.clone(), number);
                        for whom in self.whom(rule.peers.as_deref(), Some(port)) {
                            some |= self.has_members(whom);
                            parts.insert((whom, Stretch::ports(*protocol, number, number)));
                        }
                    }
                    if !some {
                        self.complain(place, *protocol, name, "any pod that the rule names");
                    }
                }
            }
        }
    }

    fn complain(&mut self, place: Place<'_>, protocol: Protocol, name: &str, whose: &str) {
        let (policy, direction, number) = place;
        let direction = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let protocol = format!("{protocol:?}").to_ascii_uppercase();
        self.made.unmatched.insert(Unmatched {
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            uid: policy.uid.clone(),
            message: format!(
                "{direction} rule {number} names the {protocol} port {name:?}, and no container of \
                 {whose} has a port of that name: the rule allows nothing there"
            ),
        });
    }

    /// The numbers of a rule's peers. A named port has a number with pods only.
    fn whom(
        &mut self,
        peers: Option<&[Peer]>,
        port: Option<(Protocol, String, u16)>,
    ) -> BTreeSet<Whom> {
        let Some(peers) = peers else {
            return match port {
                None => BTreeSet::from([Whom::Everybody]),
                Some(_) => {
                    let pods = LabelSelector::everything();
                    BTreeSet::from([self.group(Group { namespaces: None, pods, port })])
                }
            };
        };
        let mut out = BTreeSet::new();
        for peer in peers {
            match peer {
                Peer::Pods(namespaces, pods) => {
                    let (namespaces, pods) = (Some(namespaces.clone()), pods.clone());
                    out.insert(self.group(Group { namespaces, pods, port: port.clone() }));
                }
                Peer::Block(spans) if port.is_none() && !spans.is_empty() => {
                    let id = self.ids.of(&format!("block {spans:?}"));
                    self.made.blocks.entry(id).or_insert_with(|| spans.clone());
                    out.insert(Whom::Block(id));
                }
                Peer::Block(_) => {}
            }
        }
        out
    }

    fn group(&mut self, group: Group) -> Whom {
        let namespaces = match &group.namespaces {
            None => "everywhere".to_owned(),
            Some(Namespaces::Only(name)) => format!("in {name}"),
            Some(Namespaces::With(labels)) => format!("with {labels}"),
        };
        let text = format!("group {namespaces} / {} / {:?}", group.pods, group.port);
        let id = self.ids.of(&text);
        self.made.groups.entry(id).or_insert(group);
        Whom::Group(id)
    }

    fn has_members(&self, whom: Whom) -> bool {
        let Whom::Group(id) = whom else { return false };
        let group = self.made.groups.get(&id);
        group.is_some_and(|group| self.pods.iter().any(|pod| self.world.is_in(pod, group)))
    }
}

/// A rule's policy, direction and number.
type Place<'a> = (&'a Policy, Direction, usize);
