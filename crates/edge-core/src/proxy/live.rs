//! Services and EndpointSlices as they are now, and the tables that they make, kept up object by
//! object: one that changes costs what it touches, however many there are. What comes of it is a
//! [`Patch`]; the whole ([`Live::tables`]) is for a start and for whoever lost track.
//!
//! Each Service's part is what [`Tables::gather`] makes of it alone; here is only who of several
//! that claim the same is the oldest. A test holds both ways against each other.

use super::{Clash, Front, HealthCheck, Route, Sources, Tables, announced, lens};
use crate::podnet::Range;
use core::net::Ipv4Addr;
use edge_api::{Object, meta};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

/// A namespace and a name in it.
pub type Name = (String, String);

fn name_of(object: &Object) -> Name {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

/// Of two that claim the same, the lesser one has it: the older one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    created: String,
    name: Name,
}

/// One Service by itself.
#[derive(Debug, Default)]
struct Part {
    created: String,
    tables: Tables,
    announced: BTreeMap<Ipv4Addr, String>,
}

/// A front as somebody has it: where it leads, and whom it takes; `None` is everybody.
pub type Claimed = (Route, Option<Sources>);

/// What may differ since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Fronts as they are now; nothing for one that is gone.
    pub fronts: BTreeMap<Front, Option<Claimed>>,
    /// Whether addresses belong to Services now: see [`Tables::addresses`].
    pub addresses: BTreeMap<Ipv4Addr, bool>,
    /// Fronts that two claim, and did not before: see [`Tables::clashes`].
    pub clashes: Vec<Clash>,
    /// True when [`Live::health`] says something else.
    pub health: bool,
    /// True when [`Live::announced`] says something else.
    pub announced: bool,
}

/// All Services and EndpointSlices, by namespace and name, and the tables of one board.
#[derive(Debug, Default)]
pub struct Live {
    node: String,
    /// The cluster's ranges of addresses, in which a Service has its own alone.
    ranges: Vec<Range>,
    services: BTreeMap<Name, Object>,
    slices: BTreeMap<Name, Object>,
    /// The names of each Service's slices, in its namespace; the Service need not be there.
    slices_of: BTreeMap<Name, BTreeSet<String>>,
    parts: BTreeMap<Name, Part>,
    /// Who claims a front, the oldest first; never empty.
    claims: BTreeMap<Front, Vec<Rank>>,
    /// Who wants a port for health checks, likewise.
    health: BTreeMap<u16, Vec<Rank>>,
    /// Whose an address of the LAN is, and which board announces it for them.
    holders: BTreeMap<Ipv4Addr, BTreeMap<Name, String>>,
    /// Fronts of pods, where no Service has them.
    pods: BTreeMap<Front, Route>,
    /// Who has a front that others claim as well, and these.
    clashes: BTreeMap<Front, BTreeSet<(String, String)>>,
    /// Services that must be looked at.
    touched: BTreeSet<Name>,
    /// Fronts that must be looked at.
    fronts: BTreeSet<Front>,
    patch: Patch,
}

impl Live {
    /// Nothing yet, on the board called `node`.
    pub fn new(node: &str) -> Live {
        Live { node: node.to_owned(), ..Live::default() }
    }

    /// Keeps addresses within the cluster's own ranges from Services that name them as theirs
    /// from outside.
    #[must_use]
    pub fn guarding(mut self, ranges: impl IntoIterator<Item = Range>) -> Live {
        self.ranges = ranges.into_iter().collect();
        self
    }

    /// All Services, by namespace and name.
    pub fn services(&self) -> &BTreeMap<Name, Object> {
        &self.services
    }

    /// All EndpointSlices, likewise.
    pub fn slices(&self) -> &BTreeMap<Name, Object> {
        &self.slices
    }

