//! Answers to questions about the cluster's own names, as the DNS specification of Kubernetes
//! (schema 1.1.0) has them, and CoreDNS' habits where it says nothing.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use super::names::{Endpoint, Entry, Lead, Port, Service};
use super::reply::code;
use super::{CLASS_IN, Data, Name, Names, Query, Record, Reply, kind};

/// Seconds for which an answer counts, also a "no".
const TTL: u32 = 5;
/// The version of the specification that this keeps to, and for how many seconds it does.
const SCHEMA: &str = "1.1.0";
const SCHEMA_TTL: u32 = 28_800;
/// Seconds for which "ask for something in particular" counts.
const ANY_TTL: u32 = 3600;
/// Names that lead to names within the cluster are followed so often.
const STEPS: usize = 8;

/// What a server answers for.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The cluster's domain, in small letters.
    pub domain: Name,
    /// The server's own address.
    pub server: Ipv4Addr,
    /// The range of Services' addresses: the first, and the prefix length.
    pub services: (Ipv4Addr, u8),
    /// The range of pods' addresses.
    pub pods: (Ipv4Addr, u8),
}

/// What is to be done about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This is the answer.
    Reply(Reply),
    /// Others know.
    Forward,
    /// These are the first records of the answer; others know what `target` is.
    Follow {
        /// The names that lead there.
        first: Vec<Record>,
        /// The name that others know.
        target: Name,
    },
}

/// Answers a question. `names` are none as long as not all are known; `turn` is another number
/// each time, so that each of several addresses comes first in its turn.
pub fn answer(names: Option<&Names>, zone: &Zone, query: &Query, turn: usize) -> Outcome {
    let refused = Outcome::Reply(Reply { code: code::REFUSED, ..Reply::default() });
    if query.class != CLASS_IN || query.kind == 0 || query.kind == kind::OPT {
        return refused;
    }
    if (kind::QUESTIONS..kind::ANY).contains(&query.kind) {
        return refused;
    }
    let asked = query.name.lower();
    let inner = asked.within(&zone.domain);
    let address = if inner.is_none() { reverse(&asked) } else { None };
    let ours = inner.is_some() || address.is_some_and(|address| zone.has(address));
    let foreign = || match query.kind {
        kind::ANY => Outcome::Reply(anything(query, false)),
        _ if query.recursion => Outcome::Forward,
        _ => refused.clone(),
    };
    let Some(names) = names else {
        let failure = Reply { code: code::FAILURE, ..Reply::default() };
        return if ours { Outcome::Reply(failure) } else { foreign() };
    };
    let seeker = Seeker { names, zone, query, turn };
    match (inner, address) {
        (Some(inner), _) => seeker.within(&inner),
        (None, Some(address)) => match seeker.pointers(address) {
            found if !found.is_empty() => Outcome::Reply(seeker.with(found, kind::PTR)),
            _ if ours => Outcome::Reply(seeker.no_name()),
            _ => foreign(),
        },
        (None, None) => foreign(),
    }
}

impl Zone {
    fn has(&self, address: IpAddr) -> bool {
        inside(self.services, address) || inside(self.pods, address)
    }
}

fn inside((base, length): (Ipv4Addr, u8), address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    let shift = 32 - u32::from(length.min(32));
    u32::from(base).checked_shr(shift) == u32::from(address).checked_shr(shift)
}

/// The address whose name is asked for.
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&str> = name.labels().map(str::from_utf8).collect::<Result<_, _>>().ok()?;
    match labels[..] {
        [d, c, b, a, "in-addr", "arpa"] => {
            Some(IpAddr::V4(format!("{a}.{b}.{c}.{d}").parse().ok()?))
        }
        [.., "ip6", "arpa"] if labels.len() == 34 => {
            let digit = |label: &&str| u128::from_str_radix(label, 16).ok().filter(|d| *d < 16);
            let digits: Option<Vec<u128>> = labels[..32].iter().map(digit).collect();
            let bits = digits?.into_iter().rev().fold(0, |bits, digit| (bits << 4) | digit);
            Some(IpAddr::V6(Ipv6Addr::from(bits)))
        }
        _ => None,
    }
}

fn anything(query: &Query, authoritative: bool) -> Reply {
    let record = Record { name: query.name.clone(), ttl: ANY_TTL, data: Data::Hinfo };
    Reply { authoritative, answers: vec![record], ..Reply::default() }
}

fn address(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

struct Seeker<'a> {
    names: &'a Names,
    zone: &'a Zone,
    query: &'a Query,
    turn: usize,
}

/// What a name has.
enum Found {
    /// There is no such name.
    Missing,
    /// These records, of whatever type; none for a name that only has names below it.
    Has(Vec<Data>),
    /// Another name.
    Alias(Name),
}

