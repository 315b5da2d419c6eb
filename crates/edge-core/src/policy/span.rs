//! Stretches of addresses, and what addresses have in common: blocks overlap, and the kernel wants
//! to find one answer for each address.

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};

/// Addresses from the first to the last, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Span {
    /// Reads an IPv4 CIDR; bits behind the prefix don't count.
    pub(super) fn parse(text: &str) -> Option<Span> {
        let (base, length) = text.split_once('/')?;
        let (base, length): (Ipv4Addr, u32) = (base.parse().ok()?, length.parse().ok()?);
        let behind = u32::MAX.checked_shr(length).unwrap_or(0);
        let first = u32::from(base) & !behind;
        (length <= 32).then_some(Span { first, last: first | behind })
    }

    /// True for an address within.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }
}

/// What is left of a span, in order.
pub(super) fn without(whole: Span, mut except: Vec<Span>) -> Vec<Span> {
    except.sort();
    let mut left = Vec::new();
    let mut from = Some(whole.first);
    for hole in except {
        let Some(at) = from.filter(|at| *at <= whole.last) else { break };
        if hole.last < at {
            continue;
        }
        if hole.first > at {
            left.push(Span { first: at, last: (hole.first - 1).min(whole.last) });
        }
        from = hole.last.checked_add(1);
    }
    left.extend(from.filter(|at| *at <= whole.last).map(|first| Span { first, last: whole.last }));
    left
}

/// Cuts overlapping blocks into spans of which each address is in the same ones; neighbours that
/// are in the same ones are one span.
pub(super) fn cut<K: Ord + Copy>(blocks: &[(K, &[Span])]) -> Vec<(Span, BTreeSet<K>)> {
    // Where something begins or ends: the numbers go beyond the last address.
    let mut edges: BTreeMap<u64, Vec<(K, bool)>> = BTreeMap::new();
    for (key, spans) in blocks {
        for span in *spans {
            edges.entry(u64::from(span.first)).or_default().push((*key, true));
            edges.entry(u64::from(span.last) + 1).or_default().push((*key, false));
        }
    }
    let mut out: Vec<(Span, BTreeSet<K>)> = Vec::new();
    let mut within = BTreeSet::new();
    let mut from = 0u64;
    for (edge, changes) in edges {
        let span = u32::try_from(from)
            .ok()
            .zip(edge.checked_sub(1))
            .and_then(|(first, last)| Some(Span { first, last: u32::try_from(last).ok()? }));
        if let Some(span) = span.filter(|_| !within.is_empty()) {
            match out.last_mut() {
                Some((before, keys))
                    if *keys == within && before.last.checked_add(1) == Some(span.first) =>
                {
                    before.last = span.last;
                }
                _ => out.push((span, within.clone())),
            }
        }
        // One block's span may end where its next one begins: first out, then in.
        changes.iter().filter(|(_, begins)| !begins).for_each(|(key, _)| {
            within.remove(key);
        });
        within.extend(changes.iter().filter(|(_, begins)| *begins).map(|(key, _)| *key));
        from = edge;
    }
    out
}
