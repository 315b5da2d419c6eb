//! A member's disk fails or runs full: it says nothing that it can't keep, and others lead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use edge_core::consensus::{MemberId, Role};
use edge_store::{Disk, DiskFile, Expect, Founding, Options, ProposeError, RealDisk, Store};

use super::{Cluster, SOON, put, write};

/// Fails its writes or its syncs with an error number, when told to.
#[derive(Default)]
struct Sick {
    write: AtomicI32,
    sync: AtomicI32,
    /// Only what makes new files fails: what they hold already can be overwritten.
    new: AtomicI32,
}

fn check(fault: &AtomicI32) -> io::Result<()> {
    match fault.load(Ordering::SeqCst) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

impl Disk for Sick {
    fn write_at(&self, file: &DiskFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // What erases a failed write is spared.
        if bytes.iter().any(|byte| *byte != 0) {
            check(&self.write)?;
        }
        RealDisk.write_at(file, bytes, offset)
    }

    fn sync(&self, file: &DiskFile) -> io::Result<()> {
        check(&self.sync)?;
        RealDisk.sync(file)
    }

    fn allocate(&self, file: &DiskFile, length: u64) -> io::Result<()> {
        check(&self.write)?;
        check(&self.new)?;
        RealDisk.allocate(file, length)
    }
}

/// The leader, started again on a disk that can fail, and leading again.
async fn sick_leader(cluster: &Cluster) -> (MemberId, Store, Arc<Sick>) {
    let (id, leader) = cluster.leader().await;
    drop(leader);
    cluster.stop(id);
    let disk = Arc::new(Sick::default());
    let options = Options { disk: disk.clone(), ..cluster.options(id, Founding::Join) };
    cluster.start_with(id, options);
    loop {
        let (other, leader) = cluster.leader().await;
        if other == id {
            return (id, leader, disk);
        }
        super::settled(&cluster.store(id)).await;
        // Busy or on the way: the next look says.
        let _ = leader.transfer(Some(id)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_fails_hands_over_and_falls_silent() {
    let cluster = Cluster::three().await;
    let (sick, leader, disk) = sick_leader(&cluster).await;
    write(&leader, "before", "v").await;
    disk.sync.store(libc::EIO, Ordering::SeqCst);
    let failed = leader.propose(put("unknown", "v", Expect::Any)).await;
    assert!(matches!(failed, Err(ProposeError::Broken { .. })), "{failed:?}");
    let (_, next) = cluster.leader_but(sick).await;
    write(&next, "after", "v").await;
    disk.sync.store(0, Ordering::SeqCst);
    let still = leader.propose(put("still", "v", Expect::Any)).await;
    assert!(matches!(still, Err(ProposeError::Broken { .. })), "{still:?}");
    drop(leader);
    cluster.stop(sick);
    cluster.start(sick);
    assert!(cluster.agree().await.iter().any(|(key, _)| key == "after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_member_is_away_until_there_is_room() {
    let cluster = Cluster::three().await;
    let (full, leader, disk) = sick_leader(&cluster).await;
    write(&leader, "before", "v").await;
    disk.write.store(libc::ENOSPC, Ordering::SeqCst);
    let refused = tokio::time::timeout(SOON, leader.propose(put("maybe", "v", Expect::Any)));
    let refused = refused.await.unwrap();
    let told = matches!(refused, Err(ProposeError::Unknown | ProposeError::Full { .. }));
    assert!(told, "{refused:?}");
    let (_, next) = cluster.leader_but(full).await;
    write(&next, "after", "v").await;
    assert!(leader.get("before").unwrap().is_some(), "reads go on");
    disk.write.store(0, Ordering::SeqCst);
    cluster
        .until(full, |standing| standing.role == Role::Follower && standing.leader.is_some())
        .await;
    assert!(cluster.agree().await.iter().any(|(key, _)| key == "after"));
}

/// Writes until the store refuses.
async fn fill(store: &Store) -> ProposeError {
    for number in 0..200 {
        let value = "v".repeat(2000);
        let write = store.propose(put(&format!("fill-{number}"), &value, Expect::Any));
        if let Err(error) = tokio::time::timeout(SOON, write).await.unwrap() {
            return error;
        }
    }
    panic!("it took everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_hands_over_and_writes_go_on() {
    let cluster = Cluster::three().await;
    let (full, leader, disk) = sick_leader(&cluster).await;
    disk.new.store(libc::ENOSPC, Ordering::SeqCst);
    let term = leader.standing().borrow().term;
    let refused = fill(&leader).await;
    assert!(matches!(refused, ProposeError::NotLeader { .. }), "{refused:?}");
    let (next, heir) = cluster.leader_but(full).await;
    assert_eq!(heir.standing().borrow().term, term + 1, "one election, at once");
    for number in 0..20 {
        write(&heir, &format!("after-{number}"), "v").await;
    }
    // It neither asks for the lead nor takes it.
    let refused = heir.transfer(Some(full)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(cluster.leader().await.0, next);
    disk.new.store(0, Ordering::SeqCst);
    loop {
        if cluster.leader().await.0 == full {
            break;
        }
        let _ = cluster.leader().await.1.transfer(Some(full)).await;
    }
    write(&leader, "again", "v").await;
    assert!(cluster.agree().await.iter().any(|(key, _)| key == "after-19"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_stays_when_nobody_else_can_go_on() {
    let cluster = Cluster::three().await;
    let (full, leader, disk) = sick_leader(&cluster).await;
    let down = full % 3 + 1;
    cluster.stop(down);
    cluster
        .until(full, |standing| standing.progress.get(&down).is_some_and(|peer| !peer.active))
        .await;
    disk.new.store(libc::ENOSPC, Ordering::SeqCst);
    let refused = fill(&leader).await;
    assert!(matches!(refused, ProposeError::Full { .. }), "{refused:?}");
    assert_eq!(cluster.leader().await.0, full);
    disk.new.store(0, Ordering::SeqCst);
    write(&leader, "again", "v").await;
}
