//! The ranges of pods' and of Services' addresses, and the DNS domain: a cluster has them for life,
//! since its objects and its boards' certificates hold addresses of them. They are looked at before
//! anything is made, and kept in the data directory, which goes before what is typed later.

use std::net::IpAddr;
use std::path::Path;

use edge_core::podnet::Range;
use edge_node::net::{self, NetError};
use edge_server::pki::{read_if_present, write_atomically};
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, File, Settings, bad};
use crate::join::{self, Saved};

/// Where who founded a cluster keeps its ranges, in the data directory; who joined has them among
/// what the join gave.
const FILE: &str = "ranges.json";

/// Ranges of which a board has no address to give away.
const SPECIAL: [(&str, &str); 4] = [
    ("0.0.0.0/8", "addresses that mean no board"),
    ("127.0.0.0/8", "addresses of the board itself"),
    ("169.254.0.0/16", "addresses of one link"),
    ("224.0.0.0/3", "addresses of many boards at once, and reserved ones"),
];

/// A cluster's ranges, each as `10.42.0.0/16`; empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ranges {
    /// Addresses of pods.
    pub(crate) cluster_cidr: String,
    /// Addresses of Services.
    pub(crate) service_cidr: String,
    /// Its DNS domain.
    pub(crate) cluster_domain: String,
}

