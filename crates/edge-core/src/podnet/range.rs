//! A range of IPv4 addresses, as routes and Nodes have it.

use core::net::Ipv4Addr;
use std::fmt;

/// `10.42.3.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    base: u32,
    length: u8,
}

impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.base(), self.length)
    }
}

impl Range {
    /// A range by its first address and prefix length; `None` when bits are set behind the
    /// prefix, or it is longer than 32.
    pub fn new(base: Ipv4Addr, length: u8) -> Option<Range> {
        let range = Range { base: u32::from(base), length };
        (length <= 32 && range.base & !range.mask() == 0).then_some(range)
    }

    /// Reads `a.b.c.d/n`.
    pub fn parse(text: &str) -> Option<Range> {
        let (base, length) = text.split_once('/')?;
        Range::new(base.parse().ok()?, length.parse().ok()?)
    }

    /// The first address.
    pub fn base(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// The prefix length.
    pub fn length(&self) -> u8 {
        self.length
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)
    }

    /// True for an address within.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.base
    }

    /// True when all of the other range is within.
    pub fn covers(&self, other: &Range) -> bool {
        self.length <= other.length && self.contains(other.base())
    }

    /// True when some address lies in both.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.covers(other) || other.covers(self)
    }
}
