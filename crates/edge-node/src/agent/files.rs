//! The files under `/etc` that every container of a pod gets: `hosts`, `hostname`, `resolv.conf`.

use std::fs;
use std::path::Path;

use edge_core::dns::{ClusterDns, pod_resolver};
use edge_core::pod::Desired;

use crate::dns::Files;
use crate::seams::Mount;

/// Host names are cut here, as Kubernetes does.
const MAX_HOSTNAME: usize = 63;

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

/// Writes the pod's files into `dir` and says where they are to be mounted, and in sentences what
/// had to be left out of them.
pub(crate) fn write(
    dir: &Path,
    pod: &Desired,
    ips: &[String],
    cluster_domain: &str,
    dns: Option<&ClusterDns>,
    resolv: &Files,
) -> Result<(Vec<Mount>, Vec<String>), String> {
    let own_name = nix::unistd::gethostname().unwrap_or_default();
    let name =
        if pod.host_network() { own_name.to_string_lossy().into_owned() } else { hostname(pod) };
    let board = resolv.read();
    let (resolver, told) = pod_resolver(pod.spec(), pod.namespace(), dns, board);
    let files = [
        ("hosts", hosts(pod, ips, cluster_domain)),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", resolver.text()),
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
    Ok((mounts, told))
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
    fn hostnames_are_cut() {
        let mut long = pod(json!({}));
        long.pod.metadata.name = Some(format!("{}-x", "a".repeat(62)));
        assert_eq!(hostname(&long), "a".repeat(62));
        assert_eq!(hostname(&pod(json!({ "hostname": "h" }))), "h");
    }
}
