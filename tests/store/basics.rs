//! What every caller relies on: writes, preconditions, stamps, lists, watches, restarts.

use bytes::Bytes;
use edge_store::{Change, Command, Expect, Fate, ListOptions, Op, OpenError, Options};
use edge_store::{ProposeError, ReadError, Store, WatchEnd, restore, restore_later};

use super::{Directory, all, delete, open, pairs, put};

#[tokio::test]
async fn writes_are_read_back_and_survive_a_restart() {
    let dir = Directory::new();
    let store = open(&dir);
    assert_eq!(store.revision(), 1);
    let first = store.propose(put("pods/a/x", "1", Expect::Absent)).await.unwrap();
    let again = store.propose(put("pods/a/x", "2", Expect::Absent)).await;
    let conflict = ProposeError::Conflict { key: "pods/a/x".to_owned(), found: Some(2) };
    assert_eq!(again, Err(conflict));
    assert_eq!(first.revision, 2);
    let stamped = Command {
        ops: vec![Op::Put {
            key: "pods/a/y".to_owned(),
            value: Bytes::from_static(b"{\"rv\":\"\"}"),
            stamp: Some(7),
            expect: Expect::Any,
        }],
        term: None,
    };
    let second = store.propose(stamped).await.unwrap();
    let found = store.get("pods/a/y").unwrap().unwrap();
    assert_eq!(found.value, format!("{{\"rv\":\"{}\"}}", second.revision));
    let update = put("pods/a/x", "3", Expect::Revision(first.revision));
    let third = store.propose(update.clone()).await.unwrap();
    assert!(matches!(store.propose(update).await, Err(ProposeError::Conflict { .. })));
    let missing = store.propose(delete("pods/a/z", Expect::Present)).await;
    assert_eq!(missing, Err(ProposeError::Conflict { key: "pods/a/z".to_owned(), found: None }));
    store.close().await;
    assert_eq!(store.get("pods/a/x"), Err(ReadError::Closed));

    let store = open(&dir);
    assert!(store.revision() > third.revision, "a restart is a term of its own");
    assert_eq!(pairs(&store, "pods/a/x", None), [("pods/a/x".to_owned(), "3".to_owned())]);
    assert_eq!(store.get("pods/a/y").unwrap().unwrap(), found);
}

#[tokio::test]
async fn a_command_happens_whole_or_not_at_all() {
    let dir = Directory::new();
    let store = open(&dir);
    let mut both = put("a", "1", Expect::Absent);
    both.ops.extend(put("b", "1", Expect::Absent).ops);
    let revision = store.propose(both.clone()).await.unwrap().revision;
    assert!(store.propose(both).await.is_err());
    let mut half = put("c", "1", Expect::Absent);
    half.ops.extend(delete("b", Expect::Revision(revision - 1)).ops);
    let conflict = ProposeError::Conflict { key: "b".to_owned(), found: Some(revision) };
    assert_eq!(store.propose(half).await, Err(conflict));
    assert_eq!(pairs(&store, "", None).len(), 2);
}

#[tokio::test]
async fn pages_and_past_revisions_agree() {
    let dir = Directory::new();
    let store = open(&dir);
    for number in 0..10 {
        store.propose(put(&format!("k/{number}"), "old", Expect::Any)).await.unwrap();
    }
    let past = store.revision();
    store.propose(put("k/3", "new", Expect::Any)).await.unwrap();
    store.propose(delete("k/4", Expect::Any)).await.unwrap();
    store.propose(put("k/44", "new", Expect::Any)).await.unwrap();
    assert_eq!(pairs(&store, "k/", Some(past)).len(), 10);
    assert!(pairs(&store, "k/", Some(past)).iter().all(|(_, value)| value == "old"));
    let mut options = ListOptions { limit: 4, at: Some(past), ..ListOptions::default() };
    let page = store.list("k/", options.clone()).unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining, page.revision), (4, true, 6, past));
    options.after = Some("k/8".to_owned());
    let page = store.list("k/", options).unwrap();
    assert_eq!((page.entries.len(), page.more, page.remaining), (1, false, 0));
    let future = store.list("k/", all(Some(past + 99))).unwrap_err();
    assert!(matches!(future, ReadError::Future { .. }));
    store.compact(past + 1);
    let gone = store.list("k/", all(Some(past))).unwrap_err();
    assert_eq!(gone, ReadError::Compacted { at: past, oldest: past + 1 });
    assert!(store.watch("k/", past).is_err());
    assert!(store.watch("k/", past + 1).is_ok());
}

