//! The board's side of NetworkPolicies: new pods are held until they are judged, connections that
//! a change forbids are cut, and each pod sends with its own address alone.

use super::board::{Board, lock};
use super::error::NetError;
use super::link::Links;
use super::nft::{Rules, policy};
use super::record::pair_name;
use edge_core::policy::Compiled;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

impl Board {
    /// Takes over what an earlier edged left in the kernel. Answers sentences about what can't be
    /// checked on this board.
    pub(super) fn open_policies(&self, rules: &mut Rules) -> Result<Option<String>, NetError> {
        self.holds.store(rules.has_policies()?, Ordering::Release);
        let ports: BTreeMap<String, u32> =
            lock(&self.links).list()?.into_iter().map(|link| (link.name, link.index)).collect();
        let senders = self.addresses().into_iter();
        let senders = senders.filter_map(|(uid, ip)| Some((*ports.get(&pair_name(&uid))?, ip)));
        match rules.open_senders(&self.ranges, &senders.collect()) {
            Ok(()) => Ok(None),
            Err(error) => Ok(Some(format!(
                "pods can send with addresses that are not theirs ({error}): load or build in \
                 nf_tables for bridges"
            ))),
        }
    }

    /// See [`super::Net::pod_addresses`].
    pub(super) fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        let pods = lock(&self.pods);
        pods.iter().filter_map(|(uid, record)| Some((uid.clone(), record.ip?))).collect()
    }

    /// Keeps a pod in the making from everybody, while there are policies or nobody knows.
    pub(super) fn hold(&self, address: Option<Ipv4Addr>) -> Result<(), NetError> {
        let Some(address) = address.filter(|_| self.holds.load(Ordering::Acquire)) else {
            return Ok(());
        };
        match lock(&self.rules).as_mut() {
            Some(rules) => rules.hold(address),
            // A kernel without nf_tables enforces nothing, and the board has said so.
            None => Ok(()),
        }
    }

    /// Lets a pod's port of the bridge send with its address.
    pub(super) fn let_send(&self, port: u32, address: Ipv4Addr) -> Result<(), NetError> {
        let of_pod = |sender: &(u32, Ipv4Addr)| sender.0 == port || sender.1 == address;
        match lock(&self.rules).as_mut() {
            Some(rules) => rules.keep_senders(of_pod, &BTreeSet::from([(port, address)])),
            None => Ok(()),
        }
    }

    /// Nobody sends with this address any more.
    pub(super) fn silence(&self, address: Ipv4Addr) -> Result<(), NetError> {
        match lock(&self.rules).as_mut() {
            Some(rules) => rules.keep_senders(|sender| sender.1 == address, &BTreeSet::new()),
            None => Ok(()),
        }
    }

    /// See [`super::Net::apply_policies`].
    pub(super) fn apply_policies(&self, wanted: Option<&Compiled>) -> Result<usize, NetError> {
        // Whoever is made from here on is held, or knows that nobody has to be.
        self.holds.store(wanted.is_some(), Ordering::Release);
        let mut rules = lock(&self.rules);
        let rules = match (rules.as_mut(), wanted) {
            (Some(rules), _) => rules,
            (None, None) => return Ok(0),
            (None, Some(_)) => rules.insert(self.fresh_rules()?),
        };
        let Some(wanted) = wanted else {
            rules.remove_policies()?;
            return Ok(0);
        };
        if !rules.apply_policies(wanted, &self.pool)?.may_forbid() {
            return Ok(0);
        }
        let board = Links::open()?.addresses()?.into_iter().map(|(_, ip, _)| ip).collect();
        policy::cut(&wanted.rules, &board)
    }
}
