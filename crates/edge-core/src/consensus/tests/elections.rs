//! Who leads, and how soon.

use super::*;

#[test]
fn a_lone_voter_leads_at_once_without_ticks() {
    let mut room = Room::new(1);
    assert_eq!(room.leader(), Some(1));
    let standing = room.standing(1);
    assert!(standing.ready && standing.term == 2 && standing.role == Role::Leader);
    assert!(!room.board(1).member.as_ref().unwrap().needs_ticks());
    room.write(1, 1);
    assert_eq!(room.words(1), ["write 1"]);
    room.restart(1);
    assert_eq!(room.standing(1).term, 3);
    room.write(1, 2);
    assert_eq!(room.words(1), ["write 1", "write 2"]);
    assert_eq!(room.sent, 0);
}

#[test]
fn a_founder_begins_with_nothing() {
    let mut room = Room::new(0);
    room.add(4, Start { members: Members::genesis(info(4)), ..Start::default() });
    assert_eq!(room.leader(), Some(4));
    room.write(4, 1);
    assert_eq!(room.words(4), ["write 1"]);
}

#[test]
fn one_of_three_leads_and_an_outsider_with_a_higher_term_does_not_disturb() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let term = room.standing(leader).term;
    let other = if leader == 1 { 2 } else { 1 };
    room.isolate(other);
    room.tick(200);
    assert_eq!(room.standing(other).term, term, "pre-votes raise no term");
    room.cut.clear();
    room.tick(40);
    assert_eq!((room.leader(), room.standing(leader).term), (Some(leader), term));
}

#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut room = Room::new(3);
    let leader = room.elect();
    room.isolate(leader);
    room.tick(25);
    assert_eq!(room.standing(leader).leader, None);
    let next = room.leader().expect("another leads");
    assert_ne!(next, leader);
    room.write(leader, 1);
    assert_eq!(room.refused.pop(), Some((1, Refusal::NotLeader { leader: None })));
}

#[test]
fn a_will_makes_the_first_heir_campaign_at_once() {
    for leader in 1..=3 {
        let mut room = Room::new(3);
        room.step(leader, Input::Transfer { to: None });
        while room.elect() != leader {
            let now = room.leader().unwrap();
            room.step(now, Input::Transfer { to: Some(leader) });
        }
        room.crash(leader);
        let heirs = [leader % 3 + 1, (leader + 1) % 3 + 1];
        for heir in heirs {
            room.step(heir, Input::Gone { member: leader });
        }
        assert_eq!(room.leader(), Some(heirs[0]), "without a single tick");
    }
}

#[test]
fn a_better_log_outruns_the_first_heir() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let heirs = [leader % 3 + 1, (leader + 1) % 3 + 1];
    room.cut.insert((leader, heirs[0]));
    room.write(leader, 1);
    room.crash(leader);
    room.cut.clear();
    room.step(heirs[0], Input::Gone { member: leader });
    room.step(heirs[1], Input::Gone { member: leader });
    assert_eq!(room.leader(), Some(heirs[1]), "without a single tick");
    assert_eq!(room.words(heirs[1]), ["write 1"]);
}

#[test]
fn a_false_will_or_a_followers_harms_nobody() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (one, two) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let term = room.standing(leader).term;
    room.step(one, Input::Gone { member: two });
    room.step(leader, Input::Gone { member: two });
    assert_eq!(room.standing(leader).term, term);
    room.step(one, Input::Gone { member: leader });
    assert_eq!(room.leader(), Some(one), "a false hint costs an election");
    room.write(one, 1);
    room.tick(30);
    for id in 1..=3 {
        assert_eq!(room.words(id), ["write 1"]);
    }
    assert_eq!(room.leader(), Some(one));
}

#[test]
fn heirs_take_turns_when_a_leader_falls_silent() {
    let lease = Tuning::default().election_ticks;
    for count in [3, 5, 7] {
        let mut room = Room::new(count);
        let leader = room.elect();
        room.tick(3);
        let term = room.standing(leader).term;
        room.isolate(leader);
        room.tick(lease);
        let heir = leader % count + 1;
        assert!(room.standing(heir).leader.is_some(), "not before the lease has ended");
        room.tick(5);
        let now = room.standing(heir);
        assert_eq!((now.leader, now.term), (Some(heir), term + 1), "the first heir, at once");
    }
}

#[test]
fn who_was_told_votes_though_the_lease_has_not_ended() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.tick(3);
    room.crash(leader);
    // The first heir's first request is lost.
    room.cut.insert((heir, other));
    room.step(other, Input::Gone { member: leader });
    assert_eq!(room.standing(other).leader, None);
    room.step(heir, Input::Gone { member: leader });
    room.cut.clear();
    room.tick(5);
    assert!(room.leader().is_some_and(|now| now != leader), "long before the lease has ended");
}

