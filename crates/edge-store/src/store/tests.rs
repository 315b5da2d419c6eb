//! A lone store whose log finds no room in the middle of a write.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::command::{Expect, Op};
use crate::log::disk::DiskFile;

/// A disk that takes nothing but zeroes while it is full.
#[derive(Default)]
struct Filling(AtomicBool);

impl Disk for Filling {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if self.0.load(Ordering::SeqCst) && bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            false => RealDisk.allocate(file, length),
        }
    }
}

/// Nobody writes to a server that does not lead: it says why, and finds the room by itself.
#[tokio::test]
async fn it_goes_on_by_itself_once_there_is_room() {
    let dir = std::env::temp_dir().join(format!("edge-store-room-{}", std::process::id()));
    let disk = Arc::new(Filling::default());
    let options = Options { disk: disk.clone(), ..Options::default() };
    let store = Store::open(&dir, options).unwrap();
    let write = || {
        let (key, value) = ("k".to_owned(), Bytes::from_static(b"v"));
        let op = Op::Put { key, value, stamp: None, expect: Expect::Any };
        store.propose(Command { ops: vec![op], term: None })
    };
    write().await.unwrap();
    disk.0.store(true, Ordering::SeqCst);
    let (one, two, three) = tokio::join!(write(), write(), write());
    for refused in [one, two, three] {
        assert!(matches!(refused, Err(ProposeError::Full { .. })), "{refused:?}");
    }
    let mut standing = store.standing();
    let told = standing.wait_for(|now| now.trouble.is_some()).await.unwrap().clone();
    let words = told.trouble.as_deref().unwrap();
    assert!(words.contains("No space left") && words.contains("free some space"), "{words}");
    assert_eq!(told.leader, None);
    disk.0.store(false, Ordering::SeqCst);
    let leads = standing.wait_for(|now| now.ready && now.trouble.is_none());
    tokio::time::timeout(Duration::from_secs(20), leads).await.unwrap().unwrap();
    write().await.unwrap();
    store.close().await;
    std::fs::remove_dir_all(&dir).unwrap();
}
