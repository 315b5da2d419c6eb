//! The board's side of the pod network: the bridge with the gateway's address, the route to
//! Services, forwarding, and the lock that keeps a second edged away.

use super::NetConfig;
use super::error::NetError;
use super::link::{Link, Links, Route, mac_of};
use super::nft::Rules;
use super::range::{Pool, Range};
use super::record::{PAIR_PREFIX, Record, Records, pair_name};
use super::splice::LOST;
use super::wireguard::{Settings, TUNNEL};
use super::{sandbox, sysctl};
use edge_core::podnet::tunnel::mtu as fitting;
use edge_core::proxy::{Elements, Patch, Tables};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Our bridge.
pub(super) const BRIDGE: &str = "edge0";
const LOCK: &str = "net.lock";
/// How the alias of our bridge begins; the run directory follows.
pub(super) const ALIAS: &str = "edged ";
const DEFAULT_MTU: u32 = 1500;
/// Without these no pod reaches anybody.
pub(super) const FORWARDING: [(&str, &str); 2] =
    [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/edge0/forwarding", "1")];

/// Locks, also after a thread died holding it: what it guards is checked at every use.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ranges of the settings, read and checked against each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranges {
    pub(super) pods: Range,
    pub(super) cluster: Range,
    pub(super) services: Range,
    /// The UDP port of tunnels between boards.
    pub(super) tunnels: u16,
}

impl Ranges {
    /// Those of a cluster, of which no part is this board's yet, nor a port.
    pub(super) fn of_cluster(cluster: &str, services: &str) -> Result<Ranges, NetError> {
        let cluster = Range::parse("cluster-cidr", cluster)?;
        let services = Range::parse("service-cidr", services)?;
        Ok(Ranges { pods: cluster, cluster, services, tunnels: 0 })
    }

    fn read(config: &NetConfig) -> Result<Ranges, NetError> {
        let ranges = Ranges {
            pods: Range::parse("pod-cidr", &config.pod_cidr)?,
            cluster: Range::parse("cluster-cidr", &config.cluster_cidr)?,
            services: Range::parse("service-cidr", &config.service_cidr)?,
            tunnels: config.wireguard_port,
        };
        let clash = |setting, value: &Range, reason: String| {
            Err(NetError::Config { setting, value: value.to_string(), reason })
        };
        let inside = ranges.cluster.contains(ranges.pods.base())
            && ranges.pods.length() >= ranges.cluster.length();
        if !inside {
            let reason = format!("must lie within cluster-cidr {}", ranges.cluster);
            return clash("pod-cidr", &ranges.pods, reason);
        }
        if ranges.services.overlaps(&ranges.cluster) {
            let reason = format!("overlaps cluster-cidr {}; choose another", ranges.cluster);
            return clash("service-cidr", &ranges.services, reason);
        }
        if let IpAddr::V4(ip) = config.node_ip {
            for (setting, range) in
                [("service-cidr", &ranges.services), ("cluster-cidr", &ranges.cluster)]
            {
                if range.contains(ip) {
                    let reason = format!("contains this board's own address {ip}; choose another");
                    return clash(setting, range, reason);
                }
            }
        }
        Ok(ranges)
    }
}

/// All that the network of one board is.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) ranges: Ranges,
    /// The largest packet of the board's own link, in bytes.
    pub(super) link_mtu: AtomicU32,
    /// The largest packet of its pods.
    pub(super) mtu: AtomicU32,
    pub(super) node_ip: IpAddr,
    pub(super) tunnel: Settings,
    pub(super) data_dir: PathBuf,
    pub(super) links: Mutex<Links>,
    pub(super) records: Records,
    pub(super) pool: Mutex<Pool>,
    pub(super) pods: Mutex<BTreeMap<String, Record>>,
    /// The Services' rules; none when the kernel can't have any.
    pub(super) rules: Mutex<Option<Rules>>,
    /// True while new pods are kept from everybody until their policies are known.
    pub(super) holds: AtomicBool,
    /// The board's own network namespace.
    pub(super) namespace: File,
    without_nf_tables: bool,
    pub(super) run_dir: PathBuf,
    /// True when there were no rules of ours before.
    pub(super) fresh: bool,
    warnings: Vec<String>,
    _lock: Flock<File>,
}

