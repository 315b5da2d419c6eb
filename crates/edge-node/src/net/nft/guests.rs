//! The chains that ask who comes, for fronts that don't take everybody: one for each list of
//! ranges, whichever Services have it. Its name says how many ranges it has, and its digest.

use super::layout::{Chain, within_bits};
use super::wire::{Outcome, Step};
use edge_core::proxy::Sources;
use std::fmt;

/// One such chain, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Guests {
    /// Of the list.
    pub(super) digest: u64,
    /// How many ranges it has.
    pub(super) count: usize,
}

impl fmt::Display for Guests {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sources-{}-{:016x}", self.count, self.digest)
    }
}

impl Guests {
    /// The chain of a list.
    pub(super) fn of(sources: &Sources) -> Guests {
        Guests { digest: sources.digest(), count: sources.ranges().len() }
    }

    /// Reads a chain's name.
    pub(super) fn parse(name: &str) -> Option<Guests> {
        let (count, digest) = name.strip_prefix("sources-")?.split_once('-')?;
        let digest = u64::from_str_radix(digest, 16).ok()?;
        Some(Guests { digest, count: count.parse().ok()? })
    }

    /// How many rules it has.
    pub(super) fn rules(&self) -> usize {
        self.count + 1
    }

    /// The chain itself: whoever is in a range goes on, anybody else is dropped.
    pub(super) fn chain(&self, sources: &Sources) -> Chain {
        let ranges = sources.ranges().iter();
        let mut rules: Vec<Vec<Step>> = ranges
            .map(|range| {
                let bits = u32::MAX.checked_shl(32 - u32::from(range.length())).unwrap_or(0);
                let within = within_bits(Step::Source, range.base(), bits, true);
                [within, vec![Step::Finally(Outcome::Return)]].concat()
            })
            .collect();
        rules.push(vec![Step::Finally(Outcome::Drop)]);
        Chain { name: self.to_string(), hook: None, rules }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_chain_whose_name_reads_back() {
        let sources = Sources::read(["192.0.2.0/24", "10.0.0.0/8"]).expect("a list");
        let guests = Guests::of(&sources);
        assert_eq!(Guests::parse(&guests.to_string()), Some(guests));
        let chain = guests.chain(&sources);
        assert_eq!((chain.rules.len(), guests.rules()), (3, 3));
        for other in ["sources-", "sources-x-1", "sources-1", "spread-3"] {
            assert_eq!(Guests::parse(other), None, "{other}");
        }
    }
}
