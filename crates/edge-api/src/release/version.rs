//! Versions as Semantic Versioning 2.0.0 has them, and how far two may be apart in one cluster.

use std::cmp::Ordering;
use std::fmt;

/// Characters of a version, at most.
const MOST_CHARS: usize = 32;

/// A version: three numbers, and perhaps `-rc.1` or `+build` behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u32; 3],
    /// What stands behind the numbers, with its sign.
    rest: String,
}

/// How another version stands to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// They may work in one cluster: at most one minor version lies between.
    Near,
    /// The other one is too old.
    TooOld,
    /// The other one is too new; those between come first.
    TooNew,
}

impl Version {
    /// Reads `1.2.3`, `1.2.3-rc.1` or `1.2.3+build`, with a `v` before it or not.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        if text.len() > MOST_CHARS || !text.chars().all(sound) {
            return None;
        }
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut parts = numbers.split('.').map(|part| {
            let plain = !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| plain)
        });
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        let whole = parts.next().is_none() && rest.len() != 1;
        whole.then(|| Version { numbers, rest: rest.to_owned() })
    }

    /// The version of edged in what a Node says: `v1.33.0+edged.0.1.0`.
    pub fn of_kubelet(text: &str) -> Option<Version> {
        Version::parse(text.split_once("+edged.")?.1)
    }

    /// May boards of this version and of `other` be in one cluster, and change from one to the
    /// other?
    pub fn skew(&self, other: &Version) -> Skew {
        let line = |version: &Version| (version.numbers[0], version.numbers[1]);
        let (own, its) = (line(self), line(other));
        match own.0 == its.0 && own.1.abs_diff(its.1) <= 1 {
            true => Skew::Near,
            false if its < own => Skew::TooOld,
            false => Skew::TooNew,
        }
    }

    /// Whether this one was released before the other. A build's mark says nothing of that.
    pub fn is_before(&self, other: &Version) -> bool {
        self.released(other) == Ordering::Less
    }

    /// The order without builds' marks: by the numbers; then `-rc` comes before the release.
    fn released(&self, other: &Version) -> Ordering {
        let pre = |one: Option<&str>, two: Option<&str>| match (one, two) {
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (None, None) => Ordering::Equal,
            (Some(one), Some(two)) => parts(one, two),
        };
        self.numbers.cmp(&other.numbers).then_with(|| pre(self.before(), other.before()))
    }

    /// What comes before the release; a build's mark is no part of the order.
    fn before(&self) -> Option<&str> {
        let rest = self.rest.strip_prefix('-')?;
        Some(rest.split_once('+').map_or(rest, |(before, _)| before))
    }
}

impl Ord for Version {
    /// As they were released; and what is left is told apart, so that two that differ are never
    /// taken for one.
    fn cmp(&self, other: &Version) -> Ordering {
        self.released(other).then_with(|| self.rest.cmp(&other.rest))
    }
}

/// `rc.2` before `rc.10` before `rc.x`: numbers as numbers, and before words.
fn parts(one: &str, two: &str) -> Ordering {
    let key = |part: &str| match part.parse::<u64>() {
        Ok(number) => (0, number, String::new()),
        Err(_) => (1, 0, part.to_owned()),
    };
    one.split('.').map(key).cmp(two.split('.').map(key))
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}{}", self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_is_a_version() {
        for good in ["0.1.0", "1.2.3-rc.1", "1.2.3+b-1", "10.20.30-a+b"] {
            assert_eq!(version(good).to_string(), good);
        }
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "+1.2.3", "1.2.3-", "1.2.3 ", "1..3"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        assert_eq!(Version::parse(&format!("1.2.3-{}", "a".repeat(40))), None);
        assert_eq!(Version::of_kubelet("v1.33.0+edged.0.1.0"), Some(version("0.1.0")));
        assert_eq!(Version::of_kubelet("v1.33.0"), None);
    }

    #[test]
    fn they_have_an_order() {
        let order = ["0.9.9", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-rc.x", "1.0.0", "1.0.1"];
        for pair in order.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_ne!(version("1.0.0").cmp(&version("1.0.0+b")), Ordering::Equal);
        assert!(!version("1.0.0").is_before(&version("1.0.0+b")));
        assert!(version("1.0.0-rc.2+b").is_before(&version("1.0.0-rc.10")));
    }

    #[test]
    fn one_minor_may_lie_between() {
        for (own, other, skew) in [
            ("0.2.0", "0.2.9", Skew::Near),
            ("0.2.0", "0.1.0", Skew::Near),
            ("0.2.0", "0.3.0-rc.1", Skew::Near),
            ("0.2.0", "0.0.9", Skew::TooOld),
            ("0.2.0", "0.4.0", Skew::TooNew),
            ("0.9.0", "1.0.0", Skew::TooNew),
            ("1.0.0", "0.9.0", Skew::TooOld),
        ] {
            assert_eq!(version(own).skew(&version(other)), skew, "{own} {other}");
        }
    }
}
