//! Leaders come and go; what was acknowledged stays.

use edge_core::consensus::Role;
use edge_store::{BarrierError, Command, Expect, ProposeError};

use super::{Cluster, SOON, pairs, put, settled, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_has_what_was_acknowledged_at_the_same_revision() {
    let cluster = Cluster::three().await;
    let (_, leader) = cluster.leader().await;
    let mut watch = cluster.store(3).watch("k/", cluster.store(3).revision()).unwrap();
    for number in 0..50 {
        let revision = write(&leader, &format!("k/{number:02}"), "v").await;
        for id in 1..=3 {
            let store = cluster.store(id);
            assert!(settled(&store).await >= revision);
            let entry = store.get(&format!("k/{number:02}")).unwrap().unwrap();
            assert_eq!(entry.revision, revision, "member {id}");
        }
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }
    let follower = (1..=3).find(|id| *id != leader.standing().borrow().me).unwrap();
    let refused = cluster.store(follower).propose(put("k", "v", Expect::Any)).await;
    let leads = Some(leader.standing().borrow().me);
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: leads }));
    assert_eq!(cluster.agree().await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_and_comes_back() {
    let cluster = Cluster::three().await;
    for round in 0..4 {
        let (old, leader) = cluster.leader().await;
        for number in 0..10 {
            write(&leader, &format!("k/{round}/{number}"), "v").await;
        }
        drop(leader);
        cluster.stop(old);
        let (new, leader) = cluster.leader_but(old).await;
        assert_ne!(new, old);
        write(&leader, &format!("k/{round}/after"), "v").await;
        cluster.start(old);
        assert_eq!(cluster.agree().await.len(), 11 * (round + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lonely_leader_logged_gives_way() {
    let cluster = Cluster::three().await;
    let (old, lonely) = cluster.leader().await;
    write(&lonely, "before", "v").await;
    cluster.wire.set_alone(old, true);
    let tasks: Vec<_> = (0..5)
        .map(|number| {
            let store = lonely.clone();
            let command = put(&format!("lost/{number}"), "v", Expect::Absent);
            tokio::spawn(async move { store.propose(command).await })
        })
        .collect();
    let (_, leader) = cluster.leader_but(old).await;
    for number in 0..5 {
        write(&leader, &format!("kept/{number}"), "v").await;
    }
    for task in tasks {
        let result = tokio::time::timeout(SOON, task).await.unwrap().unwrap();
        let told = matches!(result, Err(ProposeError::Unknown | ProposeError::NotLeader { .. }));
        assert!(told, "{result:?}");
    }
    let blind = tokio::time::timeout(SOON, lonely.barrier()).await.unwrap();
    assert!(matches!(blind, Err(BarrierError::NoLeader | BarrierError::Timeout)), "{blind:?}");
    assert!(lonely.get("kept/0").unwrap().is_none(), "cut off");
    cluster.wire.set_alone(old, false);
    cluster.until(old, |standing| standing.role == Role::Follower).await;
    let all = cluster.agree().await;
    assert_eq!(all.len(), 6, "{all:?}");
    drop(lonely);
    // The replaced entries are in its log still, and stay replaced.
    cluster.stop(old);
    cluster.start(old);
    assert_eq!(cluster.agree().await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_them_may_be_killed_at_once() {
    let cluster = Cluster::three().await;
    let mut newest = 0;
    for round in 0..3 {
        let leader = cluster.leader().await.1;
        for number in 0..20 {
            newest = write(&leader, &format!("k/{round}/{number}"), &"v".repeat(900)).await;
        }
        drop(leader);
        (1..=3).for_each(|id| cluster.stop(id));
        (1..=3).for_each(|id| cluster.start(id));
        assert_eq!(cluster.agree().await.len(), 20 * (round + 1));
        assert!(cluster.leader().await.1.revision() > newest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_of_another_term_does_not_happen() {
    let cluster = Cluster::three().await;
    let (_, leader) = cluster.leader().await;
    let term = leader.standing().borrow().term;
    let planned = |term| Command { term: Some(term), ..put("bind", "v", Expect::Any) };
    let stale = leader.propose(planned(term - 1)).await;
    assert_eq!(stale, Err(ProposeError::StaleTerm { asked: term - 1, term }));
    assert!(pairs(&leader, "bind", None).is_empty());
    leader.propose(planned(term)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_while_writes_go_on() {
    let cluster = Cluster::three().await;
    for _ in 0..5 {
        let (old, leader) = cluster.leader().await;
        let heir = old % 3 + 1;
        write(&leader, "k", "before").await;
        leader.transfer(Some(heir)).await.unwrap();
        cluster.until(heir, |standing| standing.ready).await;
        write(&cluster.store(heir), "k", "after").await;
        assert_eq!(cluster.agree().await, [("k".to_owned(), "after".to_owned())]);
    }
    let follower = cluster.leader().await.0 % 3 + 1;
    assert!(cluster.store(follower).transfer(None).await.is_err());
}