#[test]
fn an_election_in_vain_is_tried_again_soon_and_then_less_often() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.crash(leader);
    room.crash(other);
    room.step(heir, Input::Gone { member: leader });
    assert_eq!(room.standing(heir).role, Role::Candidate);
    // The other one comes back from a crash of its own.
    room.tick(1);
    room.restart(other);
    room.tick(6);
    assert_eq!(room.leader(), Some(heir));
    // Alone for long, it does not keep the air busy.
    room.crash(other);
    room.tick(60);
    let before = room.sent;
    room.tick(1000);
    let asked = (room.sent - before) / 2;
    assert!((50..=100).contains(&asked), "{asked} times in 1000 ticks");
}

#[test]
fn a_transfer_goes_to_the_one_named_or_the_best() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (one, two) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.step(leader, Input::Transfer { to: Some(two) });
    assert_eq!(room.leader(), Some(two), "without a single tick");
    room.cut.insert((two, one));
    room.write(two, 1);
    room.step(two, Input::Transfer { to: None });
    assert_eq!(room.leader(), Some(leader));
}

#[test]
fn a_shy_member_takes_no_lead_that_another_can_have() {
    let mut room = Room::new(3);
    let leader = room.elect();
    let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    room.step(heir, Input::Shy(true));
    room.step(leader, Input::Transfer { to: Some(heir) });
    room.tick(15);
    assert_eq!(room.leader(), Some(leader), "an heir that does not want it");
    room.write(leader, 1);
    room.crash(leader);
    room.step(heir, Input::Gone { member: leader });
    room.step(other, Input::Gone { member: leader });
    room.tick(5);
    assert_eq!(room.leader(), Some(other), "with the shy one's vote");
    room.restart(leader);
    room.tick(5);
    room.isolate(other);
    room.tick(20);
    assert_eq!(room.leader(), Some(leader), "the second in line");
}

#[test]
fn shy_members_lead_when_nobody_else_does() {
    let mut room = Room::new(3);
    let leader = room.elect();
    for id in 1..=3 {
        room.step(id, Input::Shy(true));
    }
    room.tick(30);
    assert_eq!(room.leader(), Some(leader), "as long as it lives");
    room.crash(leader);
    let lease = Tuning::default().election_ticks;
    room.tick(3 * lease);
    assert_eq!(room.leader(), None);
    room.tick(5 * lease);
    let next = room.leader().expect("one of the shy ones");
    room.write(next, 1);
    assert!(room.words(next).contains(&"write 1".to_owned()));
    let heir = 6 - leader - next;
    room.step(heir, Input::Shy(false));
    room.step(next, Input::Transfer { to: None });
    assert_eq!(room.leader(), Some(heir), "without a single tick");
}

#[test]
fn votes_wait_for_the_disk() {
    let mut room = Room::new(3);
    for id in 1..=3 {
        room.board(id).held = true;
    }
    room.tick(60);
    assert_eq!(room.leader(), None);
    assert!((1..=3).all(|id| room.boards[&id].disk.hard.term == 1));
    for id in 1..=3 {
        room.board(id).held = false;
    }
    room.elect();
}

#[test]
fn the_seed_decides_and_nothing_else_does() {
    let course = |seed: u64| {
        let start = Start { members: Members::founders((1..=3).map(info)), ..Start::default() };
        let mut member = Member::new(1, start, Tuning::default(), seed).unwrap();
        let mut at = Vec::new();
        for tick in 0..200 {
            member.step(Input::Tick);
            while let Some(out) = member.outcome() {
                at.extend((!out.send.is_empty()).then_some(tick));
            }
        }
        at
    };
    assert_eq!(course(1), course(1));
    assert!((2..20).any(|seed| course(seed) != course(1)));
}

#[test]
fn what_a_disk_can_not_hold_is_refused() {
    let entry = |index, term| LogEntry { term, index, kind: EntryKind::Command, data: "x".into() };
    let start = |hard, entries| Start { hard, entries, applied: (5, 2), ..Start::default() };
    let new = |start| Member::new(1, start, Tuning::default(), 1).err();
    let hard = HardState { term: 3, vote: 0, commit: 0 };
    assert_eq!(new(start(hard, vec![entry(6, 2)])), None);
    let hole = StartError::Hole { expected: 6, found: 7 };
    assert_eq!(new(start(hard, vec![entry(7, 2)])), Some(hole));
    let bad = StartError::BadTerm { index: 6, term: 1 };
    assert_eq!(new(start(hard, vec![entry(6, 1)])), Some(bad));
    let lost = Some(StartError::Lost { last: 6, commit: 9 });
    assert_eq!(new(start(HardState { commit: 9, ..hard }, vec![entry(6, 2)])), lost);
    let nobody = Member::new(0, Start::default(), Tuning::default(), 1).err();
    assert_eq!(nobody, Some(StartError::NoIdentity));
}