impl Board {
    /// See [`super::Net::open`].
    pub(super) fn open(config: &NetConfig) -> Result<Board, NetError> {
        let ranges = Ranges::read(config)?;
        let records = Records::open(&config.run_dir)?;
        let run_dir = config
            .run_dir
            .canonicalize()
            .map_err(NetError::file("find the run directory", &config.run_dir))?;
        let taken = || NetError::InUse { run_dir: run_dir.display().to_string() };
        let lock = take_lock(&run_dir)?.ok_or_else(taken)?;
        let own = Path::new("/proc/thread-self/ns/net");
        let namespace = File::open(own).map_err(NetError::file("open", own))?;
        let mut links = Links::open()?;
        super::routes::check_ranges(&mut links, &ranges)?;
        let mtu = own_link_mtu(&mut links, config.node_ip)?.unwrap_or(DEFAULT_MTU);
        let tunnels = config.encrypt_pods || links.find(TUNNEL)?.is_some();
        let pods_mtu = if tunnels { fitting(mtu, config.node_ip.is_ipv4()) } else { mtu };
        let mut board = Board {
            ranges,
            link_mtu: AtomicU32::new(mtu),
            mtu: AtomicU32::new(pods_mtu),
            node_ip: config.node_ip,
            tunnel: Settings {
                encrypts: config.encrypt_pods,
                port: config.wireguard_port,
                told: Mutex::default(),
            },
            data_dir: config.data_dir.clone(),
            links: Mutex::new(links),
            pool: Mutex::new(Pool::new(ranges.pods, records.last_address())),
            records,
            pods: Mutex::default(),
            rules: Mutex::new(None),
            holds: AtomicBool::new(false),
            namespace,
            without_nf_tables: config.without_nf_tables,
            run_dir,
            fresh: true,
            warnings: Vec::new(),
            _lock: lock,
        };
        let bridge = board.ensure_bridge()?;
        board.warnings = sysctl::set(FORWARDING);
        board.warnings.extend(sysctl::set([
            ("net/ipv4/conf/edge0/route_localnet", "1"),
            // Other links keep their own setting: one of the two is enough for a redirect.
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/edge0/send_redirects", "0"),
            ("net/ipv6/conf/edge0/disable_ipv6", "1"),
        ]));
        if config.encrypt_pods {
            board.shut_plain_ways()?;
        }
        board.take_over(bridge)?;
        board.open_rules();
        for warning in &board.warnings {
            tracing::warn!("network: {warning}");
        }
        Ok(board)
    }

    /// Without nf_tables pods still run, on the board's network or among themselves.
    fn open_rules(&mut self) {
        let opened = self.fresh_rules().and_then(|mut rules| {
            let mut warnings = rules.warnings()?;
            warnings.extend(self.open_policies(&mut rules)?);
            Ok((rules, warnings))
        });
        match opened {
            Ok((rules, warnings)) => {
                self.warnings.extend(warnings);
                self.fresh = rules.fresh;
                self.rules = Mutex::new(Some(rules));
            }
            Err(NetError::NoNfTables { .. }) => self.warnings.push(LOST.to_owned()),
            Err(error) => self.warnings.push(error.to_string()),
        }
    }

    /// Our table, unless the kernel can have none.
    pub(super) fn fresh_rules(&self) -> Result<Rules, NetError> {
        if self.without_nf_tables {
            return Err(NetError::NoNfTables { errno: nix::errno::Errno::EPROTONOSUPPORT });
        }
        Rules::open(&self.ranges)
    }

    /// The elements of tables, on this board.
    pub(super) fn elements(&self, tables: &Tables) -> Elements {
        Elements::new(tables, |ip| self.ranges.pods.contains(ip))
    }

    /// See [`super::Net::apply_proxy`].
    pub(super) fn apply(&self, wanted: &Elements) -> Result<(), NetError> {
        let mut rules = lock(&self.rules);
        match rules.as_mut() {
            Some(rules) => rules.apply(wanted),
            None => {
                let mut fresh = self.fresh_rules()?;
                fresh.apply(wanted)?;
                *rules = Some(fresh);
                Ok(())
            }
        }
    }

    /// See [`super::Net::patch_proxy`].
    pub(super) fn patch(&self, patch: &Patch) -> Result<bool, NetError> {
        lock(&self.rules).as_mut().map_or(Ok(false), |rules| rules.patch(patch))
    }

    /// See [`super::Net::forget_unanswered`].
    pub(super) fn forget_unanswered(&self) -> Result<usize, NetError> {
        lock(&self.rules).as_mut().map_or(Ok(0), Rules::forget_unanswered)
    }

    /// See [`super::Net::rules_generation`].
    pub(super) fn generation(&self) -> Result<u32, NetError> {
        match lock(&self.rules).as_mut() {
            Some(rules) => rules.generation(),
            None => Rules::open(&self.ranges)?.generation(),
        }
    }

    /// See [`super::Net::warnings`].
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Finds our bridge, or makes it anew; answers its index.
    pub(super) fn ensure_bridge(&self) -> Result<u32, NetError> {
        let mut links = lock(&self.links);
        if let Some(found) = links.find(BRIDGE)? {
            let alias = format!("{ALIAS}{}", self.run_dir.display());
            if found.up && found.alias == alias {
                return Ok(found.index);
            }
            self.check_owner(&found)?;
        } else {
            links.add_bridge(
                BRIDGE,
                mac_of(self.ranges.pods.gateway()),
                self.mtu.load(Ordering::Relaxed),
            )?;
        }
        let bridge = links.find(BRIDGE)?.ok_or_else(|| NetError::Kernel {
            operation: "find the bridge",
            object: BRIDGE.to_owned(),
            errno: nix::errno::Errno::ENODEV,
        })?;
        self.furnish(&mut links, bridge.index)?;
        Ok(bridge.index)
    }

