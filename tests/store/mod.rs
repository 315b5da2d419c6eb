//! The store on real files: what callers rely on, and what must survive a disk's worst days.

mod basics;
mod cluster;
mod faults;
mod full;
mod kill;
mod kills;
mod load;
pub(crate) mod memory;
mod model;
mod power;
mod recovery;
mod rest;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use edge_store::{Command, Expect, ListOptions, Op, Options, Store};

/// A directory of a test's own, gone with it.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    /// On a disk.
    pub(crate) fn new() -> Directory {
        Directory::under(&std::env::temp_dir())
    }

    /// In memory if the machine has room there, for tests that make thousands.
    pub(crate) fn quick() -> Directory {
        let memory = Path::new("/dev/shm");
        let usable = nix::unistd::access(memory, nix::unistd::AccessFlags::W_OK).is_ok();
        if usable { Directory::under(memory) } else { Directory::new() }
    }

    fn under(parent: &Path) -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("edge-store-{}-{number}", std::process::id());
        let path = parent.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// A copy of a store's directory that nobody has open.
    pub(crate) fn copy_of(other: &Path) -> Directory {
        let copy = Directory::quick();
        for part in ["log", "state"] {
            std::fs::create_dir_all(copy.0.join(part)).unwrap();
            for entry in std::fs::read_dir(other.join(part)).unwrap() {
                let from = entry.unwrap().path();
                std::fs::copy(&from, copy.0.join(part).join(from.file_name().unwrap())).unwrap();
            }
        }
        copy
    }

    /// The log's segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join("log")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths.sort();
        paths
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn put(key: &str, value: &str, expect: Expect) -> Command {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let ops = vec![Op::Put { key: key.to_owned(), value, stamp: None, expect }];
    Command { ops, term: None }
}

pub(crate) fn delete(key: &str, expect: Expect) -> Command {
    let last = Bytes::from_static(b"last");
    let ops = vec![Op::Delete { key: key.to_owned(), last, stamp: None, expect }];
    Command { ops, term: None }
}

pub(crate) fn open(dir: &Directory) -> Store {
    Store::open(&dir.0, Options::default()).unwrap()
}

/// Small segments, so that copies are quick and rotation happens.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 8 * 1024, ..Options::default() }
}

pub(crate) fn all(at: Option<u64>) -> ListOptions {
    ListOptions { at, ..ListOptions::default() }
}

/// Keys and values under a prefix.
pub(crate) fn pairs(store: &Store, prefix: &str, at: Option<u64>) -> Vec<(String, String)> {
    let listing = store.list(prefix, all(at)).unwrap();
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    listing.entries.iter().map(|entry| (entry.key.to_string(), text(&entry.value))).collect()
}

/// A small generator, so that a seed replays.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

/// Runs this test binary again with only the test `name`, which finds `dir` in `CHILD`.
pub(crate) fn child(name: &str, dir: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, dir);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command
}

/// Set for the children of tests.
pub(crate) const CHILD: &str = "EDGE_STORE_TEST_CHILD";

/// A test's full name, as the test binary knows it.
pub(crate) fn name_of(module: &str, test: &str) -> String {
    let path = module.split_once("::").map_or(module, |(_, path)| path);
    format!("{path}::{test}")
}
