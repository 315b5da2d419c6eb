//! Who may talk to whom: NetworkPolicies, pods and namespaces in, and out comes a table for the
//! pods of one board, as elements of the kernel's maps.
//!
//! A packet costs the same few lookups however many policies there are. Each isolated pod has a
//! *profile* (what it allows), each peer a *class* (which of the sets that rules name it is in),
//! and one set says which traffic a profile allows a class. Pods that allow the same share a
//! profile, peers that are in the same sets a class. Both numbers are made of what they stand for,
//! so a change is a few elements.
//!
//! IPv4 so far: blocks and addresses of the other family are passed over.

mod compile;
mod elements;
mod ids;
mod lens;
mod live;
mod span;
#[cfg(test)]
mod tests;

pub use compile::{Compiled, Unmatched, World};
pub use elements::{Change, Element};
pub use ids::{Id, NONE};
pub use lens::{Direction, Labels, NamedPort, Pod, Policy};
pub use live::Live;
pub use span::Span;

use crate::proxy::Protocol;
use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

/// Traffic as one number: the protocol's number in the upper half, the port in the lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic(pub u32);

impl Traffic {
    /// To a port. Protocols without ports are at any of them.
    pub fn new(protocol: u8, port: u16) -> Traffic {
        Traffic(u32::from(protocol) << 16 | u32::from(port))
    }

    /// The protocol's number.
    pub fn protocol(self) -> u32 {
        self.0 >> 16
    }

    /// The port.
    pub fn port(self) -> u16 {
        u16::try_from(self.0 & 0xffff).unwrap_or(u16::MAX)
    }
}

/// Traffic from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// The first.
    pub first: Traffic,
    /// The last.
    pub last: Traffic,
}

impl Stretch {
    /// Every protocol and port.
    pub const ALL: Stretch = Stretch { first: Traffic(0), last: Traffic(u32::MAX) };

    fn ports(protocol: Protocol, first: u16, last: u16) -> Stretch {
        let at = |port| Traffic::new(protocol.number(), port);
        Stretch { first: at(first), last: at(last) }
    }

    fn contains(&self, traffic: Traffic) -> bool {
        (self.first..=self.last).contains(&traffic)
    }
}

/// Joins stretches that overlap or touch.
fn merged(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort();
    let mut out: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match out.last_mut() {
            Some(last) if stretch.first.0 <= last.last.0.saturating_add(1) => {
                last.last = last.last.max(stretch.last);
            }
            _ => out.push(stretch),
        }
    }
    out
}

/// What one board enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The board's pods that not everybody may reach, and the profile of each.
    pub ingress: BTreeMap<Ipv4Addr, Id>,
    /// The board's pods that may not reach everybody, and the profile of each.
    pub egress: BTreeMap<Ipv4Addr, Id>,
    /// The classes of pods of the whole cluster.
    pub pods: BTreeMap<Ipv4Addr, Id>,
    /// The classes of addresses in blocks; spans don't overlap.
    pub blocks: BTreeMap<Span, Id>,
    /// What a profile allows a class ([`NONE`]: everybody); stretches don't overlap.
    pub allowed: BTreeMap<(Id, Id), Vec<Stretch>>,
}

impl Rules {
    /// Whether the board lets traffic begin between two addresses, as its kernel judges it.
    pub fn allow(&self, from: Ipv4Addr, to: Ipv4Addr, traffic: Traffic) -> bool {
        from == to || (self.lets_out(from, to, traffic) && self.lets_in(from, to, traffic))
    }

    /// Whether the sender may reach that address.
    pub fn lets_out(&self, from: Ipv4Addr, to: Ipv4Addr, traffic: Traffic) -> bool {
        self.egress.get(&from).is_none_or(|profile| self.allows(*profile, to, traffic))
    }

    /// Whether the receiver may be reached from that address.
    pub fn lets_in(&self, from: Ipv4Addr, to: Ipv4Addr, traffic: Traffic) -> bool {
        self.ingress.get(&to).is_none_or(|profile| self.allows(*profile, from, traffic))
    }

    fn allows(&self, profile: Id, peer: Ipv4Addr, traffic: Traffic) -> bool {
        let at = Span { first: u32::from(peer), last: u32::MAX };
        let block = self.blocks.range(..=at).next_back();
        let block = block.filter(|(span, _)| span.contains(peer)).map(|(_, class)| *class);
        [Some(NONE), self.pods.get(&peer).copied(), block].into_iter().flatten().any(|class| {
            let allowed = self.allowed.get(&(profile, class));
            allowed.is_some_and(|list| list.iter().any(|stretch| stretch.contains(traffic)))
        })
    }

    /// True when nobody is isolated.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }

    /// The same as elements.
    pub fn elements(&self) -> BTreeSet<Element> {
        let ingress = self.ingress.iter().map(|(ip, id)| Element::Ingress(*ip, *id));
        let egress = self.egress.iter().map(|(ip, id)| Element::Egress(*ip, *id));
        let isolated: BTreeSet<_> = self.ingress.keys().chain(self.egress.keys()).collect();
        let selves = isolated.into_iter().map(|ip| Element::Itself(*ip));
        let pods = self.pods.iter().map(|(ip, id)| Element::Pod(*ip, *id));
        let blocks = self.blocks.iter().map(|(span, id)| Element::Block(*span, *id));
        let allowed = self.allowed.iter().flat_map(|((profile, class), stretches)| {
            stretches.iter().map(|stretch| Element::Allowed(*profile, *class, *stretch))
        });
        ingress.chain(egress).chain(selves).chain(pods).chain(blocks).chain(allowed).collect()
    }

    /// Puts together what was read element by element.
    pub fn assemble<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Rules {
        let mut rules = Rules::default();
        for element in elements {
            match *element {
                Element::Ingress(ip, id) => {
                    rules.ingress.insert(ip, id);
                }
                Element::Egress(ip, id) => {
                    rules.egress.insert(ip, id);
                }
                Element::Pod(ip, id) => {
                    rules.pods.insert(ip, id);
                }
                Element::Block(span, id) => {
                    rules.blocks.insert(span, id);
                }
                Element::Allowed(profile, class, stretch) => {
                    rules.allowed.entry((profile, class)).or_default().push(stretch);
                }
                Element::Itself(_) => {}
            }
        }
        rules
    }
}
