//! Members that lag behind the tail fetch a snapshot; nobody loses what may be committed.

use super::*;

fn small() -> Tuning {
    Tuning { tail_bytes: 2000, tail_bytes_idle: 500, ..Tuning::default() }
}

fn small_room() -> (Room, MemberId) {
    let mut room = Room::new(3);
    room.tuning = small();
    (1..=3).for_each(|id| room.restart(id));
    let leader = room.elect();
    (room, leader)
}

#[test]
fn a_member_that_lags_fetches_and_goes_on() {
    let (mut room, leader) = small_room();
    let late = leader % 3 + 1;
    room.isolate(late);
    for ticket in 0..100 {
        room.write(leader, ticket);
    }
    room.cut.clear();
    room.tick(10);
    assert!(!room.boards[&late].fetches.is_empty());
    room.write(leader, 100);
    assert_eq!(room.words(late), room.words(leader));
    assert_eq!(room.words(late).len(), 101);
}

#[test]
fn a_lost_offer_is_made_again_and_a_failed_fetch_too() {
    let (mut room, leader) = small_room();
    let late = leader % 3 + 1;
    room.isolate(late);
    for ticket in 0..100 {
        room.write(leader, ticket);
    }
    room.cut.clear();
    room.install = false;
    room.tick(10);
    assert_eq!(room.boards[&late].fetches.len(), 1, "asked for once");
    assert!(room.standing(leader).progress[&late].snapshot);
    room.step(late, Input::FetchFailed);
    room.install = true;
    room.tick(10);
    assert_eq!(room.words(late), room.words(leader));
}

/// A member whose fetch ended in vain while it led ignored all later offers: it never caught up
/// again until it was started anew.
#[test]
fn a_fetch_that_fails_at_a_leader_is_forgotten() {
    let (mut room, leader) = small_room();
    let late = leader % 3 + 1;
    let lag = |room: &mut Room, by: MemberId| {
        room.isolate(late);
        for ticket in 0..100 {
            room.write(by, ticket);
        }
        room.cut.clear();
    };
    lag(&mut room, leader);
    room.install = false;
    room.tick(10);
    assert_eq!(room.boards[&late].fetches.len(), 1);
    // The log comes after all, by a leader that has it in memory; and then this member leads.
    let member = room.board(late).member.as_mut().unwrap();
    let fetching = member.fetching.take();
    room.install = true;
    room.tick(10);
    assert_eq!(room.words(late), room.words(leader));
    room.step(leader, Input::Transfer { to: Some(late) });
    room.tick(10);
    assert_eq!(room.leader(), Some(late));
    room.board(late).member.as_mut().unwrap().fetching = fetching;
    room.step(late, Input::FetchFailed);
    room.step(late, Input::Transfer { to: Some(leader) });
    room.tick(10);
    assert_eq!(room.leader(), Some(leader));
    lag(&mut room, leader);
    room.tick(10);
    assert_eq!(room.words(late), room.words(leader));
}

#[test]
fn the_tail_shrinks_when_everybody_has_it() {
    let (mut room, leader) = small_room();
    for ticket in 0..100 {
        room.write(leader, ticket);
    }
    let bytes = room.board(leader).member.as_ref().unwrap().node.store().bytes();
    assert!(bytes <= 500, "{bytes}");
    let late = leader % 3 + 1;
    room.isolate(late);
    for ticket in 0..10 {
        room.write(leader, ticket);
    }
    let bytes = room.board(leader).member.as_ref().unwrap().node.store().bytes();
    assert!(bytes > 1000, "kept for the one that lags: {bytes}");
    room.cut.clear();
    room.tick(10);
    assert!(room.boards[&late].fetches.is_empty());
    room.step(leader, Input::Compact { upto: Index::MAX });
    let bytes = room.board(leader).member.as_ref().unwrap().node.store().bytes();
    assert_eq!(bytes, 0);
    room.write(leader, 1000);
    assert_eq!(room.words(late), room.words(leader));
}

#[test]
fn a_snapshot_replaces_only_what_can_not_be_committed() {
    let entry = |index, term| LogEntry { term, index, kind: EntryKind::Command, data: "x".into() };
    let entries = vec![entry(6, 2), entry(7, 2), entry(8, 3)];
    let own = Start { applied: (5, 2), entries, ..Start::default() };
    assert_eq!(install(&own, 4, 2), Install::NotNeeded, "it is in the state");
    assert_eq!(install(&own, 7, 2), Install::NotNeeded, "the tail may be committed");
    assert_eq!(install(&own, 7, 3), Install::Replace, "another leader's tail");
    assert_eq!(install(&own, 9, 3), Install::Replace, "behind everything");
}

#[test]
fn an_offer_that_the_log_already_holds_commits_instead() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let late = leader % 3 + 1;
    room.write(leader, 1);
    let (index, term) = room.boards[&leader].disk.applied;
    let own = room.standing(leader).term;
    let mut message = raft::eraftpb::Message::default();
    message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
    (message.from, message.to, message.term) = (leader, late, own);
    message.mut_snapshot().mut_metadata().index = index;
    message.mut_snapshot().mut_metadata().term = term;
    let bytes = super::super::frame::encode(&message).expect("an offer");
    room.step(late, Input::Message { from: leader, bytes });
    assert!(room.boards[&late].fetches.is_empty());
    assert_eq!(room.words(late), ["write 1"]);
}
