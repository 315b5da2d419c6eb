//! Addresses of the LAN that Services may have: what `--lan-pool` says, read once.

use crate::podnet::Range;
use core::net::Ipv4Addr;
use std::fmt;

/// Addresses that a pool has at most: more than anybody's LAN.
const MOST: u32 = 65_536;

/// Spans of addresses, in order, none within another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LanPool {
    /// First and last address of each.
    spans: Vec<(u32, u32)>,
}

/// Why a pool can't be used: its text, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolError {
    /// As it was written.
    pub text: String,
    /// What to know about it.
    pub reason: String,
}

impl fmt::Display for PoolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.text, self.reason)
    }
}

impl std::error::Error for PoolError {}

impl LanPool {
    /// Reads spans such as `192.168.1.240-192.168.1.250`, `192.168.1.240/28` (without its first
    /// and last address) or a single address.
    ///
    /// # Errors
    /// Names the first text that can't be used.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<LanPool, PoolError> {
        let mut pool = LanPool::default();
        for text in texts {
            let bad = |reason: &str| PoolError { text: text.to_owned(), reason: reason.to_owned() };
            let (first, last) = span(text.trim()).ok_or_else(|| {
                bad("write addresses of the LAN as 192.168.1.240-192.168.1.250 or 192.168.1.240/28")
            })?;
            if last < first {
                return Err(bad("the last address comes before the first"));
            }
            if last - first >= MOST {
                return Err(bad("more than 65536 addresses"));
            }
            for address in [first, last].map(Ipv4Addr::from) {
                let odd = address.is_loopback() || address.is_multicast() || address.is_broadcast();
                if odd || address.octets()[0] == 0 || address.octets()[0] >= 224 {
                    return Err(bad("no addresses that hosts may have"));
                }
            }
            if pool.spans.iter().any(|(a, b)| *a <= last && first <= *b) {
                return Err(bad("some of its addresses are named twice"));
            }
            pool.spans.push((first, last));
            pool.spans.sort_unstable();
        }
        Ok(pool)
    }

    /// True where Services get the addresses of boards.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// True for an address of the pool.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.spans.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// True when some address is in the range as well.
    pub fn overlaps(&self, range: &Range) -> bool {
        let ends = self.spans.iter().flat_map(|(first, last)| [*first, *last]);
        ends.map(Ipv4Addr::from).any(|end| range.contains(end)) || self.contains(range.base())
    }

    /// Its addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.spans.iter().flat_map(|(first, last)| *first..=*last).map(Ipv4Addr::from)
    }
}

impl fmt::Display for LanPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.spans.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(out, "{comma}{}-{}", Ipv4Addr::from(*first), Ipv4Addr::from(*last))?;
        }
        Ok(())
    }
}

fn span(text: &str) -> Option<(u32, u32)> {
    let address = |text: &str| text.trim().parse::<Ipv4Addr>().ok().map(u32::from);
    if let Some((first, last)) = text.split_once('-') {
        return Some((address(first)?, address(last)?));
    }
    if !text.contains('/') {
        return address(text).map(|one| (one, one));
    }
    let range = Range::parse(text)?;
    let (first, rest) = (u32::from(range.base()), u32::MAX.checked_shr(range.length().into()));
    let last = first | rest.unwrap_or(0);
    // The network's own address and the one of everybody in it are nobody's.
    Some(if range.length() < 31 { (first + 1, last - 1) } else { (first, last) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_read_or_refused_by_name() {
        let pool = LanPool::parse(["192.0.2.240-192.0.2.241", "192.0.2.248/30", "192.0.2.9"]);
        let pool = pool.expect("a pool");
        let all: Vec<u8> = pool.addresses().map(|ip| ip.octets()[3]).collect();
        assert_eq!(all, [9, 240, 241, 249, 250]);
        let shown = "192.0.2.9-192.0.2.9, 192.0.2.240-192.0.2.241, 192.0.2.249-192.0.2.250";
        assert_eq!(pool.to_string(), shown);
        assert!(pool.contains(Ipv4Addr::new(192, 0, 2, 240)));
        assert!(!pool.contains(Ipv4Addr::new(192, 0, 2, 242)));
        for (range, overlaps) in
            [("192.0.2.240/32", true), ("192.0.0.0/16", true), ("192.0.2.242/31", false)]
        {
            assert_eq!(pool.overlaps(&Range::parse(range).expect("a range")), overlaps, "{range}");
        }
        for (text, words) in [
            ("x", "write addresses"),
            ("192.0.2.1/24", "write addresses"),
            ("fd00::1-fd00::2", "write addresses"),
            ("192.0.2.9-192.0.2.1", "comes before"),
            ("10.0.0.0/8", "more than 65536"),
            ("127.0.0.1", "no addresses that hosts"),
            ("224.0.0.1-224.0.0.9", "no addresses that hosts"),
        ] {
            let error = LanPool::parse([text]).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains(words), "{error}");
        }
        assert!(LanPool::parse(["192.0.2.1-192.0.2.9", "192.0.2.9"]).is_err(), "named twice");
    }
}
