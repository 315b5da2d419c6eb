//! Address ranges, and which pod has which address of the board's own range. Addresses go
//! round: a freed one comes back only after all the others had their turn, so that nobody's
//! stale idea of an address meets a new pod.

use super::error::NetError;
use edge_core::podnet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// Which address of the Services' range is the DNS server's.
const DNS: u32 = 10;

/// An IPv4 range, `10.42.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    base: u32,
    length: u8,
}

impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.base(), self.length)
    }
}

impl From<Range> for podnet::Range {
    fn from(range: Range) -> podnet::Range {
        podnet::Range::new(range.base(), range.length)
            .expect("invariant: a range has no bits behind its prefix")
    }
}

impl Range {
    /// Reads `a.b.c.d/n`; bits below the prefix must be zero.
    pub(super) fn parse(setting: &'static str, text: &str) -> Result<Range, NetError> {
        let bad = |reason: &str| NetError::Config {
            setting,
            value: text.to_owned(),
            reason: format!("{reason}; write an IPv4 range such as 10.42.0.0/16"),
        };
        let (base, length) = text.split_once('/').ok_or_else(|| bad("no prefix length"))?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad("not an IPv4 address"))?;
        let length: u8 = length.parse().map_err(|_| bad("not a prefix length"))?;
        if !(1..=30).contains(&length) {
            return Err(bad("the prefix length must be from 1 to 30"));
        }
        let range = Range { base: u32::from(base), length };
        if range.base & !range.mask() != 0 {
            return Err(bad("bits are set behind the prefix"));
        }
        Ok(range)
    }

    /// The first address, that of the range itself.
    pub(super) fn base(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// The prefix length.
    pub(super) fn length(&self) -> u8 {
        self.length
    }

    /// The prefix as bits.
    pub(super) fn mask(&self) -> u32 {
        u32::MAX << (32 - self.length)
    }

    /// The board's own address in the range of its pods: the first one.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The address that clusters give to their DNS, the tenth of the Services' range; none in a
    /// range too small for it.
    pub(super) fn dns(&self) -> Option<Ipv4Addr> {
        (self.length <= 28).then(|| Ipv4Addr::from(self.base + DNS))
    }

    /// True for an address within.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.base
    }

    /// True when some address lies in both.
    pub(super) fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.base()) || other.contains(self.base())
    }

    fn last(&self) -> u32 {
        self.base | !self.mask()
    }
}

/// The addresses of a range and the pods that have them.
#[derive(Debug)]
pub(super) struct Pool {
    range: Range,
    used: BTreeMap<u32, String>,
    /// Addresses that pods had before the board's last boot.
    kept: BTreeMap<String, u32>,
    last: u32,
}

impl Pool {
    /// A pool with nothing taken; `last` is the address that was given out last.
    pub(super) fn new(range: Range, last: Option<Ipv4Addr>) -> Pool {
        let last = last.filter(|last| range.contains(*last)).unwrap_or(range.gateway());
        Pool { range, used: BTreeMap::new(), kept: BTreeMap::new(), last: u32::from(last) }
    }

    /// Keeps an address for a pod that may come; others get it when there is no other.
    pub(super) fn keep(&mut self, address: Ipv4Addr, uid: &str) {
        let address = u32::from(address);
        let own = u32::from(self.range.gateway()) + 1..self.range.last();
        if own.contains(&address) && !self.used.contains_key(&address) {
            self.kept.insert(uid.to_owned(), address);
        }
    }

    /// Marks an address as a pod's.
    pub(super) fn mark(&mut self, address: Ipv4Addr, uid: &str) {
        self.used.insert(u32::from(address), uid.to_owned());
    }

