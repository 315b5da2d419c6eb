//! The one place in a file of edged that says its version, found without running the file.

use super::Version;

/// What stands before the version. In small letters here, so that a program that looks for the
/// mark does not seem to hold one.
const BEFORE: &[u8; 14] = b"edged-version:";

/// Bytes of the mark: [`BEFORE`] in capitals, the version, spaces, and a semicolon.
pub const MARK_BYTES: usize = 48;

/// The mark of this version, to be kept in a `static` that is read when the program runs.
///
/// # Panics
/// At compile time, for a version that is too long.
pub const fn mark(version: &str) -> [u8; MARK_BYTES] {
    let mut out = [b' '; MARK_BYTES];
    let (version, mut at) = (version.as_bytes(), 0);
    while at < BEFORE.len() {
        out[at] = BEFORE[at].to_ascii_uppercase();
        at += 1;
    }
    let mut next = 0;
    while next < version.len() {
        out[at + next] = version[next];
        next += 1;
    }
    assert!(at + next < MARK_BYTES, "the version is too long");
    out[MARK_BYTES - 1] = b';';
    out
}

/// The version that a mark says, as text; `None` for what has not a mark's form.
pub fn said(mark: &[u8]) -> Option<&str> {
    let (before, rest) = mark.get(..MARK_BYTES)?.split_at(BEFORE.len());
    let small = std::hint::black_box(BEFORE);
    let same = before.iter().zip(small).all(|(byte, small)| *byte == small.to_ascii_uppercase());
    let text = rest.strip_suffix(b";").filter(|_| same)?;
    Some(std::str::from_utf8(text).ok()?.trim_end_matches(' '))
}

/// The version that a mark says; `None` for anything but a whole mark.
pub fn marked(mark: &[u8]) -> Option<Version> {
    Version::parse(said(mark)?)
}

/// Looks for the mark in a file that comes in pieces.
#[derive(Debug, Default)]
pub struct Scan {
    /// The end of the last piece, as a mark may lie across two.
    tail: Vec<u8>,
    found: Vec<Version>,
}

impl Scan {
    /// Looks into the next piece.
    pub fn take(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
        let mut at = 0;
        while at + MARK_BYTES <= self.tail.len() {
            let Some(next) = self.tail[at..].iter().position(|byte| *byte == b'E') else {
                at = self.tail.len();
                break;
            };
            at += next;
            if let Some(version) = marked(&self.tail[at..])
                && self.found.len() < 2
            {
                self.found.push(version);
            }
            if at + MARK_BYTES > self.tail.len() {
                break;
            }
            at += 1;
        }
        let keep = self.tail.len().saturating_sub(MARK_BYTES - 1).max(at.min(self.tail.len()));
        self.tail.drain(..keep);
    }

    /// The version, when the file has exactly one mark.
    pub fn version(self) -> Option<Version> {
        <[Version; 1]>::try_from(self.found).ok().map(|[version]| version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_pieces_end() {
        let mut file = b"some EEDGED code".to_vec();
        file.extend(mark("0.2.0-rc.1"));
        file.extend(b"EDGED-VERSION:not one    and more code");
        for size in [1, 7, 47, 48, 49, file.len()] {
            let mut scan = Scan::default();
            file.chunks(size).for_each(|piece| scan.take(piece));
            assert_eq!(scan.version(), Version::parse("0.2.0-rc.1"), "{size}");
        }
    }

    #[test]
    fn no_mark_and_two_marks_say_nothing() {
        let mut scan = Scan::default();
        scan.take(&[b'E'; 100]);
        scan.take(BEFORE);
        assert_eq!(scan.version(), None);
        let mut scan = Scan::default();
        scan.take(&[mark("0.1.0"), mark("0.2.0")].concat());
        assert_eq!(scan.version(), None);
        assert_eq!(marked(&[0; MARK_BYTES]), None);
        assert_eq!(marked(&mark("0.1.0")[..40]), None);
    }
}
