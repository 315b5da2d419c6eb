//! Who may come to a Service's load balancer: `loadBalancerSourceRanges` as lists that boards know
//! by a number. Services with the same list share it.

use crate::podnet::Range;
use core::cmp::Ordering;
use core::net::Ipv4Addr;

/// The clients that a front takes; no ranges: nobody. Two are the same when their digests are.
#[derive(Debug, Clone)]
pub struct Sources {
    digest: u64,
    ranges: Vec<Range>,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Sources) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Sources {}

impl PartialOrd for Sources {
    fn partial_cmp(&self, other: &Sources) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sources {
    fn cmp(&self, other: &Sources) -> Ordering {
        self.digest.cmp(&other.digest)
    }
}

impl Sources {
    /// Reads a Service's list; `None` where everybody may come: no list, or all addresses in it.
    /// Spaces around a range are allowed, as in Kubernetes. What is no IPv4 range lets nobody in.
    pub fn read<'a>(list: impl IntoIterator<Item = &'a str>) -> Option<Sources> {
        let mut list = list.into_iter().peekable();
        list.peek()?;
        let mut ranges: Vec<Range> = list.filter_map(|text| range(text.trim())).collect();
        ranges.sort();
        let all = core::mem::take(&mut ranges);
        for range in all {
            // Sorted, one that holds others comes before them.
            if !ranges.last().is_some_and(|last| last.covers(&range)) {
                ranges.push(range);
            }
        }
        let everybody = ranges.first().is_some_and(|range| range.length() == 0);
        (!everybody).then(|| Sources { digest: digest(&ranges), ranges })
    }

    /// A list of which nothing but its digest is known.
    pub fn known_as(digest: u64) -> Sources {
        Sources { digest, ranges: Vec::new() }
    }

    /// What the list is known by.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Its ranges, none within another.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// True when a client with that address may come.
    pub fn take(&self, client: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(client))
    }
}

/// `a.b.c.d/n`, bits behind the prefix or not.
fn range(text: &str) -> Option<Range> {
    let (base, length) = text.split_once('/')?;
    let (base, length) = (base.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?);
    let mask = u32::MAX.checked_shl(32u32.checked_sub(length.into())?).unwrap_or(0);
    Range::new(Ipv4Addr::from(u32::from(base) & mask), length)
}

/// 64-bit FNV-1a.
fn digest(ranges: &[Range]) -> u64 {
    let bytes = ranges.iter().flat_map(|range| {
        let [a, b, c, d] = range.base().octets();
        [a, b, c, d, range.length()]
    });
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_its_ranges_however_they_are_written() {
        let read = |list: &[&str]| Sources::read(list.iter().copied());
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["192.0.2.0/24", "0.0.0.0/0"]), None);
        let one = read(&[" 192.0.2.7/24 ", "10.0.0.0/8", "10.1.0.0/16"]).expect("a list");
        let texts: Vec<String> = one.ranges().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.0/24"]);
        assert_eq!(read(&["10.0.0.0/8", "192.0.2.0/24"]), Some(one.clone()));
        assert_eq!(Sources::known_as(one.digest()), one);
        assert_ne!(read(&["10.0.0.0/9", "192.0.2.0/24"]), Some(one.clone()));
        assert!(one.take(Ipv4Addr::new(10, 9, 9, 9)) && one.take(Ipv4Addr::new(192, 0, 2, 1)));
        assert!(!one.take(Ipv4Addr::new(192, 0, 3, 1)));
        let nobody = read(&["fd00::/8", "x", "1.2.3.4/40"]).expect("a list");
        assert!(nobody.ranges().is_empty() && !nobody.take(Ipv4Addr::LOCALHOST));
    }
}