#[tokio::test]
async fn a_watch_sees_each_change_once() {
    let dir = Directory::new();
    let store = open(&dir);
    let mut watch = store.watch("pods/", store.revision()).unwrap();
    assert_eq!(watch.try_next(), Ok(None));
    let one = store.propose(put("pods/a", "1", Expect::Any)).await.unwrap().revision;
    store.propose(put("nodes/a", "1", Expect::Any)).await.unwrap();
    let two = store.propose(delete("pods/a", Expect::Any)).await.unwrap().revision;
    let event = watch.next().await.unwrap();
    assert_eq!((event.revision, event.change, event.previous.clone()), (one, Change::Put, None));
    assert_eq!(watch.progress(), one - 1);
    let event = watch.next().await.unwrap();
    assert_eq!((event.revision, event.change), (two, Change::Delete));
    assert_eq!(event.value, "last");
    assert_eq!(event.previous.as_ref().unwrap().value, "1");
    assert_eq!(watch.try_next(), Ok(None));
    assert_eq!(watch.progress(), store.revision());
    let mut resumed = store.watch("pods/", one).unwrap();
    assert_eq!(resumed.next().await.unwrap().revision, two);
    let waiting = tokio::spawn(async move { resumed.next().await });
    store.close().await;
    assert_eq!(waiting.await.unwrap(), Err(WatchEnd::Closed));
    assert_eq!(watch.next().await, Err(WatchEnd::Closed));
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let dir = Directory::new();
    let store = open(&dir);
    match Store::open(&dir.0, Options::default()) {
        Err(OpenError::Locked { pid, path }) => {
            assert_eq!((pid, path), (Some(std::process::id()), dir.0.clone()));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    drop(store);
    open(&dir);
}

#[tokio::test]
async fn a_snapshot_restores_everything_elsewhere() {
    let (dir, other) = (Directory::new(), Directory::new());
    let store = open(&dir);
    for number in 0..300 {
        let value = "v".repeat(number * 7);
        store.propose(put(&format!("k/{number:03}"), &value, Expect::Any)).await.unwrap();
    }
    let mut bytes = Vec::new();
    let revision = store.snapshot(&mut bytes).unwrap();
    assert_eq!(restore(&other.0, &mut &bytes[..]).unwrap(), revision);
    let copy = open(&other);
    let entries = |store: &Store| store.list("", all(Some(revision))).unwrap();
    assert_eq!(entries(&copy), entries(&store));
    copy.propose(put("k/new", "1", Expect::Any)).await.unwrap();
    assert!(restore(&other.0, &mut &bytes[..]).is_err());
    for (number, at) in [5, 8, bytes.len() / 2, bytes.len() - 2].into_iter().enumerate() {
        let broken = Directory::new();
        let mut changed = bytes.clone();
        changed[at] ^= 1 << number;
        assert!(restore(&broken.0, &mut &changed[..]).is_err(), "flip at {at}");
        assert!(Store::open(&broken.0, Options::default()).is_err(), "opened a half restore");
    }
}

#[tokio::test]
async fn what_is_brought_back_later_repeats_no_number() {
    let (dir, other) = (Directory::new(), Directory::new());
    let store = open(&dir);
    for key in ["gone", "kept", "changed"] {
        store.propose(put(&format!("k/{key}"), "old", Expect::Any)).await.unwrap();
    }
    let mut bytes = Vec::new();
    let (revision, count) = store.export(&mut bytes).unwrap();
    assert_eq!(count, 3);
    let kept = store.get("k/kept").unwrap().unwrap();
    let mut judge = |key: &str, later: u64, value: Vec<u8>| match key {
        "k/gone" => Fate::Gone,
        "k/changed" => Fate::Changed(format!("as of {later}").into_bytes()),
        _ => Fate::Kept(value),
    };
    let later = restore_later(&other.0, &mut &bytes[..], &mut judge).unwrap();
    assert!(later >= revision + 1_000_000_000);
    let copy = open(&other);
    assert!(copy.revision() >= later, "a leader's first entry is above it");
    assert_eq!(copy.get("k/gone").unwrap(), None);
    assert_eq!(copy.get("k/kept").unwrap(), Some(kept));
    let changed = copy.get("k/changed").unwrap().unwrap();
    assert_eq!(changed.value, format!("as of {later}").into_bytes());
    assert_eq!(changed.revision, later);
    // Whoever watched before, and knows writes that the backup lacks, has to list again.
    assert!(copy.watch("k/", revision + 5000).is_err());
    let written = copy.propose(put("k/new", "1", Expect::Any)).await.unwrap();
    assert!(written.revision > later);
    assert!(copy.standing().borrow().term > 1_000_000_000);
}
