//! Writing where a partition is mounted for reading only, as boot partitions often are: it is
//! opened for that long.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::mounts::{self, Mount};

/// What was done, and how the partition is left.
#[derive(Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// What the writing gave.
    pub value: T,
    /// Why the partition is open for writing still, and what a person could type.
    pub left_open: Option<String>,
}

/// Does what writes to this file or into this directory, and again with its partition opened, if it
/// was for reading only. Never the board's root, nor what the kernel has closed by itself: that is
/// so on purpose, or since a disk failed.
///
/// # Errors
/// What the writing came to, or why the partition does not open and what a person could type.
pub fn opened<T>(path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<Done<T>> {
    match act() {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {}
        other => return other.map(|value| Done { value, left_open: None }),
    }
    let path = path.canonicalize()?;
    let table = mounts::table()?;
    let Some(found) = mounts::above(&table, &path) else {
        return Err(ErrorKind::ReadOnlyFilesystem.into());
    };
    let top = found.point.as_path();
    let shown = top.display();
    let refused = |why: &dyn Display| {
        let what = format!(
            "{shown} is mounted for reading only{why}; if its disk is well (dmesg), \
             `mount -o remount,rw {shown}`, and try again"
        );
        Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, what))
    };
    let root = mounts::above(&table, Path::new("/"));
    let is_root = root.is_some_and(|root| root.device == found.device);
    let Some(ways) = ways(&found).filter(|_| !is_root) else { return refused(&"") };
    let remount = |flags: MsFlags| mount(None::<&str>, top, None::<&str>, flags, None::<&str>);
    if let Err(errno) = remount(ways.open) {
        return refused(&format!(" and does not open ({})", errno.desc()));
    }
    let done = act();
    // A file system that can't do that for a directory has done it for its files.
    let _ = File::open(top).and_then(|dir| dir.sync_all());
    let left_open = remount(ways.close).err().map(|errno| {
        format!(
            "{shown} stays mounted for writing ({}): `mount -o remount,ro {shown}` closes it",
            errno.desc()
        )
    });
    match (done, left_open) {
        (Ok(value), left_open) => Ok(Done { value, left_open }),
        (Err(error), None) => Err(error),
        (Err(error), Some(open)) => Err(io::Error::new(error.kind(), format!("{error}; {open}"))),
    }
}

/// The flags that open a mount, and those that make it again what it was.
#[derive(Debug, PartialEq, Eq)]
struct Ways {
    open: MsFlags,
    close: MsFlags,
}

/// How a mount is opened and closed again; `None` for one that nobody closed: if its file system
/// can't be written to, that is the kernel's doing, after an error.
///
/// A remount drops each flag that it does not repeat. Options of the kind of file system alone
/// (`fmask`, `errors`) stay as they are where none are given.
fn ways(mount: &Mount<'_>) -> Option<Ways> {
    let (own, shared) = (flags(&OWN, mount.own), flags(&SHARED, mount.shared));
    // What is neither is strict, which has no word; given nothing, the kernel takes relatime.
    let strict = (own & (MsFlags::MS_NOATIME | MsFlags::MS_RELATIME)).is_empty();
    let own = if strict { own | MsFlags::MS_STRICTATIME } else { own };
    let closed = |flags: MsFlags| flags.contains(MsFlags::MS_RDONLY);
    let all = match (closed(own), closed(shared)) {
        (false, _) => return None,
        // The file system is open, as others may have it mounted: only this mount changes.
        (true, false) => MsFlags::MS_REMOUNT | MsFlags::MS_BIND | own,
        (true, true) => MsFlags::MS_REMOUNT | own | shared,
    };
    Some(Ways { open: all - MsFlags::MS_RDONLY, close: all })
}

fn flags(known: &[(&str, MsFlags)], options: &str) -> MsFlags {
    let set = known.iter().filter(|(word, _)| options.split(',').any(|option| option == *word));
    set.map(|(_, flag)| *flag).collect()
}

