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
