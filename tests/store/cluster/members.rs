//! Members come and go, and what a directory says of its owner.

use edge_core::consensus::{Change, Members};
use edge_store::{ChangeError, Expect, Founding, OpenError, Options, Store, recover_force};

use super::{Cluster, info, pairs, put, write};
use crate::store::{Directory, small};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_join_and_leave() {
    let mut cluster = Cluster::three().await;
    let (_, leader) = cluster.leader().await;
    write(&leader, "k", "v").await;
    cluster.join(4).await;
    for id in 1..=4 {
        cluster.until(id, |standing| standing.members.voters().len() == 4).await;
    }
    let (leads, leader) = cluster.leader().await;
    let leaves = leads % 4 + 1;
    leader.change(Change::Remove { id: leaves }).await.unwrap();
    let nothing = leader.change(Change::Remove { id: leaves }).await;
    assert!(matches!(nothing, Err(ChangeError::Refused(_))), "{nothing:?}");
    cluster.stop(leaves);
    assert_eq!(cluster.agree().await.len(), 1);
    let known = |members: &Members| members.info(leaves).is_none();
    for id in (1..=4).filter(|id| *id != leaves) {
        cluster.until(id, |standing| known(&standing.members)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_majority_is_recovered_by_force_only() {
    let cluster = Cluster::three().await;
    let (_, leader) = cluster.leader().await;
    for number in 0..10 {
        write(&leader, &format!("k/{number}"), "v").await;
    }
    let all = cluster.agree().await;
    let newest = leader.revision();
    let term = leader.standing().borrow().term;
    drop(leader);
    (1..=3).for_each(|id| cluster.stop(id));
    let dir = &cluster.dirs[&2].0;
    let error = recover_force(dir, info(3)).unwrap_err().to_string();
    assert!(error.contains("another server"), "{error}");
    let report = recover_force(dir, info(2)).unwrap();
    assert!(report.kept >= newest && report.committed <= report.kept, "{report}");
    assert!(report.revision > newest + 900_000, "{report}");
    let names: Vec<_> = report.lost.iter().map(|info| info.name.clone()).collect();
    assert_eq!(names, ["board-1", "board-3"]);
    let again = recover_force(dir, info(2)).unwrap();
    assert!(again.revision > report.revision && again.lost.is_empty(), "{again}");
    for _ in 0..2 {
        let store = Store::open(dir, cluster.options(2, Founding::Join)).unwrap();
        assert!(store.revision() > again.revision);
        // What the lost ones said in terms that this one never saw is older than what it says.
        assert!(store.standing().borrow().term > term + 900_000);
        assert_eq!(pairs(&store, "k/", None), all);
        store.propose(put("alone", "v", Expect::Any)).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_directory_of_another_server_is_refused() {
    let dir = Directory::quick();
    let options = |id| Options { me: info(id), ..small() };
    drop(Store::open(&dir.0, options(7)).unwrap());
    let error = Store::open(&dir.0, options(8)).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("a data directory of another server"), "{text}");
    assert!(text.contains("board-7") && text.contains("board-8"), "{text}");
    drop(Store::open(&dir.0, options(7)).unwrap());
}

#[tokio::test]
async fn a_log_of_the_former_format_is_refused() {
    let dir = Directory::quick();
    std::fs::create_dir_all(dir.0.join("log")).unwrap();
    let path = dir.0.join("log/00000000000000000002.log");
    let mut bytes = b"edgelog1".to_vec();
    bytes.resize(4096, 0);
    std::fs::write(&path, &bytes).unwrap();
    let error = Store::open(&dir.0, small()).err().unwrap().to_string();
    assert!(error.contains("an earlier version") && !error.contains('\n'), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}
