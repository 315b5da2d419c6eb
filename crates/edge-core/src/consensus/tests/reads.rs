//! Read points: never older than what was acknowledged before the question.

use super::*;

#[test]
fn leader_and_followers_read_what_was_acknowledged() {
    let mut room = Room::new(3);
    let leader = room.elect();
    room.write(leader, 1);
    let index = room.placed.pop().expect("placed").1;
    for id in 1..=3 {
        room.step(id, Input::Read { ticket: id });
        assert_eq!(room.reads.pop(), Some((id, index)));
    }
}

#[test]
fn a_deposed_leader_answers_no_read() {
    let mut room = Room::new(3);
    let old = room.elect();
    room.isolate(old);
    room.step(old, Input::Read { ticket: 1 });
    assert!(room.reads.is_empty());
    room.tick(40);
    assert!(room.reads.is_empty());
    assert_eq!(room.refused.pop(), Some((1, Refusal::NotLeader { leader: None })));
    let new = room.leader().expect("another leads");
    room.step(new, Input::Read { ticket: 2 });
    assert_eq!(room.reads.len(), 1);
}

#[test]
fn many_reads_share_one_question_and_a_lost_one_is_put_again() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let follower = leader % 3 + 1;
    room.cut.insert((follower, leader));
    for ticket in 0..100 {
        room.step(follower, Input::Read { ticket });
    }
    assert!(room.reads.is_empty());
    room.cut.clear();
    room.tick(4);
    assert_eq!(room.reads.len(), 100);
}

#[test]
fn a_lone_voter_reads_at_once() {
    let mut room = Room::new(1);
    room.step(1, Input::Read { ticket: 5 });
    assert_eq!(room.reads.len(), 1);
}