    /// Gives the bridge its addresses and routes, and our pods back to it.
    fn furnish(&self, links: &mut Links, bridge: u32) -> Result<(), NetError> {
        let (gateway, length) = (self.ranges.pods.gateway(), self.ranges.pods.length());
        // The DNS server answers on the cluster's address for it, itself: no address is changed
        // on the way, so two questions from one port never meet in the connection tracking.
        let dns = self.ranges.services.dns();
        let wanted: Vec<_> = [Some((gateway, length)), dns.map(|ip| (ip, 32))].into();
        for (index, address, found) in links.addresses()? {
            if index == bridge && !wanted.contains(&Some((address, found))) {
                links.remove_address(index, address, found)?;
            }
        }
        for (address, length) in wanted.into_iter().flatten() {
            links.add_address(bridge, address, length)?;
        }
        links.raise(bridge, Some(&format!("{ALIAS}{}", self.run_dir.display())))?;
        // What is meant for a Service never leaves the board unchanged, default route or not.
        links.set_route(&Route {
            to: self.ranges.services.base(),
            length: self.ranges.services.length(),
            link: bridge,
            gateway: None,
            source: Some(gateway),
        })?;
        let pods = lock(&self.pods).clone();
        for (uid, ip) in pods.iter().filter_map(|(uid, record)| Some((uid, record.ip?))) {
            links.attach(&pair_name(uid), uid, bridge)?;
            links.add_neighbour(bridge, ip, mac_of(ip))?;
        }
        Ok(())
    }

    /// Refuses a bridge of that name that isn't ours, or that another live edged uses.
    fn check_owner(&self, found: &Link) -> Result<(), NetError> {
        let Some(owner) = found.alias.strip_prefix(ALIAS) else {
            if found.kind == "bridge" && found.alias.is_empty() {
                return Ok(());
            }
            return Err(NetError::Config {
                setting: "link",
                value: BRIDGE.to_owned(),
                reason: "exists and isn't ours; rename or remove it".to_owned(),
            });
        };
        let owner = Path::new(owner);
        if owner == self.run_dir || !owner.join(LOCK).exists() || take_lock(owner)?.is_some() {
            return Ok(());
        }
        Err(NetError::InUse { run_dir: owner.display().to_string() })
    }

    /// Takes over the pods that stand, and removes what else there is of ours.
    fn take_over(&self, bridge: u32) -> Result<(), NetError> {
        let mut wanted = Vec::new();
        for (uid, record) in self.records.list()? {
            let ip = record.as_ref().and_then(|record| record.ip);
            let standing = record.filter(|record| {
                let paths = sandbox::paths(&self.records.directory(&uid), record.host_network);
                let inside = record.ip.is_none_or(|ip| self.ranges.pods.contains(ip));
                record.ready && inside && sandbox::alive(&paths)
            });
            match standing {
                Some(record) => {
                    if let Some(ip) = record.ip {
                        lock(&self.pool).mark(ip, &uid);
                        wanted.push(pair_name(&uid));
                    }
                    lock(&self.pods).insert(uid, record);
                }
                None => self.tear_down(&uid, ip)?,
            }
        }
        let mut links = lock(&self.links);
        for link in links.list()? {
            let ours = link.name.starts_with(PAIR_PREFIX) && link.kind == "veth";
            if ours && link.master.is_none_or(|m| m == bridge) && !wanted.contains(&link.name) {
                links.remove(&link.name)?;
            }
        }
        self.furnish(&mut links, bridge)
    }

    /// See [`super::Net::cleanup`].
    pub(super) fn cleanup(&self) -> Result<(), NetError> {
        for (uid, _) in self.records.list()? {
            self.remove(&uid)?;
        }
        lock(&self.links).remove(BRIDGE)?;
        self.remove_routes()?;
        self.remove_tunnel(&mut lock(&self.links))?;
        self.forget_key()?;
        if let Some(rules) = lock(&self.rules).as_mut() {
            rules.remove()?;
            rules.remove_policies()?;
            rules.remove_senders()?;
        }
        self.records.remove_all();
        let _ = std::fs::remove_file(self.run_dir.join(LOCK));
        Ok(())
    }
}

/// Takes the lock of a run directory; `None` when a live process has it.
fn take_lock(run_dir: &Path) -> Result<Option<Flock<File>>, NetError> {
    let path = run_dir.join(LOCK);
    let file = File::create(&path).map_err(NetError::file("open the lock", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(NetError::file("take the lock", &path)(errno.into())),
    }
}

/// The largest packet that the board's own link takes: a pod's must not be larger. `None` while the
/// board has no such link.
pub(super) fn own_link_mtu(links: &mut Links, node_ip: IpAddr) -> Result<Option<u32>, NetError> {
    let own = links.addresses()?.into_iter().find(|(_, ip, _)| IpAddr::V4(*ip) == node_ip);
    let index = match own {
        Some((index, _, _)) => Some(index),
        None => links.default_route_link()?,
    };
    let found = links.list()?.into_iter().find(|link| Some(link.index) == index);
    Ok(found.filter(|link| link.name != "lo").map(|link| link.mtu.clamp(576, 65535)))
}