impl Seeker<'_> {
    fn record(&self, data: Data) -> Record {
        let ttl = if matches!(data, Data::Txt(_)) { SCHEMA_TTL } else { TTL };
        Record { name: self.query.name.clone(), ttl, data }
    }

    fn soa(&self) -> Data {
        let name = |first: &[u8]| self.name(&[first]);
        let server = self.name(&[b"ns", b"dns"]);
        Data::Soa { server, contact: name(b"hostmaster"), negative: TTL }
    }

    /// A name in the zone; one that would be too long is the zone's own.
    fn name(&self, labels: &[&[u8]]) -> Name {
        let all = labels.iter().copied().chain(self.zone.domain.labels());
        Name::from_labels(all).unwrap_or_else(|| self.zone.domain.clone())
    }

    fn no(&self, code: u16) -> Reply {
        let record = Record { name: self.zone.domain.clone(), ttl: TTL, data: self.soa() };
        Reply { code, authoritative: true, authority: vec![record], ..Reply::default() }
    }

    fn no_name(&self) -> Reply {
        self.no(code::NO_NAME)
    }

    /// The records of the type that was asked for, or that there is none.
    fn with(&self, found: Vec<Data>, default: u16) -> Reply {
        if self.query.kind == kind::ANY {
            return anything(self.query, true);
        }
        let wanted = self.query.kind;
        let mut seen = BTreeSet::new();
        let answers: Vec<Record> = found
            .into_iter()
            .filter(|data| data.kind() == wanted && seen.insert(data.clone()))
            .map(|data| self.record(data))
            .collect();
        let reply = Reply { authoritative: true, answers, ..Reply::default() };
        match reply.answers.is_empty() {
            true => self.no(code::NONE),
            false if default == kind::PTR => reply,
            false => self.complete(reply),
        }
    }

    /// Turns addresses round, and adds those of the hosts that are named.
    fn complete(&self, mut reply: Reply) -> Reply {
        let count = reply.answers.len();
        if matches!(self.query.kind, kind::A | kind::AAAA) {
            reply.answers.rotate_left(self.turn % count);
        }
        let mut told = BTreeSet::new();
        for record in &reply.answers {
            let Data::Srv { target, .. } = &record.data else { continue };
            if !told.insert(target.clone()) {
                continue;
            }
            let inner = target.within(&self.zone.domain).unwrap_or_default();
            if let Found::Has(all) = self.find(&inner) {
                let all = all.into_iter().filter(|d| matches!(d, Data::A(_) | Data::Aaaa(_)));
                let add = |data| Record { name: target.clone(), ttl: TTL, data };
                reply.additional.extend(all.map(add));
            }
        }
        reply
    }

    fn within(&self, labels: &[&[u8]]) -> Outcome {
        let mut first: Vec<Record> = Vec::new();
        let mut found = self.find(labels);
        let mut at = self.query.name.clone();
        while let Found::Alias(target) = found {
            if self.query.kind == kind::ANY {
                return Outcome::Reply(anything(self.query, true));
            }
            let data = Data::Cname(target.clone());
            first.push(Record { name: at, ttl: TTL, data });
            let again = first.iter().any(|record| record.name.lower() == target.lower());
            if self.query.kind == kind::CNAME || again || first.len() > STEPS {
                let code = if again { code::FAILURE } else { code::NONE };
                return Outcome::Reply(Reply {
                    code,
                    authoritative: true,
                    answers: first,
                    ..Reply::default()
                });
            }
            let lower = target.lower();
            let Some(inner) = lower.within(&self.zone.domain) else {
                return Outcome::Follow { first, target };
            };
            found = self.find(&inner);
            at = target;
        }
        let mut reply = match found {
            Found::Has(all) => self.with(all, 0),
            _ => self.no_name(),
        };
        for record in &mut reply.answers {
            record.name = at.clone();
        }
        first.append(&mut reply.answers);
        reply.answers = first;
        Outcome::Reply(reply)
    }

    /// What a name of the zone has, by the labels before the domain.
    fn find(&self, labels: &[&[u8]]) -> Found {
        let text: Result<Vec<&str>, _> = labels.iter().map(|label| str::from_utf8(label)).collect();
        let Ok(text) = text else { return Found::Missing };
        let known = |space: &str| match self.names.has_space(space) {
            true => Found::Has(Vec::new()),
            false => Found::Missing,
        };
        match text[..] {
            [] => Found::Has(vec![self.soa(), Data::Ns(self.name(&[b"ns", b"dns"]))]),
            ["dns-version"] => Found::Has(vec![Data::Txt(SCHEMA)]),
            ["dns" | "svc" | "pod"] => Found::Has(Vec::new()),
            ["ns", "dns"] => Found::Has(vec![Data::A(self.zone.server)]),
            [space, "svc" | "pod"] => known(space),
            [ip, space, "pod"] if self.names.has_space(space) => self.pod(ip),
            [.., name, space, "svc"] => match self.names.service(space, name) {
                Some(service) => self.service(service, &text[..text.len() - 3], (name, space)),
                None => Found::Missing,
            },
            _ => Found::Missing,
        }
    }

    /// `10-42-0-7`, for every address that a pod may have: kept for old programs.
    fn pod(&self, dashed: &str) -> Found {
        let ip = dashed.replace('-', ".").parse::<Ipv4Addr>().ok();
        match ip.filter(|ip| inside(self.zone.pods, IpAddr::V4(*ip))) {
            Some(ip) => Found::Has(vec![Data::A(ip)]),
            None => Found::Missing,
        }
    }

    fn service(&self, of: (&Entry, &Service), below: &[&str], key: (&str, &str)) -> Found {
        let (entry, service) = of;
        let any = |_: &Port| true;
        match (&service.lead, below) {
            (Lead::Elsewhere(target), []) => Found::Alias(target.clone()),
            (Lead::Elsewhere(_) | Lead::Nowhere, _) => Found::Missing,
            (Lead::Addresses(all), []) => {
                let mut found: Vec<Data> = all.iter().map(|ip| address(*ip)).collect();
                found.extend(self.own_ports(service, key, any));
                Found::Has(found)
            }
            (Lead::Endpoints, []) => self.endpoints(entry, key, |_| true, any, true),
            (_, [port, protocol]) => {
                let names = (port.strip_prefix('_'), protocol.strip_prefix('_'));
                let (Some(port), Some(protocol)) = names else { return Found::Missing };
                let is = |p: &Port| *p.name == *port && *p.protocol == *protocol;
                if service.lead == Lead::Endpoints {
                    return self.endpoints(entry, key, |_| true, is, false);
                }
                let found: Vec<Data> = self.own_ports(service, key, is).collect();
                if found.is_empty() { Found::Missing } else { Found::Has(found) }
            }
            (_, [protocol]) if protocol.starts_with('_') => {
                let is = |port: &Port| Some(&*port.protocol) == protocol.strip_prefix('_');
                let known = service.ports.iter().any(|p| is(p) && !p.name.is_empty());
                if known { Found::Has(Vec::new()) } else { Found::Missing }
            }
            (_, [host]) => self.endpoints(entry, key, |e| e.label() == *host, any, true),
            _ => Found::Missing,
        }
    }

    fn own_ports(
        &self,
        service: &Service,
        (name, space): (&str, &str),
        is: impl Fn(&Port) -> bool,
    ) -> impl Iterator<Item = Data> {
        let target = self.name(&[name.as_bytes(), space.as_bytes(), b"svc"]);
        let wanted: Vec<u16> = service.ports.iter().filter(|p| is(p)).map(|p| p.number).collect();
        let weight = weight(wanted.len());
        wanted.into_iter().map(move |port| Data::Srv { weight, port, target: target.clone() })
    }

    /// What the endpoints have: addresses, if these are wanted, and the ports that are; a name of
    /// which nothing is left is none.
    fn endpoints(
        &self,
        entry: &Entry,
        (name, space): (&str, &str),
        who: impl Fn(&Endpoint) -> bool,
        is: impl Fn(&Port) -> bool,
        addresses: bool,
    ) -> Found {
        let ready: Vec<_> = entry.endpoints().filter(|(e, _)| who(e)).collect();
        let mut found = Vec::new();
        let mut hosts: BTreeSet<(u16, String)> = BTreeSet::new();
        for (endpoint, ports) in ready {
            if addresses {
                found.push(address(endpoint.address));
            }
            if !addresses || self.query.kind == kind::SRV {
                let ports = ports.iter().filter(|port| is(port));
                hosts.extend(ports.map(|port| (port.number, endpoint.label())));
            }
        }
        let weight = weight(hosts.len());
        for (port, host) in hosts {
            let target = self.name(&[host.as_bytes(), name.as_bytes(), space.as_bytes(), b"svc"]);
            found.push(Data::Srv { weight, port, target });
        }
        if found.is_empty() { Found::Missing } else { Found::Has(found) }
    }

    /// The names of an address: its Service, or what its endpoints are called.
    fn pointers(&self, address: IpAddr) -> Vec<Data> {
        let mut found = Vec::new();
        for (space, name) in self.names.at(address) {
            let Some((entry, service)) = self.names.service(space, name) else { continue };
            let below = [name.as_bytes(), space.as_bytes(), b"svc"];
            if matches!(&service.lead, Lead::Addresses(all) if all.contains(&address)) {
                return vec![Data::Ptr(self.name(&below))];
            }
            for (endpoint, _) in entry.endpoints().filter(|(e, _)| e.address == address) {
                let host = endpoint.label();
                let all = std::iter::once(host.as_bytes()).chain(below);
                found.push(Data::Ptr(self.name(&all.collect::<Vec<_>>())));
            }
        }
        found
    }
}

/// Each of so many as likely, out of a hundred.
fn weight(count: usize) -> u16 {
    u16::try_from(100 / count.max(1)).unwrap_or(0).max(1)
}
