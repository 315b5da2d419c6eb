//! Members come, learn, vote and go.

use super::*;

fn add(room: &mut Room, leader: MemberId, id: MemberId, voter: bool) {
    room.add(id, Start::default());
    let change = Change::Add { info: info(id), voter };
    room.step(leader, Input::Change { ticket: id, change });
    room.tick(10);
}

fn remove(room: &mut Room, leader: MemberId, id: MemberId) {
    room.step(leader, Input::Change { ticket: 50, change: Change::Remove { id } });
}

#[test]
fn one_becomes_three_and_three_become_one() {
    let mut room = Room::new(0);
    room.add(1, Start { members: Members::genesis(info(1)), ..Start::default() });
    room.write(1, 1);
    add(&mut room, 1, 2, true);
    assert_eq!(room.standing(2).role, Role::Follower, "promoted by itself");
    add(&mut room, 1, 3, true);
    add(&mut room, 1, 4, false);
    assert_eq!(room.standing(4).role, Role::Learner);
    let standing = room.standing(1);
    assert_eq!((standing.members.voters().len(), standing.progress.len()), (3, 3));
    assert!(standing.progress.values().all(|p| p.active && p.matched == standing.applied));
    room.write(1, 2);
    for id in 1..=4 {
        assert_eq!(room.words(id), ["write 1", "write 2"]);
        assert_eq!(room.standing(id).members, standing.members);
    }
    remove(&mut room, 1, 4);
    remove(&mut room, 1, 3);
    remove(&mut room, 1, 2);
    assert_eq!(room.standing(1).members.voters().len(), 1);
    for id in 2..=4 {
        room.crash(id);
    }
    room.write(1, 3);
    assert_eq!(room.words(1).len(), 3, "alone again");
    assert!(!room.board(1).member.as_ref().unwrap().needs_ticks());
    remove(&mut room, 1, 1);
    assert_eq!(room.refused.pop(), Some((50, Refusal::LastVoter)));
}

#[test]
fn a_leader_that_is_to_leave_hands_over_first() {
    let mut room = Room::new(3);
    let leader = room.elect();
    remove(&mut room, leader, leader);
    assert_eq!(room.refused.pop(), Some((50, Refusal::Transferring)));
    let next = room.leader().expect("another leads");
    assert_ne!(next, leader);
    remove(&mut room, next, leader);
    assert_eq!(room.standing(leader).role, Role::Outside);
    let term = room.standing(next).term;
    room.tick(100);
    assert_eq!((room.leader(), room.standing(next).term), (Some(next), term), "no disturbance");
}

#[test]
fn a_removed_member_that_never_heard_of_it_disturbs_nobody() {
    let mut room = Room::new(4);
    let leader = room.elect();
    let gone = leader % 4 + 1;
    room.isolate(gone);
    remove(&mut room, leader, gone);
    assert_eq!(room.standing(leader).members.voters().len(), 3);
    room.cut.clear();
    let term = room.standing(leader).term;
    room.tick(100);
    assert_eq!((room.leader(), room.standing(leader).term), (Some(leader), term));
}

#[test]
fn what_can_not_be_is_refused() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let other = leader % 3 + 1;
    let mut ask = |change| {
        room.step(leader, Input::Change { ticket: 1, change });
        room.refused.pop().map(|(_, why)| why)
    };
    let mut twin = info(9);
    twin.name = "board-1".to_owned();
    assert_eq!(ask(Change::Add { info: twin, voter: true }), Some(Refusal::NameTaken));
    let bare = MemberInfo { id: 9, ..MemberInfo::default() };
    assert_eq!(ask(Change::Add { info: bare, voter: true }), Some(Refusal::Invalid));
    assert_eq!(ask(Change::Promote { id: 9 }), Some(Refusal::NoSuchMember));
    assert_eq!(ask(Change::Promote { id: other }), Some(Refusal::Nothing));
    assert_eq!(ask(Change::Remove { id: 9 }), Some(Refusal::NoSuchMember));
    let mut moved = info(other);
    moved.api = "https://10.9.9.9:6443".to_owned();
    assert_eq!(ask(Change::Update { info: moved.clone() }), None);
    assert_eq!(room.standing(other).members.info(other), Some(&moved));
    assert!(room.standing(other).members.voters().contains(&other));
    let follower = other;
    let change = Change::Remove { id: 1 };
    room.step(follower, Input::Change { ticket: 2, change });
    let why = Refusal::NotLeader { leader: Some(leader) };
    assert_eq!(room.refused.pop(), Some((2, why)));
}

#[test]
fn a_removal_that_would_leave_no_majority_is_refused() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (dead, alive) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.crash(dead);
    room.tick(15);
    remove(&mut room, leader, alive);
    assert_eq!(room.refused.pop(), Some((50, Refusal::NoMajority)));
    remove(&mut room, leader, dead);
    assert_eq!(room.standing(leader).members.voters().len(), 2);
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut room = Room::new(1);
    room.install = false;
    add(&mut room, 1, 2, true);
    room.tick(50);
    assert_eq!(room.standing(1).members.voters().len(), 1);
    let promote = Change::Promote { id: 2 };
    room.step(1, Input::Change { ticket: 3, change: promote });
    assert_eq!(room.refused.pop(), Some((3, Refusal::NotCaughtUp)));
    room.write(1, 1);
    assert_eq!(room.words(1), ["write 1"], "a learner holds up nothing");
}

#[test]
fn a_learner_of_a_lone_voter_reads() {
    let mut room = Room::new(1);
    add(&mut room, 1, 2, false);
    room.write(1, 1);
    room.step(2, Input::Read { ticket: 4 });
    assert_eq!(room.reads.len(), 1);
    room.tick(30);
    room.step(2, Input::Read { ticket: 5 });
    assert_eq!(room.reads.len(), 2);
}