    /// Takes the next free address for a pod.
    pub(super) fn take(&mut self, uid: &str) -> Result<Ipv4Addr, NetError> {
        let first = u32::from(self.range.gateway()) + 1;
        let end = self.range.last();
        let from = (self.last + 1).clamp(first, end);
        let free = |address: &u32| !self.used.contains_key(address);
        if let Some(address) = self.kept.remove(uid).filter(free) {
            self.used.insert(address, uid.to_owned());
            return Ok(Ipv4Addr::from(address));
        }
        let kept = |address: &u32| self.kept.values().any(|other| other == address);
        let round = || (from..end).chain(first..from).filter(free);
        let Some(address) = round().find(|address| !kept(address)).or_else(|| round().next())
        else {
            return Err(NetError::NoAddressLeft { range: self.range.to_string() });
        };
        self.used.insert(address, uid.to_owned());
        self.last = address;
        Ok(Ipv4Addr::from(address))
    }

    /// True for an address that a pod has.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.used.contains_key(&u32::from(address))
    }

    /// Gives an address back; only its owner can.
    pub(super) fn free(&mut self, address: Ipv4Addr, uid: &str) {
        let address = u32::from(address);
        if self.used.get(&address).is_some_and(|owner| owner == uid) {
            self.used.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse("pod-cidr", text).expect("a range")
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused_in_words() {
        for (text, word) in [
            ("10.42.0.0", "no prefix"),
            ("10.42.0/24", "IPv4 address"),
            ("10.42.0.1/24", "behind the prefix"),
            ("10.42.0.0/33", "from 1 to 30"),
            ("10.42.0.0/x", "prefix length"),
            ("fd00::/64", "IPv4 address"),
        ] {
            let error = Range::parse("pod-cidr", text).expect_err(text).to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn overlaps() {
        assert!(range("10.42.0.0/16").overlaps(&range("10.42.7.0/24")));
        assert!(range("10.42.7.0/24").overlaps(&range("10.42.0.0/16")));
        assert!(!range("10.42.0.0/16").overlaps(&range("10.43.0.0/16")));
    }

    #[test]
    fn addresses_go_round_and_none_is_given_twice() {
        let mut pool = Pool::new(range("10.42.0.0/29"), None);
        let all: Vec<_> = (0..5).map(|i| pool.take(&i.to_string()).expect("free")).collect();
        assert_eq!(all[0], Ipv4Addr::new(10, 42, 0, 2));
        assert_eq!(all[4], Ipv4Addr::new(10, 42, 0, 6));
        let full = pool.take("x").expect_err("full").to_string();
        assert!(full.contains("10.42.0.0/29"), "{full}");
        pool.free(all[3], "3");
        pool.free(all[1], "1");
        pool.free(all[0], "another pod's");
        assert_eq!(pool.take("a").expect("free"), all[1], "the next one round");
        assert_eq!(pool.take("b").expect("free"), all[3]);
    }

    #[test]
    fn an_address_is_kept_for_a_pod_that_may_come_back() {
        let mut pool = Pool::new(range("10.42.0.0/29"), None);
        let ip = |n| Ipv4Addr::new(10, 42, 0, n);
        for (n, uid) in [(2, "a"), (4, "b"), (1, "gateway"), (7, "broadcast")] {
            pool.keep(ip(n), uid);
        }
        let mut take = |uid: &str| pool.take(uid).expect("free");
        assert_eq!([take("x"), take("b"), take("y")], [ip(3), ip(4), ip(5)]);
        assert_eq!([take("gateway"), take("z")], [ip(6), ip(2)], "others had their turn");
        assert!(pool.take("a").is_err());
    }

    #[test]
    fn a_freed_address_rests_until_the_others_had_their_turn() {
        let mut pool = Pool::new(range("10.42.0.0/28"), Some(Ipv4Addr::new(10, 42, 0, 9)));
        let first = pool.take("a").expect("free");
        assert_eq!(first, Ipv4Addr::new(10, 42, 0, 10));
        pool.free(first, "a");
        let mut turns = 0;
        loop {
            let next = pool.take("b").expect("free");
            pool.free(next, "b");
            if next == first {
                break;
            }
            turns += 1;
        }
        assert_eq!(turns, 12);
    }
}
