//! The routing table: hosts, paths and certificates, the older Ingress before the newer.

use std::collections::BTreeMap;

use edge_api::{Object, meta};
use serde_json::Value;

use super::backend::{self, Backend, Key, Lists, Stock};
use super::class::{list, says_no, text};
use super::{
    BACKEND_SECONDS, BACKEND_SECONDS_MAX, BACKEND_TIMEOUT, Problem, SSL_REDIRECT, SecretName,
};

/// Where requests for one host and path go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its place in [`Table::backends`]; `None` where the backend can't be had.
    pub backend: Option<usize>,
    /// Whether plain HTTP is sent to HTTPS.
    pub redirect: bool,
    /// Seconds that the backend may be silent.
    pub timeout_seconds: u32,
    /// `namespace/name` of the Ingress.
    pub owner: String,
}

/// The paths of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Site {
    exact: BTreeMap<String, Route>,
    /// Without their trailing slashes: `/` is empty.
    prefix: BTreeMap<String, Route>,
    /// The most elements that a prefix has.
    deepest: usize,
    /// For paths that nobody named.
    rest: Option<Route>,
}

impl Site {
    /// The exact path, or else the longest prefix by elements.
    fn find(&self, path: &str) -> Option<&Route> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let slashes = path.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/');
        let ends = slashes.map(|(at, _)| at).chain([path.len()]).take(self.deepest);
        let longer = ends.filter_map(|end| self.prefix.get(path.get(..end)?));
        longer.last().or_else(|| self.prefix.get(""))
    }
}

/// What was found for a request.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The route.
    pub route: &'a Route,
    /// Its backend; `None` where it can't be had.
    pub backend: Option<&'a Backend>,
}

/// All that a board must know to route requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Hosts by name; the empty one is every host.
    hosts: BTreeMap<String, Site>,
    /// `*.example.com`, by `example.com`.
    wild: BTreeMap<String, Site>,
    default: Option<Route>,
    /// Every Service port that requests go to.
    pub backends: Vec<Backend>,
    /// Certificates by host, by `*.example.com`, or by nothing for all others.
    pub certificates: BTreeMap<String, SecretName>,
    /// What can't be as the Ingresses say.
    pub problems: Vec<Problem>,
}

impl Table {
    /// The table for these Ingresses, which are all ours to serve, from all Services and slices.
    pub fn gather<'a>(
        ingresses: impl IntoIterator<Item = &'a Object>,
        services: impl IntoIterator<Item = &'a Object>,
        slices: impl IntoIterator<Item = &'a Object>,
    ) -> Table {
        let lists = Lists::gather(services, slices);
        Table::look_up(
            ingresses,
            &Stock {
                service: &|namespace, name| lists.service(namespace, name),
                slices: &|namespace, name| lists.slices(namespace, name),
            },
        )
    }

    /// The same by looking up what the Ingresses name: each port of a Service once.
    pub fn look_up<'a>(
        ingresses: impl IntoIterator<Item = &'a Object>,
        stock: &Stock<'_, '_>,
    ) -> Table {
        let mut ingresses: Vec<&Object> = ingresses.into_iter().collect();
        ingresses.sort_by_key(|i| (meta::creation_timestamp(i), meta::namespace(i), meta::name(i)));
        let mut maker = Maker {
            stock,
            table: Table::default(),
            known: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for ingress in ingresses {
            maker.take(ingress);
        }
        maker.table
    }

    /// Where a request goes: `host` in lower case and without its port, `path` without its query.
    /// The host's own paths come before those of its wildcard, and these before those of every
    /// host; then come default backends in the same order.
    pub fn find(&self, host: &str, path: &str) -> Option<Found<'_>> {
        let own = self.hosts.get(host).filter(|_| !host.is_empty());
        let wild = host.split_once('.').and_then(|(_, parent)| self.wild.get(parent));
        let every = self.hosts.get("");
        let sites = || [own, wild, every].into_iter().flatten();
        let route = sites()
            .find_map(|site| site.find(path))
            .or_else(|| sites().find_map(|site| site.rest.as_ref()))
            .or(self.default.as_ref())?;
        Some(Found { route, backend: route.backend.and_then(|at| self.backends.get(at)) })
    }

    fn site(&mut self, host: &str) -> &mut Site {
        match host.strip_prefix("*.") {
            Some(parent) => self.wild.entry(parent.to_owned()).or_default(),
            None => self.hosts.entry(host.to_owned()).or_default(),
        }
    }
}

/// A table that is being made.
struct Maker<'m, 'a, 'b> {
    stock: &'m Stock<'a, 'b>,
    table: Table,
    /// Backends that were looked up: their places, or why there is none.
    known: BTreeMap<Key, Result<usize, (&'static str, String)>>,
    /// Who brought each certificate.
    holders: BTreeMap<String, String>,
}

