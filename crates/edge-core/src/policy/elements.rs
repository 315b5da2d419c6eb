//! Rules as elements of maps, the form in which the kernel holds them, and the difference between
//! two such states.

use super::{Id, Span, Stretch};
use core::net::Ipv4Addr;
use std::collections::BTreeSet;

/// One element of one of the kernel's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A pod that not everybody may reach: its profile.
    Ingress(Ipv4Addr, Id),
    /// A pod that may not reach everybody: its profile.
    Egress(Ipv4Addr, Id),
    /// An isolated pod; nobody keeps it from itself.
    Itself(Ipv4Addr),
    /// The class of a pod as a peer.
    Pod(Ipv4Addr, Id),
    /// The class of addresses as peers.
    Block(Span, Id),
    /// What a profile allows a class.
    Allowed(Id, Id, Stretch),
}

/// What to take out and what to put in. An element that says something else is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What goes.
    pub old: Vec<Element>,
    /// What comes.
    pub new: Vec<Element>,
}

impl Change {
    /// What leads from one state to another.
    pub fn between(have: &BTreeSet<Element>, want: &BTreeSet<Element>) -> Change {
        Change {
            old: have.difference(want).copied().collect(),
            new: want.difference(have).copied().collect(),
        }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    /// True when something that was allowed before may be forbidden after.
    pub fn may_forbid(&self) -> bool {
        let gives =
            |e: &Element| matches!(e, Element::Pod(..) | Element::Block(..) | Element::Allowed(..));
        let isolates = |e: &Element| matches!(e, Element::Ingress(..) | Element::Egress(..));
        self.old.iter().any(gives) || self.new.iter().any(isolates)
    }
}
