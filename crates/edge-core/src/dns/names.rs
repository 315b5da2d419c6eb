//! What Services and their endpoints are called: the few fields of the objects that names are
//! made of, changed object by object.

use core::net::IpAddr;
use std::collections::BTreeMap;

use edge_api::{Object, meta};
use serde_json::Value;

use super::Name;

/// Slices of a Service carry its name under this label.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port that may have a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: Box<str>,
    /// In small letters.
    pub(super) protocol: Box<str>,
    pub(super) number: u16,
}

/// What a Service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// Its own addresses.
    Addresses(Vec<IpAddr>),
    /// Those of its endpoints.
    Endpoints,
    /// A name elsewhere.
    Elsewhere(Name),
    /// Nothing that a name can lead to.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) lead: Lead,
    pub(super) ports: Vec<Port>,
    /// Endpoints count before they are ready.
    pub(super) unready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) hostname: Option<Box<str>>,
    pub(super) ready: bool,
}

impl Endpoint {
    /// What it is called below its Service: its own name, or its address with dashes.
    pub(super) fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.to_string(),
            None => self.address.to_string().replace(['.', ':'], "-"),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ports: Vec<Port>,
}

/// A Service and what stands behind it, as far as either is known.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) service: Option<Service>,
    slices: BTreeMap<Box<str>, Slice>,
}

impl Entry {
    /// The endpoints that names lead to, each with its slice's ports.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, &[Port])> {
        let unready = self.service.as_ref().is_some_and(|service| service.unready);
        let all = self.slices.values();
        let all = all.flat_map(|slice| slice.endpoints.iter().map(|e| (e, &slice.ports[..])));
        all.filter(move |(endpoint, _)| endpoint.ready || unready)
    }
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);

/// All names of the cluster.
#[derive(Debug, Default)]
pub struct Names {
    spaces: BTreeMap<Box<str>, BTreeMap<Box<str>, Entry>>,
    /// Which Service each slice, by namespace and name, is of.
    slice_of: BTreeMap<Key, Box<str>>,
    /// Services at an address, their own or an endpoint's, and how often.
    at: BTreeMap<IpAddr, BTreeMap<Key, u32>>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn ports(object: &Value) -> Vec<Port> {
    let read = |port: &Value| {
        let protocol = Some(text(port, "protocol")).filter(|p| !p.is_empty()).unwrap_or("TCP");
        Some(Port {
            name: text(port, "name").into(),
            protocol: protocol.to_ascii_lowercase().into(),
            number: port["port"].as_u64().and_then(|port| u16::try_from(port).ok())?,
        })
    };
    items(object, "ports").filter_map(read).collect()
}

fn read_service(object: &Object) -> Service {
    let spec = &object["spec"];
    let lead = if text(spec, "type") == "ExternalName" {
        let target = text(spec, "externalName");
        // An address is no name, so nothing can lead there.
        let name = Name::new(target).filter(|_| target.parse::<IpAddr>().is_err());
        name.filter(|name| name.wire().len() > 1).map_or(Lead::Nowhere, Lead::Elsewhere)
    } else if text(spec, "clusterIP") == "None" {
        Lead::Endpoints
    } else {
        let all = items(spec, "clusterIPs").filter_map(Value::as_str);
        let mut all: Vec<IpAddr> = all.filter_map(|ip| ip.parse().ok()).collect();
        let first = text(spec, "clusterIP").parse().ok().filter(|ip| !all.contains(ip));
        all.extend(first);
        Lead::Addresses(all)
    };
    let unready = spec["publishNotReadyAddresses"] == true;
    Service { lead, ports: ports(spec), unready }
}

fn read_slice(object: &Object) -> Slice {
    let read = |endpoint: &Value| {
        // Kubernetes: all addresses of an endpoint are the same one; the first is used.
        let address = items(endpoint, "addresses").next()?.as_str()?.parse().ok()?;
        let hostname = Some(text(endpoint, "hostname")).filter(|name| !name.is_empty());
        Some(Endpoint {
            address,
            hostname: hostname.map(|name| name.to_ascii_lowercase().into()),
            ready: endpoint["conditions"]["ready"].as_bool().unwrap_or(true),
        })
    };
    let endpoints = items(object, "endpoints").filter_map(read).collect();
    Slice { endpoints, ports: ports(object) }
}

impl Names {
    /// A Service as it is now.
    pub fn put_service(&mut self, object: &Object) {
        let service = read_service(object);
        self.set_service(meta::namespace(object), meta::name(object), Some(service));
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, object: &Object) {
        self.set_service(meta::namespace(object), meta::name(object), None);
    }