impl Ranges {
    /// Its settings, by their names.
    fn named(&self) -> [(&'static str, &String); 3] {
        [
            ("cluster-cidr", &self.cluster_cidr),
            ("service-cidr", &self.service_cidr),
            ("cluster-domain", &self.cluster_domain),
        ]
    }

    /// What was asked for; empty where nobody did.
    pub(super) fn asked(settings: &Settings, file: &File) -> Ranges {
        let one = |typed: &Option<String>, filed: &Option<String>| {
            typed.clone().or(filed.clone()).unwrap_or_default()
        };
        Ranges {
            cluster_cidr: one(&settings.cluster_cidr, &file.cluster_cidr),
            service_cidr: one(&settings.service_cidr, &file.service_cidr),
            cluster_domain: one(&settings.cluster_domain, &file.cluster_domain),
        }
    }

    /// Whether a cluster has what was asked for.
    ///
    /// # Errors
    /// Names the setting, what it says and what the cluster has.
    pub(crate) fn are_of(&self, cluster: &Ranges, whose: &str) -> Result<(), ConfigError> {
        for ((key, asked), (_, had)) in self.named().into_iter().zip(cluster.named()) {
            if !asked.is_empty() && !had.is_empty() && asked != had {
                return Err(ConfigError(format!(
                    "{key}: {whose} a cluster that has {had}, not {asked}, and keeps it: leave \
                     --{key} out, or choose another --data-dir"
                )));
            }
        }
        Ok(())
    }

    /// Those of the cluster whose data directory this is, else those asked for, else the usual
    /// ones.
    pub(super) fn settle(asked: &Ranges, data_dir: &Path) -> Result<Ranges, ConfigError> {
        let had = remembered(data_dir).unwrap_or_default();
        asked.are_of(&had, &format!("{} belongs to", data_dir.display()))?;
        let one = |had: String, asked: &String, usual: &str| match (had.is_empty(), asked) {
            (false, _) => had,
            (true, asked) if asked.is_empty() => usual.to_owned(),
            (true, asked) => asked.clone(),
        };
        let known = had.named().into_iter().all(|(_, value)| !value.is_empty());
        let ranges = Ranges {
            cluster_cidr: one(had.cluster_cidr, &asked.cluster_cidr, "10.42.0.0/16"),
            service_cidr: one(had.service_cidr, &asked.service_cidr, "10.43.0.0/16"),
            cluster_domain: one(had.cluster_domain, &asked.cluster_domain, "cluster.local"),
        };
        // A cluster that is there already was founded under the rules of its day.
        if !known && !data_dir.join("store").exists() {
            ranges.check()?;
        }
        Ok(ranges)
    }

    /// Whether a cluster can be founded with them.
    fn check(&self) -> Result<(), ConfigError> {
        let pods = range("cluster-cidr", &self.cluster_cidr)?;
        let services = range("service-cidr", &self.service_cidr)?;
        if services.overlaps(&pods) {
            let why = format!("service-cidr: {services} overlaps cluster-cidr {pods}");
            return Err(ConfigError(format!("{why}; choose another")));
        }
        let domain = &self.cluster_domain;
        if !edge_api::names::dns1123_subdomain(domain).is_empty() {
            return Err(bad("cluster-domain", domain, "a DNS name such as cluster.local"));
        }
        Ok(())
    }
}

fn range(key: &str, text: &str) -> Result<Range, ConfigError> {
    let range = Range::parse(text).filter(|range| (8..=28).contains(&range.length()));
    let want = "an IPv4 CIDR from /8 to /28 without bits behind its prefix, such as 10.43.0.0/16";
    let range = range.ok_or_else(|| bad(key, text, want))?;
    for (special, what) in SPECIAL {
        if Range::parse(special).is_some_and(|special| special.overlaps(&range)) {
            let why = format!("{key}: {range} overlaps {special}, {what}");
            return Err(ConfigError(format!("{why}; choose another, such as 10.43.0.0/16")));
        }
    }
    Ok(range)
}

/// What the cluster has whose data directory this is.
fn remembered(data_dir: &Path) -> Option<Ranges> {
    Saved::ranges(data_dir).or_else(|| {
        let text = read_if_present(&data_dir.join(FILE)).ok().flatten()?;
        serde_json::from_str(&text).ok()
    })
}

/// Keeps the ranges of a cluster that was founded here.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn remember(config: &Config) -> std::io::Result<()> {
    let ranges = &config.ranges;
    if remembered(&config.data_dir).as_ref() == Some(ranges) {
        return Ok(());
    }
    let path = config.data_dir.join(FILE);
    let text = serde_json::to_string_pretty(ranges).map_err(std::io::Error::other)?;
    write_atomically(&path, format!("{text}\n").as_bytes(), 0o644)
        .map_err(|e| std::io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}

/// Whether a server that is to found a cluster can have these ranges on its network, also when it
/// is to run no pods: other boards will, and everybody reaches them from there.
///
/// # Errors
/// Names the setting and what it meets.
pub(crate) fn fit(config: &Config) -> Result<(), ConfigError> {
    let joins = !config.join.is_empty() || join::joined(&config.data_dir);
    if joins || config.data_dir.join("store").exists() {
        return Ok(());
    }
    let Ranges { cluster_cidr, service_cidr, .. } = &config.ranges;
    is_elsewhere(&config.ranges, config.node_ip)?;
    match net::check_ranges(cluster_cidr, service_cidr) {
        Err(error @ NetError::Config { .. }) => Err(ConfigError(error.to_string())),
        // Its agent will say what the kernel has against it.
        Err(error) => {
            tracing::debug!("look at the board's networks: {error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether the board's own address is in neither range.
fn is_elsewhere(ranges: &Ranges, node_ip: IpAddr) -> Result<(), ConfigError> {
    let IpAddr::V4(ip) = node_ip else { return Ok(()) };
    for (key, text) in ranges.named() {
        if Range::parse(text).is_some_and(|range| range.contains(ip)) {
            let why = format!("{key}: {text} contains this board's own address {ip}");
            return Err(ConfigError(format!("{why}; choose another")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: &str, service: &str, domain: &str) -> Ranges {
        let [cluster_cidr, service_cidr, cluster_domain] =
            [cluster, service, domain].map(str::to_owned);
        Ranges { cluster_cidr, service_cidr, cluster_domain }
    }

    fn told(result: Result<Ranges, ConfigError>) -> String {
        result.map(|ranges| format!("{ranges:?}")).unwrap_err().to_string()
    }

    #[test]
    fn ranges_that_no_cluster_can_have_are_refused_by_name() {
        let nowhere = Path::new("/no/such");
        let usual = of("10.42.0.0/16", "10.43.0.0/16", "cluster.local");
        assert_eq!(Ranges::settle(&Ranges::default(), nowhere), Ok(usual));
        for (asked, words) in [
            (of("", "10.44.0.5/16", ""), ["service-cidr: ", "without bits behind its prefix"]),
            (of("10.0.0.0/30", "", ""), ["cluster-cidr: ", "from /8 to /28"]),
            (of("", "fd00::/64", ""), ["service-cidr: ", "an IPv4 CIDR"]),
            (of("", "224.1.0.0/16", ""), ["service-cidr: ", "overlaps 224.0.0.0/3"]),
            (of("", "169.254.0.0/16", ""), ["service-cidr: ", "addresses of one link"]),
            (of("127.0.0.0/8", "", ""), ["cluster-cidr: ", "the board itself"]),
            (of("", "10.42.7.0/24", ""), ["service-cidr: ", "overlaps cluster-cidr 10.42.0.0/16"]),
            (of("10.43.0.0/16", "", ""), ["service-cidr: ", "overlaps cluster-cidr 10.43.0.0/16"]),
            (of("", "", "a b"), ["cluster-domain: ", "a DNS name"]),
        ] {
            let error = told(Ranges::settle(&asked, nowhere));
            assert!(error.starts_with(words[0]) && error.contains(words[1]), "{error}");
        }
        let ranges = of("10.42.0.0/16", "10.43.0.0/16", "");
        let error = is_elsewhere(&ranges, "10.43.5.1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("service-cidr: 10.43.0.0/16 contains this board's own"), "{error}");
        assert!(is_elsewhere(&ranges, "192.0.2.7".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_cluster_keeps_its_ranges() {
        let dir = std::env::temp_dir().join(format!("edged-ranges-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let settings = Settings {
            name: Some("a".into()),
            node_ip: Some("192.0.2.7".into()),
            data_dir: Some(dir.clone()),
            service_cidr: Some("10.44.0.0/16".into()),
            ..Settings::default()
        };
        let config = Config::from_parts(&settings, File::default()).unwrap();
        remember(&config).unwrap();
        // Whoever says nothing gets what it has, in part as well.
        let asked = Ranges::default();
        assert_eq!(Ranges::settle(&asked, &dir), Ok(config.ranges.clone()));
        let asked = of("10.42.0.0/16", "", "");
        assert_eq!(Ranges::settle(&asked, &dir), Ok(config.ranges.clone()));
        let error = told(Ranges::settle(&of("", "10.43.0.0/16", ""), &dir));
        let had = "service-cidr: /";
        let words = "belongs to a cluster that has 10.44.0.0/16, not 10.43.0.0/16";
        assert!(error.starts_with(had) && error.contains(words), "{error}");
        // A file that a power cut left empty says nothing.
        std::fs::write(dir.join(FILE), "").unwrap();
        assert!(Ranges::settle(&of("", "10.45.0.0/16", ""), &dir).is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
