//! A domain name, kept as it stands in a message: labels with their lengths, and the root.

use std::fmt;

/// Bytes of a name at most, and of one label.
const NAME: usize = 255;
const LABEL: usize = 63;
/// Jumps within a message that one name may take.
const JUMPS: usize = 32;

/// A name. Two names are the same when they differ in nothing but case: compare [`Name::lower`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            write!(out, "{}.", label.escape_ascii())?;
        }
        if self.0.len() <= 1 { out.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Name {
    /// Reads `a.b.c`, with or without the dot at the end; none if it is no name.
    pub fn new(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let labels = text.split('.').filter(|_| !text.is_empty());
        Name::from_labels(labels.map(str::as_bytes))
    }

    /// Puts labels together; none if one is empty or too long, or all are.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Name> {
        let mut out = Vec::with_capacity(64);
        for label in labels {
            let length =
                u8::try_from(label.len()).ok().filter(|n| (1..=LABEL).contains(&(*n).into()));
            out.push(length?);
            out.extend_from_slice(label);
        }
        out.push(0);
        (out.len() <= NAME).then_some(Name(out))
    }

    /// Reads the name at `at` of a message; gives where what follows it begins.
    pub fn read(packet: &[u8], at: usize) -> Option<(Name, usize)> {
        let mut out = Vec::with_capacity(64);
        let (mut at, mut after, mut jumps) = (at, None, 0);
        // Where the part that is read begins, and where it has to end.
        let (mut start, mut bound) = (at, packet.len());
        loop {
            let length = *packet.get(at).filter(|_| at < bound)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = packet.get(at..at + 1 + usize::from(length))?;
                    out.extend_from_slice(label);
                    at += label.len();
                }
                0xc0.. => {
                    let to = usize::from(super::u16_at(packet, at)? & 0x3fff);
                    after = after.or(Some(at + 2));
                    jumps += 1;
                    // Only to what stands before all of this, so that it ends.
                    if to >= start || jumps > JUMPS {
                        return None;
                    }
                    (bound, start, at) = (start, to, to);
                }
                _ => return None,
            }
            if out.len() >= NAME {
                return None;
            }
        }
        out.push(0);
        Some((Name(out), after.unwrap_or(at + 1)))
    }

    /// As it stands in a message, without references.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, from the left.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let label = after.get(..usize::from(*length)).filter(|label| !label.is_empty())?;
            rest = &after[label.len()..];
            Some(label)
        })
    }

    /// In small letters.
    #[must_use]
    pub fn lower(&self) -> Name {
        // Lengths are below 64, and no letters.
        Name(self.0.to_ascii_lowercase())
    }

    /// The labels before `zone`, from the left, if this is `zone` or lies in it. Both are in
    /// small letters.
    pub fn within<'a>(&'a self, zone: &Name) -> Option<Vec<&'a [u8]>> {
        let mut labels: Vec<&[u8]> = self.labels().collect();
        let zone: Vec<&[u8]> = zone.labels().collect();
        let inner = labels.len().checked_sub(zone.len())?;
        let inside = labels[inner..] == zone[..];
        labels.truncate(inner);
        inside.then_some(labels)
    }
}
