//! A disk that writes short, runs full, fails a write or fails a sync.

use std::io;
use std::sync::{Arc, Mutex};

use edge_store::{Disk, DiskFile, Expect, Options, ProposeError, RealDisk, Store};

use super::{Directory, pairs, put, small};

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// A write takes at most so many bytes.
    short: Option<usize>,
    /// Writes fail with this error number, once so many bytes were written.
    write: Option<(usize, i32)>,
    /// Syncs fail with this error number.
    sync: Option<i32>,
    /// New segments fail with this error number.
    allocate: Option<i32>,
    /// Writing zeroes is spared, so that a failed write can be erased.
    spare_zeroes: bool,
}

#[derive(Default)]
struct FaultyDisk(Mutex<Faults>);

impl FaultyDisk {
    fn set(&self, faults: Faults) {
        *self.0.lock().unwrap() = faults;
    }
}

impl Disk for FaultyDisk {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut faults = self.0.lock().unwrap();
        let mut count = bytes.len().min(faults.short.unwrap_or(usize::MAX));
        let spared = faults.spare_zeroes && bytes.iter().all(|byte| *byte == 0);
        if let Some((left, error)) = &mut faults.write
            && !spared
        {
            if *left == 0 {
                return Err(io::Error::from_raw_os_error(*error));
            }
            count = count.min(*left);
            *left -= count;
        }
        RealDisk.write_at(file, &bytes[..count], offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        match self.0.lock().unwrap().sync {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => RealDisk.sync(file),
        }
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        match self.0.lock().unwrap().allocate {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => RealDisk.allocate(file, length),
        }
    }
}

fn open(dir: &Directory) -> (Store, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::default());
    let options = Options { disk: disk.clone(), ..small() };
    (Store::open(&dir.0, options).unwrap(), disk)
}

async fn write(store: &Store, key: &str) -> Result<u64, ProposeError> {
    let value = "v".repeat(900);
    store.propose(put(key, &value, Expect::Any)).await.map(|applied| applied.revision)
}

fn keys(store: &Store) -> Vec<String> {
    pairs(store, "", None).into_iter().map(|(key, _)| key).collect()
}

#[tokio::test]
async fn short_writes_are_carried_on() {
    let dir = Directory::new();
    let (store, disk) = open(&dir);
    disk.set(Faults { short: Some(7), ..Faults::default() });
    for number in 0..20 {
        write(&store, &format!("k/{number:02}")).await.unwrap();
    }
    let before = pairs(&store, "", None);
    store.close().await;
    assert_eq!(pairs(&open(&dir).0, "", None), before);
}

#[tokio::test]
async fn a_disk_without_room_for_a_segment_refuses_and_recovers() {
    let dir = Directory::new();
    let (store, disk) = open(&dir);
    disk.set(Faults { allocate: Some(libc::ENOSPC), ..Faults::default() });
    let mut written = Vec::new();
    let mut refused = 0;
    for number in 0..20 {
        let key = format!("k/{number:02}");
        match write(&store, &key).await {
            Ok(_) => written.push(key),
            Err(error @ ProposeError::Full { .. }) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains("no room") && text.contains("free some space"), "{text}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 5 && !written.is_empty());
    assert_eq!(keys(&store), written, "reads go on");
    let revision = store.revision();
    disk.set(Faults::default());
    assert_eq!(write(&store, "later").await, Ok(revision + 1), "refusals take no revision");
    written.push("later".to_owned());
    store.close().await;
    assert_eq!(keys(&open(&dir).0), written);
}

#[tokio::test]
async fn a_write_that_ran_out_of_room_leaves_no_trace() {
    // The whole batch may have been written before the error: it must not come back either.
    for room in [0, 1, 100, 600, 980] {
        let dir = Directory::new();
        let (store, disk) = open(&dir);
        write(&store, "before").await.unwrap();
        let write_fault = Some((room, libc::ENOSPC));
        disk.set(Faults { write: write_fault, spare_zeroes: true, ..Faults::default() });
        let result = write(&store, "refused").await;
        assert!(matches!(result, Err(ProposeError::Full { .. })), "{room}: {result:?}");
        let copy = Directory::copy_of(&dir.0);
        assert_eq!(keys(&open(&copy).0), ["before"], "room for {room}");
        disk.set(Faults::default());
        write(&store, "later").await.unwrap();
        let expected = keys(&store);
        drop(store);
        assert_eq!(keys(&open(&dir).0), expected);
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_is_the_last_one() {
    let eio = Some(libc::EIO);
    let cases = [
        ("syncing", Faults { sync: eio, ..Faults::default() }),
        ("writing", Faults { write: Some((40, libc::EIO)), ..Faults::default() }),
        ("erasing", Faults { write: Some((40, libc::ENOSPC)), ..Faults::default() }),
    ];
    for (words, faults) in cases {
        let dir = Directory::new();
        let (store, disk) = open(&dir);
        let mut watch = store.watch("", store.revision()).unwrap();
        write(&store, "before").await.unwrap();
        disk.set(faults);
        let error = write(&store, "unknown").await.unwrap_err();
        assert!(matches!(error, ProposeError::Broken { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        disk.set(Faults::default());
        for _ in 0..3 {
            let error = write(&store, "later").await.unwrap_err();
            assert!(matches!(error, ProposeError::Broken { .. }), "no success after a failure");
        }
        let standing = store.standing().borrow().clone();
        let told = standing.trouble.clone().unwrap();
        assert!(standing.leader.is_none() && told.contains(words), "{standing:?}");
        assert_eq!(keys(&store), ["before"]);
        assert_eq!(watch.next().await.unwrap().key.as_ref(), "before");
        assert_eq!(watch.try_next(), Ok(None));
        store.close().await;
        let (store, _) = open(&dir);
        assert!(keys(&store).starts_with(&["before".to_owned()]));
        write(&store, "later").await.unwrap();
    }
}

#[tokio::test]
async fn a_segment_that_can_not_be_synced_breaks_the_store() {
    let dir = Directory::new();
    let (store, disk) = open(&dir);
    let mut last = Ok(0);
    disk.set(Faults { allocate: Some(libc::EIO), ..Faults::default() });
    for number in 0..20 {
        last = write(&store, &format!("k/{number:02}")).await;
    }
    assert!(matches!(last, Err(ProposeError::Broken { .. })), "{last:?}");
    let acknowledged = keys(&store);
    drop(store);
    assert_eq!(keys(&open(&dir).0), acknowledged);
}
