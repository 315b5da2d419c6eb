//! Entries: placed, acknowledged, cut off, replayed.

use super::*;

#[test]
fn a_write_reaches_everybody_and_says_where_it_is() {
    let mut room = Room::new(3);
    let leader = room.elect();
    room.write(leader, 9);
    let (ticket, index, term) = room.placed.pop().expect("placed");
    assert_eq!((ticket, term), (9, room.standing(leader).term));
    for id in 1..=3 {
        assert_eq!(room.words(id), ["write 9"]);
        assert_eq!(room.standing(id).applied, index);
    }
    room.step(leader, Input::Propose { ticket: 1, data: Bytes::new() });
    assert_eq!(room.refused.pop(), Some((1, Refusal::Invalid)));
}

#[test]
fn a_follower_acknowledges_only_what_is_on_its_disk() {
    let mut room = Room::new(3);
    let leader = room.elect();
    for id in 1..=3 {
        room.board(id).held = id != leader;
    }
    room.write(leader, 1);
    assert!(room.words(leader).is_empty(), "nobody has it durable but the leader");
    let other = leader % 3 + 1;
    room.board(other).held = false;
    room.run();
    assert_eq!(room.words(leader), ["write 1"]);
}

#[test]
fn two_followers_commit_without_the_leaders_own_disk() {
    let mut room = Room::new(3);
    let leader = room.elect();
    room.board(leader).held = true;
    room.write(leader, 1);
    assert!(room.words(leader).is_empty(), "applied only when durable here");
    assert_eq!(room.words(leader % 3 + 1), ["write 1"]);
    room.board(leader).held = false;
    room.run();
    assert_eq!(room.words(leader), ["write 1"]);
}

#[test]
fn an_old_leaders_tail_gives_way() {
    let mut room = Room::new(3);
    let old = room.elect();
    room.isolate(old);
    for ticket in 0..5 {
        room.write(old, ticket);
    }
    room.tick(40);
    let new = room.leader().expect("another leads");
    room.write(new, 100);
    room.cut.clear();
    room.tick(20);
    for id in 1..=3 {
        assert_eq!(room.words(id), ["write 100"]);
        let entries = &room.boards[&id].disk.entries;
        assert!(entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index));
    }
    room.restart(old);
    room.tick(20);
    assert_eq!(room.words(old), ["write 100"]);
}

#[test]
fn a_restart_replays_nothing_twice_and_keeps_its_vote() {
    let mut room = Room::new(3);
    let leader = room.elect();
    for ticket in 0..3 {
        room.write(leader, ticket);
    }
    for id in 1..=3 {
        let hard = room.boards[&id].disk.hard;
        room.restart(id);
        assert!(room.boards[&id].disk.hard.term >= hard.term);
    }
    let leader = room.elect();
    room.write(leader, 3);
    for id in 1..=3 {
        assert_eq!(room.words(id), ["write 0", "write 1", "write 2", "write 3"]);
    }
}

#[test]
fn too_much_without_a_majority_is_refused_as_busy() {
    let mut room = Room::new(3);
    room.tuning.max_uncommitted_bytes = 1000;
    room.tuning.max_message_bytes = 500;
    (1..=3).for_each(|id| room.restart(id));
    let leader = room.elect();
    room.isolate(leader);
    for ticket in 0..10 {
        let data = Bytes::from(vec![0; 300]);
        room.step(leader, Input::Propose { ticket, data });
    }
    assert!(room.refused.contains(&(9, Refusal::Busy)), "{:?}", room.refused);
    assert_eq!(room.refused.len(), 7);
}

#[test]
fn what_is_sent_again_keeps_its_place_however_much_happens_at_once() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (quick, slow) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.write(leader, 0);
    // The slow one has the entry, and its leader does not know that it has.
    room.board(slow).held = true;
    room.keep_busy(leader);
    room.write(leader, 1);
    // All at once: the quick one's word, which commits the entry and tells the slow one so; the
    // slow one's line breaks; the next write, with which the first is sent again.
    let data = Bytes::from_static(b"write 2");
    room.catch_up([Input::Unreachable { member: slow }, Input::Propose { ticket: 2, data }]);
    room.board(slow).held = false;
    room.run();
    room.tick(5);
    for id in [leader, quick, slow] {
        assert_eq!(room.words(id), ["write 0", "write 1", "write 2"], "board {id}");
    }
}
