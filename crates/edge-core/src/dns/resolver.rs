//! `resolv.conf` as the kubelet writes it for a pod (`pkg/kubelet/network/dns`): by `dnsPolicy`,
//! with `dnsConfig` merged in, and within what resolver libraries read.

use edge_api::k8s::api::core::v1::{PodDNSConfig, PodSpec};

/// Servers, search domains and their characters that are kept, as Kubernetes has it.
const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARS: usize = 2048;

/// How names are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Whom to ask, in this order.
    pub nameservers: Vec<String>,
    /// What is put behind names, in this order.
    pub searches: Vec<String>,
    /// `ndots:5` and the like.
    pub options: Vec<String>,
}

/// The cluster's DNS server and domain.
#[derive(Debug, Clone)]
pub struct ClusterDns {
    /// Its address.
    pub server: String,
    /// `cluster.local`
    pub domain: String,
}

impl Resolver {
    /// Reads a `resolv.conf`; of several `search` lines the last one counts, as for resolvers.
    pub fn parse(text: &str) -> Resolver {
        let mut out = Resolver::default();
        for line in text.lines() {
            let line = line.trim_start();
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            let rest = words.take_while(|word| !word.starts_with(['#', ';'])).map(str::to_owned);
            match key {
                "nameserver" => out.nameservers.extend(rest.take(1)),
                "search" | "domain" => out.searches = rest.map(without_dot).collect(),
                "options" => out.options = rest.collect(),
                _ => {}
            }
        }
        out
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.nameservers {
            out += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            out += &format!("options {}\n", self.options.join(" "));
        }
        out
    }

    fn merge(&mut self, config: &PodDNSConfig) {
        let add = |list: &mut Vec<String>, more: Option<&Vec<String>>| {
            list.extend(more.into_iter().flatten().cloned());
            once(list);
        };
        add(&mut self.nameservers, config.nameservers.as_ref());
        add(&mut self.searches, config.searches.as_ref());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            };
            self.options.retain(|old| old.split(':').next() != Some(name));
            self.options.push(text);
        }
    }

    /// Leaves out what resolvers don't read; gives sentences about that.
    fn limit(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        if self.nameservers.len() > NAMESERVERS {
            self.nameservers.truncate(NAMESERVERS);
            told.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, \
                 the applied nameserver line is: {}",
                self.nameservers.join(" ")
            ));
        }
        let mut length = 0;
        let fits = self.searches.iter().take(SEARCHES).take_while(|search| {
            length += search.len() + 1;
            length - 1 <= SEARCH_CHARS
        });
        let fits = fits.count();
        if fits < self.searches.len() {
            self.searches.truncate(fits);
            told.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, \
                 the applied search line is: {}",
                self.searches.join(" ")
            ));
        }
        told
    }
}

fn without_dot(name: String) -> String {
    match name.strip_suffix('.') {
        Some(short) if !short.is_empty() => short.to_owned(),
        _ => name,
    }
}

fn once(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// How a pod looks names up, and sentences about what had to be left out. `board` is the board's
/// own way.
pub fn pod_resolver(
    spec: &PodSpec,
    namespace: &str,
    cluster: Option<&ClusterDns>,
    board: Resolver,
) -> (Resolver, Vec<String>) {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let on_board = spec.host_network.unwrap_or(false);
    let first = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !on_board);
    let mut out = match (policy, cluster) {
        ("None", _) => Resolver::default(),
        (_, Some(dns)) if first => {
            let domain = &dns.domain;
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}")];
            let mut searches = own.to_vec();
            searches.push(domain.clone());
            searches.extend(board.searches);
            once(&mut searches);
            Resolver {
                nameservers: vec![dns.server.clone()],
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ => board,
    };
    if let Some(config) = &spec.dns_config {
        out.merge(config);
    }
    let told = out.limit();
    (out, told)
}