    /// The EndpointSlices of one Service, which need not be there itself.
    pub fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Object> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(&(service.0.clone(), name.clone())))
    }

    /// Takes in a Service that came or changed.
    pub fn set_service(&mut self, service: Object) {
        let name = name_of(&service);
        if self.services.get(&name) != Some(&service) {
            self.services.insert(name.clone(), service);
            self.touched.insert(name);
        }
    }

    /// Takes in that a Service is gone.
    pub fn remove_service(&mut self, name: &Name) {
        if self.services.remove(name).is_some() {
            self.touched.insert(name.clone());
        }
    }

    /// Takes in all Services there are.
    pub fn set_services(&mut self, services: Vec<Object>) {
        let stay: BTreeSet<Name> = services.iter().map(name_of).collect();
        let gone: Vec<Name> =
            self.services.keys().filter(|name| !stay.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_service(name));
        services.into_iter().for_each(|service| self.set_service(service));
    }

    /// Takes in an EndpointSlice that came or changed.
    pub fn set_slice(&mut self, slice: Object) {
        let name = name_of(&slice);
        if self.slices.get(&name) != Some(&slice) {
            self.remove_slice(&name);
            if let Some(owner) = owner(&slice) {
                self.slices_of.entry(owner.clone()).or_default().insert(name.1.clone());
                self.touched.insert(owner);
            }
            self.slices.insert(name, slice);
        }
    }

    /// Takes in that an EndpointSlice is gone.
    pub fn remove_slice(&mut self, name: &Name) {
        let Some(owner) = self.slices.remove(name).and_then(|slice| owner(&slice)) else { return };
        if let Some(slices) = self.slices_of.get_mut(&owner) {
            slices.remove(&name.1);
            if slices.is_empty() {
                self.slices_of.remove(&owner);
            }
        }
        self.touched.insert(owner);
    }

    /// Takes in all EndpointSlices there are.
    pub fn set_slices(&mut self, slices: Vec<Object>) {
        let stay: BTreeSet<Name> = slices.iter().map(name_of).collect();
        let gone: Vec<Name> =
            self.slices.keys().filter(|name| !stay.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_slice(name));
        slices.into_iter().for_each(|slice| self.set_slice(slice));
    }

    /// Takes in what pods claim: ports of the board. Services come before them.
    pub fn set_pods(&mut self, pods: BTreeMap<Front, Route>) {
        let differ = |one: &BTreeMap<Front, Route>, other: &BTreeMap<Front, Route>| {
            let fronts = one.iter().filter(|(front, route)| other.get(front) != Some(route));
            fronts.map(|(front, _)| *front).collect::<Vec<_>>()
        };
        self.fronts.extend(differ(&self.pods, &pods));
        self.fronts.extend(differ(&pods, &self.pods));
        self.pods = pods;
    }

    /// What may differ since this was last asked.
    pub fn patch(&mut self) -> Patch {
        for name in take(&mut self.touched) {
            self.renew(&name);
        }
        for front in take(&mut self.fronts) {
            self.settle(front);
        }
        take(&mut self.patch)
    }

    /// The whole, as of the last [`Live::patch`].
    pub fn tables(&self) -> Tables {
        let mut tables = Tables::default();
        for front in self.claims.keys().chain(self.pods.keys()) {
            let Some((route, sources)) = self.claimed(front) else { continue };
            tables.routes.insert(*front, route);
            tables.allowed.extend(sources.map(|sources| (*front, sources)));
        }
        for (front, clashes) in &self.clashes {
            let named = clashes.iter().cloned();
            tables.clashes.extend(named.map(|(holder, other)| (*front, holder, other)));
        }
        tables.addresses = self.holders.keys().copied().collect();
        tables.health = self.health();
        tables
    }

    /// See [`Tables::health`].
    pub fn health(&self) -> BTreeMap<u16, HealthCheck> {
        let first = |(port, ranks): (&u16, &Vec<Rank>)| {
            let part = self.parts.get(&ranks.first()?.name)?;
            Some((*port, part.tables.health.get(port)?.clone()))
        };
        self.health.iter().filter_map(first).collect()
    }

    /// Which board announces each address of the LAN that Services have; nobody is an empty name.
    pub fn announced(&self) -> BTreeMap<Ipv4Addr, String> {
        let holders = self.holders.iter();
        holders.filter_map(|(ip, by)| Some((*ip, by.values().next_back()?.clone()))).collect()
    }

    /// Makes one Service's part anew.
    fn renew(&mut self, name: &Name) {
        let new = self.part(name);
        let old = self.parts.remove(name).unwrap_or_default();
        let ranked = |part: &Part| Rank { created: part.created.clone(), name: name.clone() };
        let (before, after) = (ranked(&old), ranked(&new));
        for front in old.tables.routes.keys() {
            leave(&mut self.claims, front, &before);
        }
        for front in new.tables.routes.keys() {
            enter(&mut self.claims, *front, &after);
        }
        self.fronts.extend(old.tables.routes.keys().chain(new.tables.routes.keys()));
        let checked = !new.tables.health.is_empty();
        self.patch.health |= old.tables.health != new.tables.health || checked && before != after;
        for port in old.tables.health.keys() {
            leave(&mut self.health, port, &before);
        }
        for port in new.tables.health.keys() {
            enter(&mut self.health, *port, &after);
        }
        if old.announced != new.announced {
            self.patch.announced = true;
            self.hand_over(name, &old.announced, &new.announced);
        }
        if new.tables != Tables::default() {
            self.parts.insert(name.clone(), new);
        }
    }

    fn part(&self, name: &Name) -> Part {
        let Some(service) = self.services.get(name) else { return Part::default() };
        let slices = self.slices_of.get(name).into_iter().flatten();
        let slices = slices.filter_map(|slice| self.slices.get(&(name.0.clone(), slice.clone())));
        let mut tables = Tables::gather([service], slices, &self.node);
        if !tables.routes.is_empty() && !self.ranges.is_empty() {
            tables.keep_out(&self.ranges, &lens::cluster_ips(&service["spec"]));
        }
        Part {
            created: meta::creation_timestamp(service).to_owned(),
            tables,
            announced: announced([service]),
        }
    }

    /// Writes down whose addresses are.
    fn hand_over(
        &mut self,
        name: &Name,
        old: &BTreeMap<Ipv4Addr, String>,
        new: &BTreeMap<Ipv4Addr, String>,
    ) {
        for ip in old.keys() {
            if let Some(holders) = self.holders.get_mut(ip) {
                holders.remove(name);
                if holders.is_empty() {
                    self.holders.remove(ip);
                }
            }
        }
        for (ip, board) in new {
            self.holders.entry(*ip).or_default().insert(name.clone(), board.clone());
        }
        let ips = old.keys().chain(new.keys());
        self.patch.addresses.extend(ips.map(|ip| (*ip, self.holders.contains_key(ip))));
    }

    /// Who has a front now.
    fn claimed(&self, front: &Front) -> Option<Claimed> {
        let Some(ranks) = self.claims.get(front) else {
            return Some((self.pods.get(front)?.clone(), None));
        };
        let tables = &self.parts.get(&ranks.first()?.name)?.tables;
        Some((tables.routes.get(front)?.clone(), tables.allowed.get(front).cloned()))
    }

    /// Finds who has a front, and who doesn't get it.
    fn settle(&mut self, front: Front) {
        let now = self.claimed(&front);
        let mut clashes = BTreeSet::new();
        if let Some((holder, _)) = &now {
            let ranks = self.claims.get(&front).into_iter().flatten();
            for part in ranks.filter_map(|rank| self.parts.get(&rank.name)) {
                let first = part.tables.routes.get(&front).map(|route| &route.name);
                let own = part.tables.clashes.iter().filter(|clash| clash.0 == front);
                let names = first.into_iter().chain(own.map(|(_, _, other)| other));
                let losers = names.filter(|name| **name != holder.name);
                clashes.extend(losers.map(|loser| (holder.name.clone(), loser.clone())));
            }
        }
        let known = self.clashes.remove(&front).unwrap_or_default();
        for (holder, other) in clashes.difference(&known).cloned() {
            self.patch.clashes.push((front, holder, other));
        }
        if !clashes.is_empty() {
            self.clashes.insert(front, clashes);
        }
        self.patch.fronts.insert(front, now);
    }
}

/// The Service that a slice is of.
fn owner(slice: &Object) -> Option<Name> {
    let service = meta::label(slice, lens::SERVICE_NAME)?;
    Some((meta::namespace(slice).to_owned(), service.to_owned()))
}

fn enter<K: Ord>(claims: &mut BTreeMap<K, Vec<Rank>>, claim: K, rank: &Rank) {
    let ranks = claims.entry(claim).or_default();
    let at = ranks.binary_search(rank).unwrap_or_else(|at| at);
    ranks.insert(at, rank.clone());
}

fn leave<K: Ord>(claims: &mut BTreeMap<K, Vec<Rank>>, claim: &K, rank: &Rank) {
    let Some(ranks) = claims.get_mut(claim) else { return };
    ranks.retain(|other| other != rank);
    if ranks.is_empty() {
        claims.remove(claim);
    }
}
