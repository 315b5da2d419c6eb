//! A file system that is really full: a small tmpfs, which needs root.

use std::path::Path;

use edge_store::{Expect, Options, ProposeError, Store};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Directory, pairs, put};

struct Mounted(Directory);

impl Mounted {
    /// A tmpfs of 16 MiB; `None`, loudly, where that is not allowed.
    fn new() -> Option<Mounted> {
        let dir = Directory::new();
        let size = Some("size=16m");
        match mount(Some("tmpfs"), &dir.0, Some("tmpfs"), MsFlags::empty(), size) {
            Ok(()) => Some(Mounted(dir)),
            Err(error) => {
                eprintln!("SKIPPED: the full-disk test needs root to mount a tmpfs: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0.0, MntFlags::MNT_DETACH);
    }
}

/// Writes until the disk is full; answers what was acknowledged.
async fn fill(store: &Store, prefix: &str, value: &str) -> Vec<String> {
    let mut written = Vec::new();
    for number in 0..2000 {
        let key = format!("{prefix}/{number:04}");
        match store.propose(put(&key, value, Expect::Absent)).await {
            Ok(_) => written.push(key),
            Err(ProposeError::Full { .. }) => return written,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk did not run full");
}

fn keys(store: &Store) -> Vec<String> {
    pairs(store, "", None).into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_ends() {
    let Some(mounted) = Mounted::new() else { return };
    let options = Options { segment_bytes: 256 * 1024, ..Options::default() };
    let dir = mounted.path().join("store");
    let ballast = mounted.path().join("ballast");
    std::fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let store = Store::open(&dir, options.clone()).unwrap();
    let value = "v".repeat(40_000);
    let mut expected = fill(&store, "a", &value).await;
    assert!(expected.len() > 20, "{}", expected.len());
    assert_eq!(keys(&store), expected, "reads go on");

    // Killed while full: a copy of the directory elsewhere is what a restart finds.
    let copy = Directory::copy_of(&dir);
    let found = keys(&Store::open(&copy.0, options.clone()).unwrap());
    assert_eq!(found, expected, "what was refused is not there, what was acknowledged is");

    std::fs::remove_file(&ballast).unwrap();
    let more = fill(&store, "b", &value).await;
    assert!(more.len() > 20, "writes go on once there is room: {}", more.len());
    expected.extend(more);
    store.close().await;

    // A store on a full disk still opens and answers.
    let rest = std::fs::write(mounted.path().join("rest"), vec![1; 16 << 20]);
    assert!(rest.is_err());
    let store = Store::open(&dir, options).unwrap();
    assert_eq!(keys(&store), expected);
    std::fs::remove_file(mounted.path().join("rest")).unwrap();
    store.close().await;
}