impl Maker<'_, '_, '_> {
    fn problem(&mut self, ingress: &Object, reason: &'static str, message: String) {
        self.table.problems.push(Problem {
            namespace: meta::namespace(ingress).to_owned(),
            name: meta::name(ingress).to_owned(),
            reason,
            message,
        });
    }

    fn backend(&mut self, ingress: &Object, backend: &Value) -> Option<usize> {
        let key = match backend::key(meta::namespace(ingress), backend) {
            Ok(key) => key,
            Err(words) => {
                self.problem(ingress, "BackendUnsupported", words);
                return None;
            }
        };
        let (stock, table) = (self.stock, &mut self.table);
        let place = self.known.entry(key).or_insert_with_key(|key| {
            stock.backend(key).map(|backend| {
                table.backends.push(backend);
                table.backends.len() - 1
            })
        });
        match place.clone() {
            Ok(place) => Some(place),
            Err((reason, words)) => {
                self.problem(ingress, reason, words);
                None
            }
        }
    }

    fn take(&mut self, ingress: &Object) {
        let spec = &ingress["spec"];
        let owner = format!("{}/{}", meta::namespace(ingress), meta::name(ingress));
        let seconds = meta::annotation(ingress, BACKEND_TIMEOUT);
        let seconds = seconds.and_then(|text| text.trim_end_matches('s').parse().ok());
        let timeout_seconds = seconds.unwrap_or(BACKEND_SECONDS).clamp(1, BACKEND_SECONDS_MAX);
        let wants = !says_no(ingress, SSL_REDIRECT);
        let route = |backend, host: &str| {
            let redirect = wants && secured(spec, host);
            Route { backend, redirect, timeout_seconds, owner: owner.clone() }
        };
        let rules = list(&spec["rules"]);
        for rule in rules {
            let host = text(&rule["host"]);
            // A rule without paths is for all paths, of which the default backend has all.
            for path in list(&rule["http"]["paths"]) {
                let backend = self.backend(ingress, &path["backend"]);
                self.claim(ingress, host, path, route(backend, host));
            }
        }
        if spec["defaultBackend"].is_object() {
            let backend = self.backend(ingress, &spec["defaultBackend"]);
            for rule in rules {
                let host = text(&rule["host"]);
                let made = route(backend, host);
                self.table.site(host).rest.get_or_insert(made);
            }
            match &self.table.default {
                None => self.table.default = Some(route(backend, "")),
                Some(holder) if rules.is_empty() => {
                    let words = format!("Ingress {} is the default backend", holder.owner);
                    self.problem(ingress, "PathTaken", words);
                }
                Some(_) => {}
            }
        }
        self.certificates(ingress, &owner);
    }

    fn claim(&mut self, ingress: &Object, host: &str, path: &Value, route: Route) {
        let (kind, path) = (text(&path["pathType"]), text(&path["path"]));
        let site = self.table.site(host);
        let (paths, key) = match kind {
            "Exact" => (&mut site.exact, path),
            _ => {
                let key = path.trim_end_matches('/');
                site.deepest = site.deepest.max(key.matches('/').count());
                (&mut site.prefix, key)
            }
        };
        match paths.get(key) {
            None => {
                paths.insert(key.to_owned(), route);
            }
            Some(holder) => {
                let by = match holder.owner == route.owner {
                    true => "an earlier line of this Ingress".to_owned(),
                    false => format!("Ingress {}, which is older", holder.owner),
                };
                let host = if host.is_empty() { "every host" } else { host };
                let words = format!("path {path:?} ({kind}) of {host} is taken by {by}");
                self.problem(ingress, "PathTaken", words);
            }
        }
    }

    fn certificates(&mut self, ingress: &Object, owner: &str) {
        let spec = &ingress["spec"];
        for tls in list(&spec["tls"]) {
            let secret = text(&tls["secretName"]);
            if secret.is_empty() {
                continue;
            }
            let secret = (meta::namespace(ingress).to_owned(), secret.to_owned());
            let mut hosts: Vec<&str> = list(&tls["hosts"]).iter().map(text).collect();
            if hosts.is_empty() {
                hosts = list(&spec["rules"]).iter().map(|rule| text(&rule["host"])).collect();
                hosts.push("");
            }
            for host in hosts {
                let held = self.table.certificates.entry(host.to_owned());
                if *held.or_insert_with(|| secret.clone()) == secret {
                    self.holders.entry(host.to_owned()).or_insert_with(|| owner.to_owned());
                } else if !host.is_empty() {
                    let holder = self.holders.get(host).map_or("", String::as_str);
                    let words = format!("the certificate of {host} is that of Ingress {holder}");
                    self.problem(ingress, "CertificateTaken", words);
                }
            }
        }
    }
}

/// Whether the `tls` section of an Ingress is about this host.
fn secured(spec: &Value, host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    list(&spec["tls"]).iter().any(|tls| {
        let hosts = list(&tls["hosts"]);
        hosts.is_empty()
            || hosts.iter().map(text).any(|named| {
                named == host || (parent.is_some() && named.strip_prefix("*.") == parent)
            })
    })
}
