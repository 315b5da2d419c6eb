//! The chains that pick a target. There is one for each number of targets, not for each
//! service: which service it is, the packet itself says. Their names tell what they do, so
//! that a restarted edged can read back what a map's element means.

use super::layout::{AFFINITY, Chain, TARGETS, load_front};
use super::wire::{Register, Step};
use edge_core::proxy::{Front, Source, Verdict};
use std::fmt;

/// Targets for the inside are numbered from here.
pub(super) const INSIDE_FROM: u32 = 1 << 16;

/// In a number of four bytes, the count takes so many bits and flags the others.
const FLAGS_FROM: u32 = 24;

/// What one such chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spread {
    /// Among how many targets it picks.
    pub(super) count: u32,
    /// True when the front is a node port.
    pub(super) node_port: bool,
    /// Whose connections it is for.
    pub(super) source: Source,
    /// How long a client keeps its target.
    pub(super) affinity_seconds: Option<u32>,
}

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "spread-{}", self.count)?;
        if self.node_port {
            out.write_str("-node")?;
        }
        if self.source == Source::Inside {
            out.write_str("-inside")?;
        }
        match self.affinity_seconds {
            Some(seconds) => write!(out, "-keep-{seconds}"),
            None => Ok(()),
        }
    }
}

impl Spread {
    /// The chain that a front's verdict leads to, if it leads to one.
    pub(super) fn of(source: Source, front: &Front, verdict: &Verdict) -> Option<Spread> {
        let Verdict::Spread { count, affinity_seconds } = *verdict else { return None };
        Some(Spread { count, node_port: front.address.is_none(), source, affinity_seconds })
    }

    /// Reads a chain's name.
    pub(super) fn parse(name: &str) -> Option<Spread> {
        let mut words = name.strip_prefix("spread-")?.split('-');
        let count = words.next()?.parse().ok()?;
        let mut spread =
            Spread { count, node_port: false, source: Source::Any, affinity_seconds: None };
        while let Some(word) = words.next() {
            match word {
                "node" => spread.node_port = true,
                "inside" => spread.source = Source::Inside,
                "keep" => spread.affinity_seconds = Some(words.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(spread)
    }

    /// Itself as eight bytes, in the maps.
    pub(super) fn bytes(&self) -> [u8; 8] {
        let flags = u32::from(self.node_port) | u32::from(self.source == Source::Inside) << 1;
        let first = (self.count | flags << FLAGS_FROM).to_ne_bytes();
        let second = self.affinity_seconds.unwrap_or(0).to_ne_bytes();
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&first);
        bytes[4..].copy_from_slice(&second);
        bytes
    }

    /// Reads what [`Spread::bytes`] wrote.
    pub(super) fn read(bytes: &[u8]) -> Option<Spread> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (first, second) = (word(0)?, word(4)?);
        let flags = first >> FLAGS_FROM;
        Some(Spread {
            count: first & ((1 << FLAGS_FROM) - 1),
            node_port: flags & 1 != 0,
            source: if flags & 2 != 0 { Source::Inside } else { Source::Any },
            affinity_seconds: (second > 0).then_some(second),
        })
    }

    /// The verdict that an element leading here stands for.
    pub(super) fn verdict(&self) -> Verdict {
        Verdict::Spread { count: self.count, affinity_seconds: self.affinity_seconds }
    }

    /// The number in the map of a target's number.
    pub(super) fn offset(source: Source) -> u32 {
        if source == Source::Inside { INSIDE_FROM } else { 0 }
    }

    /// The chain itself.
    pub(super) fn chain(&self) -> Chain {
        let mut rules = Vec::new();
        if let Some(seconds) = self.affinity_seconds {
            // The client and the front in registers 0 to 3, the target in 8 and 9, and in 12 and
            // 13 once more: `nft` must not see a map's answer as what is remembered (see
            // [`Step::ASIDE`]), nor anything else as the target.
            let key = Register(0);
            let (address, port) = (Register(8), Register(9));
            let (before, value) = (Register(7), Register(12));
            let who = [&[Step::Source(key)], &load_front(1, self.node_port)[..]].concat();
            let remember = [
                Step::Protocol(before),
                Step::Destination(value),
                Step::Port(Register(13)),
                Step::Copy { from: before, to: Register(11) },
                Step::Remember { key, map: AFFINITY, value, seconds },
                Step::Redirect { address, port },
            ];
            let known = Step::Find { key, map: AFFINITY, to: address };
            rules.push([&who[..], &[known], &remember].concat());
            rules.push([&self.pick(8)[..], &who[..], &remember].concat());
        }
        // Also the way out when too many clients are remembered already.
        let redirect = Step::Redirect { address: Register(8), port: Register(9) };
        rules.push([&self.pick(8)[..], &[redirect]].concat());
        Chain { name: self.to_string(), hook: None, rules }
    }

    /// Picks a target into the registers from `at`.
    fn pick(&self, at: u32) -> Vec<Step> {
        let random = Step::Random {
            to: Register(at + 3),
            below: self.count,
            offset: Spread::offset(self.source),
        };
        let find = Step::Find { key: Register(at), map: TARGETS, to: Register(at) };
        [&load_front(at, self.node_port)[..], &[random, find]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for count in [1, 3, 250] {
            for node_port in [false, true] {
                for source in [Source::Any, Source::Inside] {
                    for affinity_seconds in [None, Some(10_800)] {
                        let spread = Spread { count, node_port, source, affinity_seconds };
                        assert_eq!(Spread::parse(&spread.to_string()), Some(spread));
                        assert_eq!(Spread::read(&spread.bytes()), Some(spread));
                    }
                }
            }
        }
        for other in ["spread-", "spread-x", "spread-3-else", "spread-3-keep", "refuse"] {
            assert_eq!(Spread::parse(other), None, "{other}");
        }
    }
}
