//! The kernel's table of mounts, as `/proc/self/mountinfo` has it (proc_pid_mountinfo(5)).

use std::io;
use std::path::{Path, PathBuf};

/// One line of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// Where it is.
    pub(crate) point: PathBuf,
    /// The numbers of its device.
    pub(crate) device: &'a str,
    /// Options of this mount.
    pub(crate) own: &'a str,
    /// Options of the file system, wherever it is mounted.
    pub(crate) shared: &'a str,
}

/// The table, for [`parse`].
///
/// # Errors
/// When it can't be read.
pub(crate) fn table() -> io::Result<String> {
    std::fs::read_to_string("/proc/self/mountinfo")
}

/// What is mounted, in the order in which it was.
pub(crate) fn parse(table: &str) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut fields = head.split(' ').skip(2);
        let (device, point) = (fields.next()?, fields.nth(1)?);
        let (own, shared) = (fields.next()?, tail.split(' ').nth(2)?);
        Some(Mount { point: unescape(point).into(), device, own, shared })
    })
}

/// What a path without links in it is on: of those that are mounted above it the innermost, and of
/// those at one place the last.
pub(crate) fn above<'a>(table: &'a str, path: &Path) -> Option<Mount<'a>> {
    let above = parse(table).filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// Undoes mountinfo's octal escapes.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = field.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let octal = rest.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = octal.and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                out.push(code);
                bytes = &rest[3..];
            }
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
                         30 22 0:30 / /boot rw shared:7 master:2 - autofs systemd-1 rw,fd=34\n\
                         31 30 179:1 / /boot ro,nosuid - vfat /dev/mmcblk0p1 ro,lazytime\n\
                         32 22 0:3 / /run/a\\040b\\134 rw - tmpfs t rw\n\
                         cut";

    #[test]
    fn a_line_has_optional_fields_and_escapes() {
        let all: Vec<Mount<'_>> = parse(TABLE).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert_eq!((all[1].own, all[1].shared, all[1].device), ("rw", "rw,fd=34", "0:30"));
        assert_eq!((all[2].own, all[2].shared), ("ro,nosuid", "ro,lazytime"));
        assert_eq!(all[3].point, Path::new("/run/a b\\"));
    }

    #[test]
    fn a_path_is_on_the_innermost_and_the_last() {
        let on = |path: &str| above(TABLE, Path::new(path)).map(|mount| mount.device);
        assert_eq!(on("/boot/cmdline.txt"), Some("179:1"));
        assert_eq!(on("/bootleg"), Some("179:2"), "names that begin alike");
        assert_eq!(above("", Path::new("/")), None);
    }
}