    /// All Services, instead of those known.
    pub fn restart_services(&mut self, objects: &[Object]) {
        let mut known: Vec<Key> = Vec::new();
        for (space, entries) in &self.spaces {
            known.extend(entries.keys().map(|name| (space.clone(), name.clone())));
        }
        for (space, name) in known {
            self.set_service(&space, &name, None);
        }
        objects.iter().for_each(|object| self.put_service(object));
    }

    /// A slice as it is now.
    pub fn put_slice(&mut self, object: &Object) {
        let (space, slice) = (meta::namespace(object), meta::name(object));
        self.forget_slice(space, slice);
        let Some(service) = meta::label(object, SERVICE_NAME) else { return };
        let read = read_slice(object);
        let key: Key = (space.into(), service.into());
        for endpoint in &read.endpoints {
            self.count(endpoint.address, &key, true);
        }
        self.entry(space, service).slices.insert(slice.into(), read);
        self.slice_of.insert((space.into(), slice.into()), service.into());
    }

    /// A slice is gone.
    pub fn remove_slice(&mut self, object: &Object) {
        self.forget_slice(meta::namespace(object), meta::name(object));
    }

    /// All slices, instead of those known.
    pub fn restart_slices(&mut self, objects: &[Object]) {
        let known: Vec<Key> = self.slice_of.keys().cloned().collect();
        for (space, slice) in known {
            self.forget_slice(&space, &slice);
        }
        objects.iter().for_each(|object| self.put_slice(object));
    }

    /// True when the namespace has names.
    pub(super) fn has_space(&self, space: &str) -> bool {
        let known = self.spaces.get(space);
        known.is_some_and(|entries| entries.values().any(|entry| entry.service.is_some()))
    }

    /// A Service and what stands behind it.
    pub(super) fn service(&self, space: &str, name: &str) -> Option<(&Entry, &Service)> {
        let entry = self.spaces.get(space)?.get(name)?;
        Some((entry, entry.service.as_ref()?))
    }

    /// The Services at an address, by namespace and name.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = (&str, &str)> {
        let found = self.at.get(&address);
        found.into_iter().flat_map(|all| all.keys()).map(|(space, name)| (&**space, &**name))
    }

    fn entry(&mut self, space: &str, name: &str) -> &mut Entry {
        self.spaces.entry(space.into()).or_default().entry(name.into()).or_default()
    }

    fn set_service(&mut self, space: &str, name: &str, service: Option<Service>) {
        let key: Key = (space.into(), name.into());
        let addresses = |service: &Option<Service>| match service {
            Some(Service { lead: Lead::Addresses(all), .. }) => all.clone(),
            _ => Vec::new(),
        };
        let new = addresses(&service);
        let old = std::mem::replace(&mut self.entry(space, name).service, service);
        for address in addresses(&old) {
            self.count(address, &key, false);
        }
        for address in new {
            self.count(address, &key, true);
        }
        self.sweep(space, name);
    }

    fn forget_slice(&mut self, space: &str, slice: &str) {
        let Some(service) = self.slice_of.remove(&(space.into(), slice.into())) else { return };
        let gone = self.entry(space, &service).slices.remove(slice).unwrap_or_default();
        let key: Key = (space.into(), service);
        for endpoint in gone.endpoints {
            self.count(endpoint.address, &key, false);
        }
        self.sweep(space, &key.1);
    }

    /// Nothing is left of what nobody names any more.
    fn sweep(&mut self, space: &str, name: &str) {
        let Some(entries) = self.spaces.get_mut(space) else { return };
        if entries.get(name).is_some_and(|e| e.service.is_none() && e.slices.is_empty()) {
            entries.remove(name);
        }
        if entries.is_empty() {
            self.spaces.remove(space);
        }
    }

    fn count(&mut self, address: IpAddr, key: &Key, more: bool) {
        let all = self.at.entry(address).or_default();
        let uses = all.entry(key.clone()).or_default();
        *uses = if more { uses.saturating_add(1) } else { uses.saturating_sub(1) };
        if *uses == 0 {
            all.remove(key);
        }
        if all.is_empty() {
            self.at.remove(&address);
        }
    }

    /// True when nothing is known, and nothing kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.spaces.is_empty() && self.slice_of.is_empty() && self.at.is_empty()
    }
}
