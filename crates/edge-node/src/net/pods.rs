//! A pod's network, made, found and removed. The record is written first and completed last,
//! so that a crash at any point leaves something that the next edged recognises.

use super::board::{Board, lock};
use super::error::NetError;
use super::link::{Links, Pair, mac_of};
use super::record::{Record, pair_name};
use super::{sandbox, sysctl};
use crate::seams::PodNetwork;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

impl Board {
    /// See [`super::Net::create_pod`]. The calling thread must end afterwards: it is left in
    /// the pod's namespaces.
    pub(super) fn create(
        &self,
        uid: &str,
        hostname: &str,
        host_network: bool,
    ) -> Result<PodNetwork, NetError> {
        let whole = |found: &PodNetwork| {
            found.ip.is_none() == host_network && sandbox::alive(&found.namespaces)
        };
        if let Some(found) = self.find(uid).filter(whole) {
            return Ok(found);
        }
        self.remove(uid)?;
        let ip = if host_network { None } else { Some(self.take_address(uid)?) };
        let mut record = Record { ready: false, host_network, ip };
        let made = self
            .records
            .write(uid, &record)
            .and_then(|()| self.hold(ip))
            .and_then(|()| self.build(uid, hostname, ip));
        record.ready = true;
        if let Err(error) = made.and_then(|()| self.records.write(uid, &record)) {
            if let Err(second) = self.leave_pod().and_then(|()| self.tear_down(uid, ip)) {
                tracing::warn!("network: after a failure for pod {uid}: {second}");
            }
            return Err(error);
        }
        let network = self.network(uid, &record);
        lock(&self.pods).insert(uid.to_owned(), record);
        Ok(network)
    }

    /// Brings the calling thread back to the board's network.
    fn leave_pod(&self) -> Result<(), NetError> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)
            .map_err(NetError::kernel("go back to", "the board's network"))
    }

    fn take_address(&self, uid: &str) -> Result<Ipv4Addr, NetError> {
        let mut pool = lock(&self.pool);
        let ip = pool.take(uid)?;
        if let Err(error) = self.records.set_last_address(ip) {
            pool.free(ip, uid);
            return Err(error);
        }
        Ok(ip)
    }

    /// Makes what isn't there: namespaces, interfaces, addresses.
    fn build(&self, uid: &str, hostname: &str, ip: Option<Ipv4Addr>) -> Result<(), NetError> {
        sandbox::enter(&self.records.directory(uid), hostname, ip.is_none())?;
        let Some(ip) = ip else { return Ok(()) };
        for complaint in sysctl::set(sandbox::POD_SETTINGS) {
            tracing::debug!("network of pod {uid}: {complaint}");
        }
        let mut inside = Links::open()?;
        inside.raise(1, None)?;
        let own = Path::new("/proc/thread-self/ns/net");
        let namespace = File::open(own).map_err(NetError::file("open", own))?;
        let bridge = self.ensure_bridge()?;
        let mut links = lock(&self.links);
        let name = pair_name(uid);
        links.remove(&name)?;
        links.add_pair(&Pair {
            name: &name,
            alias: uid,
            bridge,
            mtu: self.mtu.load(Ordering::Relaxed),
            pod_namespace: namespace.as_fd(),
            pod_mac: mac_of(ip),
        })?;
        links.add_neighbour(bridge, ip, mac_of(ip))?;
        let port = links.find(&name)?.map(|link| link.index);
        drop(links);
        if let Some(port) = port {
            self.let_send(port, ip)?;
        }
        sandbox::address(&mut inside, ip, self.ranges.pods.gateway())
    }

    /// Sets the packet size of a pod's own interface. The calling thread goes there and back.
    pub(super) fn fit_inside(&self, uid: &str, mtu: u32) -> Result<(), NetError> {
        let Some(PodNetwork { namespaces, .. }) = self.find(uid) else { return Ok(()) };
        let Some(path) = namespaces.net else { return Ok(()) };
        let inside = File::open(&path).map_err(NetError::file("open", &path))?;
        setns(&inside, CloneFlags::CLONE_NEWNET)
            .map_err(NetError::kernel("enter the network of pod", uid))?;
        let fitted = Links::open().and_then(|mut links| match links.find("eth0")? {
            Some(eth0) => links.set_mtu(eth0.index, mtu),
            None => Ok(()),
        });
        self.leave_pod().and(fitted)
    }

    fn network(&self, uid: &str, record: &Record) -> PodNetwork {
        PodNetwork {
            namespaces: sandbox::paths(&self.records.directory(uid), record.host_network),
            ip: record.ip.map(IpAddr::V4),
        }
    }

    /// See [`super::Net::find_pod`].
    pub(super) fn find(&self, uid: &str) -> Option<PodNetwork> {
        let record = lock(&self.pods).get(uid).cloned()?;
        Some(self.network(uid, &record))
    }

    /// See [`super::Net::list_pods`].
    pub(super) fn list(&self) -> Vec<String> {
        lock(&self.pods).keys().cloned().collect()
    }

    /// See [`super::Net::remove_pod`].
    pub(super) fn remove(&self, uid: &str) -> Result<(), NetError> {
        let record = lock(&self.pods).get(uid).cloned();
        let ip = record.as_ref().and_then(|record| record.ip);
        if let Some(record) = record {
            // From here on it is no whole pod any more, should edged die meanwhile.
            self.records.write(uid, &Record { ready: false, ..record })?;
        }
        self.tear_down(uid, ip)?;
        lock(&self.pods).remove(uid);
        Ok(())
    }

    /// Removes whatever there is of a pod's network, its record last and then its address.
    pub(super) fn tear_down(&self, uid: &str, ip: Option<Ipv4Addr>) -> Result<(), NetError> {
        let directory = self.records.directory(uid);
        if !directory.exists() && ip.is_none() {
            return Ok(());
        }
        // A socket of its own: the kernel takes long over this, and pods in the making go first.
        let mut links = Links::open()?;
        links.remove(&pair_name(uid))?;
        if let (Some(ip), Some(bridge)) = (ip, links.find(super::board::BRIDGE)?) {
            links.remove_neighbour(bridge.index, ip)?;
        }
        sandbox::unpin(&directory)?;
        self.records.remove(uid)?;
        if let Some(ip) = ip {
            self.silence(ip)?;
            lock(&self.pool).free(ip, uid);
        }
        Ok(())
    }
}
