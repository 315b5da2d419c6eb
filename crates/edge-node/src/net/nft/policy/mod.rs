//! NetworkPolicies in the kernel: a table of our own that is there only while somebody wants to be
//! kept from somebody. Its rules are fixed and ask maps; the maps follow `edge_core::policy`, and a
//! change is one transaction of the elements that differ. The rules stand while edged is away.

mod codec;
mod cut;
mod layout;

use super::super::board::lock;
use super::super::error::NetError;
use super::super::range::Pool;
use super::batch::Batch;
use super::wire::IPV4;
use super::{Rules, read};
use edge_core::policy::{Change, Compiled, Element, NONE};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;

pub(in crate::net) use cut::cut;

/// Our table of policies, in the family `ip`.
const TABLE: &str = "edged-policy";
/// Maps of the table, in the order in which elements have them.
const TABLE_ID: (u8, &str) = (IPV4, TABLE);

/// What we know of our table of policies.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The number of the last change of any table, and the elements at that time.
    pub(super) seen: Option<(u32, BTreeSet<Element>)>,
    /// Pods whose policies are not known yet: they talk to nobody.
    held: BTreeSet<Ipv4Addr>,
}

/// How a held pod is kept from everybody.
fn held(address: Ipv4Addr) -> [Element; 3] {
    [Element::Ingress(address, NONE), Element::Egress(address, NONE), Element::Itself(address)]
}

/// How the comments of all our tables for policies begin.
const OURS: &str = "edged, policies ";

fn fingerprint() -> String {
    let text = format!("{:?}{:?}", layout::chains(), layout::sets());
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{OURS}{hex}")
}

impl Rules {
    /// Whether policies are enforced: an earlier edged may have left them.
    pub(in crate::net) fn has_policies(&mut self) -> Result<bool, NetError> {
        Ok(read::comment_of(&mut self.socket, IPV4, TABLE)?.is_some())
    }

    /// Keeps a pod from everybody until it is judged by [`Rules::apply_policies`].
    ///
    /// # Errors
    /// What the kernel refused; and [`NetError::NotJudgedYet`] just after an update of edged.
    pub(in crate::net) fn hold(&mut self, address: Ipv4Addr) -> Result<(), NetError> {
        self.policies.held.insert(address);
        let (generation, have) = self.observe_policies()?;
        // Made anew for one pod, the table of another edged would be open for all others.
        if have.is_none() && self.has_others_policies()? {
            return Err(NetError::NotJudgedYet { address });
        }
        let mut want = have.clone().unwrap_or_default();
        want.retain(|element| match element {
            Element::Ingress(ip, _) | Element::Egress(ip, _) => *ip != address,
            _ => true,
        });
        want.extend(held(address));
        self.change_policies(generation, have, want).map(drop)
    }

    /// Whether the policies are those of an edged with other tables, until ours are known.
    fn has_others_policies(&mut self) -> Result<bool, NetError> {
        let comment = read::comment_of(&mut self.socket, IPV4, TABLE)?;
        Ok(comment.is_some_and(|said| said.starts_with(OURS) && said != fingerprint()))
    }

    /// Makes the table say what is wanted. Pods that are held and not judged yet stay so, as long
    /// as they have their address. Answers what was changed.
    pub(in crate::net) fn apply_policies(
        &mut self,
        wanted: &Compiled,
        pool: &Mutex<Pool>,
    ) -> Result<Change, NetError> {
        let (generation, have) = self.observe_policies()?;
        {
            let pool = lock(pool);
            let judged = &wanted.judged;
            self.policies.held.retain(|ip| !judged.contains(ip) && pool.has(*ip));
        }
        let mut want = wanted.rules.elements();
        want.extend(self.policies.held.iter().flat_map(|address| held(*address)));
        self.change_policies(generation, have, want)
    }

    /// What the kernel has, from memory unless anybody changed any table since; `None` when there
    /// is no such table, or it is not ours.
    fn observe_policies(&mut self) -> Result<(u32, Option<BTreeSet<Element>>), NetError> {
        let generation = read::generation(&mut self.socket)?;
        if let Some((_, known)) = self.policies.seen.take().filter(|(at, _)| *at == generation) {
            return Ok((generation, Some(known)));
        }
        if read::comment_of(&mut self.socket, IPV4, TABLE)?.as_deref() != Some(&fingerprint()) {
            return Ok((generation, None));
        }
        let chains = layout::chains();
        let rules = chains.iter().map(|chain| chain.rules.len()).sum();
        if read::size(&mut self.socket, TABLE_ID)? != (chains.len(), rules) {
            return Ok((generation, None));
        }
        let found = codec::read(&mut self.socket)?;
        // A pod that talks to nobody may be one that an earlier edged held.
        for element in found.iter().flatten() {
            if let Element::Ingress(address, NONE) = *element
                && found.iter().flatten().any(|e| *e == Element::Egress(address, NONE))
            {
                self.policies.held.insert(address);
            }
        }
        Ok((generation, found))
    }

    fn change_policies(
        &mut self,
        generation: u32,
        have: Option<BTreeSet<Element>>,
        want: BTreeSet<Element>,
    ) -> Result<Change, NetError> {
        let mut batch = Batch::of(IPV4, TABLE);
        if have.is_none() {
            batch.add_table(&fingerprint());
            batch.remove_table();
            batch.add_table(&fingerprint());
            for (number, set) in (1..).zip(layout::sets()) {
                batch.add_set(&set, number);
            }
            let chains = layout::chains();
            chains.iter().for_each(|chain| batch.add_chain(chain));
            chains.iter().for_each(|chain| batch.add_rules(chain));
        }
        let change = Change::between(&have.unwrap_or_default(), &want);
        for (elements, new) in [(&change.old, false), (&change.new, true)] {
            for (set, elements) in codec::by_set(elements) {
                if new {
                    batch.add_elements(set, &elements);
                } else {
                    batch.remove_elements(set, &elements);
                }
            }
        }
        let mut now = generation;
        if !batch.is_empty() {
            self.commit(batch)?;
            now = generation.wrapping_add(1);
        }
        self.policies.seen = Some((now, want));
        Ok(change)
    }

    /// Removes the table of policies, if it is there: everybody may talk to everybody.
    pub(in crate::net) fn remove_policies(&mut self) -> Result<(), NetError> {
        self.policies = Known::default();
        if !self.has_policies()? {
            return Ok(());
        }
        let mut batch = Batch::of(IPV4, TABLE);
        batch.remove_table();
        self.commit(batch)
    }
}