/// What the table of mounts says of one mount.
const OWN: [(&str, MsFlags); 8] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("nosymfollow", MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW)),
];
/// What it says of a file system, of whichever kind.
const SHARED: [(&str, MsFlags); 5] = [
    ("ro", MsFlags::MS_RDONLY),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("mand", MsFlags::MS_MANDLOCK),
    ("lazytime", MsFlags::MS_LAZYTIME),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn of(own: &str, shared: &str) -> Option<(MsFlags, MsFlags)> {
        let ways = ways(&Mount { point: "/boot".into(), device: "179:1", own, shared })?;
        assert_eq!(ways.close - ways.open, MsFlags::MS_RDONLY, "one opens what the other closes");
        Some((ways.open - MsFlags::MS_REMOUNT, ways.close))
    }

    #[test]
    fn a_remount_repeats_what_the_table_says() {
        let strict = MsFlags::MS_STRICTATIME;
        let own = "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow";
        let shared = "ro,sync,dirsync,mand,lazytime,fmask=0022,errors=remount-ro";
        let (open, _) = of(own, shared).unwrap();
        let all = OWN.iter().chain(&SHARED).map(|(_, flag)| *flag).collect::<MsFlags>();
        assert_eq!(open, all - MsFlags::MS_RDONLY - MsFlags::MS_NOATIME);
        assert_eq!(of("ro,noatime", "ro").unwrap().0, MsFlags::MS_NOATIME);
        assert_eq!(of("ro", "ro,errors=lazytime").unwrap().0, strict);
        assert_eq!(of("ro,nodiratime", "ro").unwrap().0, strict | MsFlags::MS_NODIRATIME);
    }

    #[test]
    fn only_what_is_closed_is_opened() {
        let (open, close) = of("ro,relatime", "rw,lazytime").unwrap();
        let bound = MsFlags::MS_BIND | MsFlags::MS_RELATIME;
        assert_eq!((open, close), (bound, bound | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY));
        for shared in ["ro,errors=remount-ro", "rw,emergency_ro"] {
            assert_eq!(of("rw,relatime", shared), None, "the kernel closed it: {shared}");
        }
    }

    #[test]
    fn what_does_not_write_opens_nothing() {
        let done = opened(Path::new("/nowhere"), || Ok(7)).unwrap();
        assert_eq!(done, Done { value: 7, left_open: None });
        let other = || Err::<(), _>(ErrorKind::StorageFull.into());
        assert_eq!(opened(Path::new("/"), other).unwrap_err().kind(), ErrorKind::StorageFull);
        let closed = || Err::<(), _>(ErrorKind::ReadOnlyFilesystem.into());
        let said = opened(Path::new("/"), closed).unwrap_err().to_string();
        assert!(said.contains("`mount -o remount,rw /`"), "{said}");
    }

    /// A file system of its own, for reading only.
    struct Closed(PathBuf);

    impl Closed {
        fn new(name: &str, flags: MsFlags) -> Option<Closed> {
            let dir = std::env::temp_dir().join(format!("edged-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let all = flags | MsFlags::MS_RDONLY;
            if mount(Some("edt"), &dir, Some("tmpfs"), all, Some("size=64k")).is_err() {
                eprintln!("SKIPPED: nobody may mount here");
                return None;
            }
            Some(Closed(dir))
        }

        /// Its options in the kernel's words.
        fn options(&self) -> (String, String) {
            let table = mounts::table().unwrap();
            let found = mounts::above(&table, &self.0).unwrap();
            assert_eq!(found.point, self.0);
            (found.own.to_owned(), found.shared.to_owned())
        }
    }

    impl Drop for Closed {
        fn drop(&mut self) {
            let _ = nix::mount::umount(&self.0);
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_partition_is_afterwards_what_it_was() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODIRATIME | MsFlags::MS_RELATIME;
        for flags in [flags | MsFlags::MS_LAZYTIME, MsFlags::MS_STRICTATIME, MsFlags::MS_NOATIME] {
            let Some(closed) = Closed::new("opened", flags) else { return };
            let before = closed.options();
            assert!(before.0.starts_with("ro") && before.1.starts_with("ro"), "{before:?}");
            let file = closed.0.join("a");
            assert_eq!(opened(&closed.0, || std::fs::write(&file, "")).unwrap().left_open, None);
            assert!(file.exists());
            assert_eq!(closed.options(), before);
        }
    }

    #[test]
    fn one_that_stays_open_is_told_and_what_was_done_stays_done() {
        let Some(closed) = Closed::new("stays-open", MsFlags::empty()) else { return };
        // Whoever has a file open for writing keeps its partition open.
        let file = closed.0.join("a");
        let done = opened(&closed.0, || File::create(&file)).unwrap();
        let told = done.left_open.unwrap();
        assert!(told.contains("stays mounted for writing (Device or resource busy)"), "{told}");
        assert!(told.contains(&format!("remount,ro {}", closed.0.display())), "{told}");
    }
}
