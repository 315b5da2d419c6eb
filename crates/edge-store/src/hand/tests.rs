//! What a writer refuses to do.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edge_core::consensus::{LogEntry, MemberInfo};

use super::*;
use crate::command::{Command, Expect, Op};
use crate::home::Home;
use crate::install;
use crate::log::LogConfig;
use crate::log::disk::RealDisk;
use crate::open::{Opener, open};
use crate::store::Founding;

/// A writer on files of its own, which go with it.
struct Bench {
    hand: Hand,
    dir: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Bench {
        let dir = std::env::temp_dir().join(format!("hand-{name}-{}", std::process::id()));
        let home = Home::take(&dir).expect("a directory");
        let config =
            LogConfig { dir: home.log(), disk: Arc::new(RealDisk), segment_bytes: 64 * 1024 };
        let (name, address) = ("lone".to_owned(), String::new());
        let me = MemberInfo { id: 1, name, api: address.clone(), broker: address };
        let opener = Opener { me, founding: Founding::Found, begun: false, config, fresh: 7 };
        let (replica, _) = open(home, &opener).expect("it opens");
        Bench { hand: Hand::new(replica), dir }
    }

    /// Applies entries of these indices and terms; says why no more are taken, if so.
    fn apply(&mut self, entries: &[(u64, u64)]) -> Option<String> {
        let committed = |(index, term): &(u64, u64)| {
            let (key, value) = (format!("key/{index}"), Bytes::from_static(b"value"));
            let put = Op::Put { key, value, stamp: None, expect: Expect::Any };
            let data = Bytes::from(Command { ops: vec![put], term: None }.encode());
            let entry = LogEntry { term: *term, index: *index, kind: EntryKind::Command, data };
            Committed { entry, origin: None }
        };
        self.hand.take([Work::Apply(entries.iter().map(committed).collect())]);
        while self.hand.step() {}
        self.hand.broken.clone()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_gap_in_what_was_committed_stops_the_writer() {
    let mut bench = Bench::new("gap");
    assert_eq!(bench.apply(&[(1, 1), (2, 1)]), None);
    assert_eq!(bench.apply(&[(1, 1), (2, 1), (3, 2)]), None, "given again after a rebirth");
    let why = bench.apply(&[(4, 2), (6, 2), (7, 2)]).expect("entry 5 is missing");
    assert!(why.contains("entry 6") && why.contains("follow entry 4"), "{why}");
    assert_eq!(bench.hand.replica.head().index, 4, "nothing behind the gap");
    assert!(bench.apply(&[(5, 2)]).is_some());
    assert_eq!(bench.hand.replica.head().index, 4, "and nothing ever after");
}

#[test]
fn an_entry_of_an_earlier_term_stops_the_writer() {
    let mut bench = Bench::new("term");
    let why = bench.apply(&[(1, 3), (2, 2)]).expect("terms never fall");
    assert!(why.contains("term 2") && why.contains("term 3"), "{why}");
    assert_eq!(bench.hand.replica.head().index, 1);
}

/// What lies in a store's directory.
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_that_broke_off_leaves_nothing_and_takes_nothing_along() {
    let mut bench = Bench::new("broken-off");
    assert_eq!(bench.apply(&[(1, 1), (2, 1)]), None);
    let mut whole = Vec::new();
    crate::snapshot::write(&bench.hand.replica.shared, &mut whole).expect("a snapshot");
    let opened = bench.hand.replica.home.clone();
    let broken_off = |fresh: u64| {
        for (n, cut) in (0..).zip([0, 4, whole.len() / 2, whole.len() - 1]) {
            assert!(install::build(&opened, fresh + n, &mut &whole[..cut]).is_err());
        }
    };
    let before = names(&bench.dir);
    broken_off(16);
    assert_eq!(names(&bench.dir), before);
    // One that came whole and is not needed: this member has all of it.
    let built = install::build(&opened, 32, &mut &whole[..]).expect("a state");
    assert!(names(&bench.dir).len() > before.len());
    bench.hand.take([Work::Discard(Box::new(built))]);
    while bench.hand.step() {}
    assert_eq!(names(&bench.dir), before);
    // After an installation another generation is in use than the one that was opened.
    let built = install::build(&opened, 48, &mut &whole[..]).expect("a state");
    bench.hand.replica.install(built).expect("it is installed");
    let now = names(&bench.dir);
    assert!(now.iter().any(|name| name == "state-0000000000000030"), "{now:?}");
    broken_off(64);
    assert_eq!(names(&bench.dir), now);
    assert_eq!(bench.apply(&[(3, 1)]), None);
    bench.hand.commit().1.run().expect("the state that counts is there");
}
