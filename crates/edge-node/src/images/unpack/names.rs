//! Paths inside a layer, as bytes: cleaned of everything that could lead elsewhere.

use super::bad;
use std::io;

/// Prefix of a name that hides the rest of the name in the layers beneath.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// Hides all that the layers beneath have in this directory.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Leftovers of aufs, of no meaning.
pub(super) const AUFS: &[u8] = b".wh..wh.";

const COMPONENT_MAX: usize = 255;
const PATH_MAX: usize = 4095;

/// Removes empty and `.` components, leading slashes and inner `..`. What leads out is refused.
pub(super) fn clean(path: &[u8]) -> io::Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(bad("it leads out of the layer with \"..\""));
                }
            }
            part if part.len() > COMPONENT_MAX => {
                return Err(bad(format!("a name longer than {COMPONENT_MAX} bytes")));
            }
            part => parts.push(part),
        }
    }
    let clean = parts.join(&b'/');
    if clean.len() > PATH_MAX {
        return Err(bad(format!("a path longer than {PATH_MAX} bytes")));
    }
    Ok(clean)
}

/// Parent and last component of a clean path; `None` for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        None => (b"", path),
        Some(at) => (&path[..at], &path[at + 1..]),
    })
}

/// A child of a clean path.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

/// The components of a clean path.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_never_lead_out() {
        for (dirty, expected) in [
            (&b"a/b"[..], &b"a/b"[..]),
            (b"./a//b/.", b"a/b"),
            (b"/etc/passwd", b"etc/passwd"),
            (b"a/../b", b"b"),
            (b"./", b""),
            (b"", b""),
            (b"\xff\n/ ", b"\xff\n/ "),
        ] {
            assert_eq!(clean(dirty).unwrap(), expected);
        }
        for bad in [&b".."[..], b"../x", b"a/../../x", b"/../x", b"./.."] {
            assert!(clean(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(clean(&[b'a'; 256]).is_err());
        assert!(clean(&b"ab/".repeat(2000)).is_err());
    }

    #[test]
    fn split_and_join_are_inverse() {
        assert_eq!(split(b""), None);
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
    }
}
