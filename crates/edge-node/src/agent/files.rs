//! The files under `/etc` that every container of a pod gets: `hosts`, `hostname`, `resolv.conf`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use edge_api::k8s::api::core::v1::PodSpec;
use edge_core::pod::Desired;

use crate::seams::Mount;

/// The board's resolver, and where systemd keeps the one behind its local stub.
const RESOLV: &str = "/etc/resolv.conf";
const RESOLV_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";
/// What a resolver library reads at most.
const MAX_NAMESERVERS: usize = 3;
/// Host names are cut here, as Kubernetes does.
const MAX_HOSTNAME: usize = 63;

/// How names are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The cluster's DNS server and domain, once there is one.
#[derive(Debug, Clone)]
pub(crate) struct ClusterDns {
    /// Its address.
    pub(crate) server: IpAddr,
    /// `cluster.local`
    pub(crate) domain: String,
}

/// The pod's host name.
pub(crate) fn hostname(pod: &Desired) -> String {
    let name = pod.spec().hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod.name());
    let cut = name.get(..MAX_HOSTNAME).unwrap_or(name);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's domain below the cluster's, when it names a subdomain.
fn domain(pod: &Desired, cluster: &str) -> Option<String> {
    let subdomain = pod.spec().subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{cluster}", pod.namespace()))
}

fn hosts(pod: &Desired, ips: &[String], cluster: &str) -> String {
    let mut out = if pod.host_network() {
        let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{own}")
    } else {
        let mut out = "# Kubernetes-managed hosts file.\n\
                       127.0.0.1\tlocalhost\n\
                       ::1\tlocalhost ip6-localhost ip6-loopback\n\
                       fe00::0\tip6-localnet\n\
                       fe00::0\tip6-mcastprefix\n\
                       fe00::1\tip6-allnodes\n\
                       fe00::2\tip6-allrouters\n"
            .to_owned();
        let name = hostname(pod);
        for ip in ips {
            match domain(pod, cluster) {
                Some(domain) => out += &format!("{ip}\t{name}.{domain}\t{name}\n"),
                None => out += &format!("{ip}\t{name}\n"),
            }
        }
        out
    };
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out += "\n# Entries added by HostAliases.\n";
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            out += &format!("{}\t{names}\n", alias.ip);
        }
    }
    out
}

fn parse_resolver(text: &str) -> Resolver {
    let mut out = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or_default();
        let rest: Vec<String> = words.map(str::to_owned).collect();
        match key {
            "nameserver" => out.nameservers.extend(rest.into_iter().take(1)),
            "search" | "domain" => out.searches = rest,
            "options" => out.options.extend(rest),
            _ => {}
        }
    }
    out
}

/// The board's own resolver; a pod can't reach a stub that listens on the board's loopback.
fn board_resolver() -> Resolver {
    let read = |path| fs::read_to_string(path).map(|text| parse_resolver(&text));
    let own = read(RESOLV).unwrap_or_default();
    let local = |ip: &String| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if own.nameservers.iter().all(local)
        && let Ok(behind) = read(RESOLV_SYSTEMD)
    {
        return behind;
    }
    own
}

fn resolver(pod: &Desired, cluster: Option<&ClusterDns>) -> Resolver {
    let spec = pod.spec();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let in_cluster =
        policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !pod.host_network());
    let mut out = match (policy, cluster) {
        ("None", _) => Resolver::default(),
        (_, Some(dns)) if in_cluster => {
            let domain = &dns.domain;
            let mut searches = vec![
                format!("{}.svc.{domain}", pod.namespace()),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            searches.extend(board_resolver().searches);
            Resolver {
                nameservers: vec![dns.server.to_string()],
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => board_resolver(),
    };
    merge(&mut out, spec);
    out
}

fn merge(out: &mut Resolver, spec: &PodSpec) {
    let Some(config) = &spec.dns_config else { return };
    let add = |list: &mut Vec<String>, more: Option<&Vec<String>>| {
        for item in more.into_iter().flatten() {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
    };
    add(&mut out.nameservers, config.nameservers.as_ref());
    add(&mut out.searches, config.searches.as_ref());
    for option in config.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        let text = match option.value.as_deref().filter(|v| !v.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        };
        out.options.retain(|old| old.split(':').next() != Some(name));
        out.options.push(text);
    }
}

impl Resolver {
    fn text(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out += &format!("search {}\n", self.searches.join(" "));
        }
        for server in self.nameservers.iter().take(MAX_NAMESERVERS) {
            out += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            out += &format!("options {}\n", self.options.join(" "));
        }
        out
    }
}

/// Writes the pod's files into `dir` and says where they are to be mounted.
pub(crate) fn write(
    dir: &Path,
    pod: &Desired,
    ips: &[String],
    cluster_domain: &str,
    dns: Option<&ClusterDns>,
) -> Result<Vec<Mount>, String> {
    let own_name = nix::unistd::gethostname().unwrap_or_default();
    let name =
        if pod.host_network() { own_name.to_string_lossy().into_owned() } else { hostname(pod) };
    let files = [
        ("hosts", hosts(pod, ips, cluster_domain)),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", resolver(pod, dns).text()),
    ];
    let error = |e: std::io::Error| format!("write files of the pod to {}: {e}", dir.display());
    fs::create_dir_all(dir).map_err(error)?;
    let mut mounts = Vec::new();
    for (name, text) in files {
        let source = dir.join(name);
        // In place: containers that run have the file itself mounted.
        if fs::read_to_string(&source).ok().as_deref() != Some(text.as_str()) {
            fs::write(&source, text).map_err(error)?;
        }
        mounts.push(Mount { source, target: format!("/etc/{name}"), read_only: false });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Desired {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = json!({ "metadata": { "name": "web-1", "namespace": "ns" }, "spec": spec });
        Desired::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let spec = json!({ "subdomain": "db",
            "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }] });
        let text = hosts(&pod(spec), &["10.42.0.5".into()], "cluster.local");
        assert!(text.contains("\n10.42.0.5\tweb-1.db.ns.svc.cluster.local\tweb-1\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }

    #[test]
    fn resolver_by_policy() {
        let dns =
            ClusterDns { server: "10.43.0.10".parse().unwrap(), domain: "cluster.local".into() };
        let first = resolver(&pod(json!({})), Some(&dns)).text();
        assert!(first.starts_with("search ns.svc.cluster.local svc.cluster.local cluster.local"));
        assert!(first.contains("nameserver 10.43.0.10\noptions ndots:5\n"), "{first}");
        let none = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["9.9.9.9"],
            "searches": ["x"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] } });
        assert_eq!(
            resolver(&pod(none), Some(&dns)).text(),
            "search x\nnameserver 9.9.9.9\noptions ndots:2 edns0\n"
        );
        let merged = json!({ "dnsConfig": { "options": [{ "name": "ndots", "value": "1" }] } });
        assert!(resolver(&pod(merged), Some(&dns)).text().ends_with("options ndots:1\n"));
    }

    #[test]
    fn hostnames_are_cut() {
        let mut long = pod(json!({}));
        long.pod.metadata.name = Some(format!("{}-x", "a".repeat(62)));
        assert_eq!(hostname(&long), "a".repeat(62));
        assert_eq!(hostname(&pod(json!({ "hostname": "h" }))), "h");
    }
}
