//! Frames that no honest peer sends: counted, dropped, never a panic.

use raft::eraftpb::{Entry, Message, MessageType};

use super::super::chance::Chance;
use super::super::frame::{self, Frame};
use super::*;

const KINDS: [MessageType; 12] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgTimeoutNow,
    MessageType::MsgSnapshot,
];

/// A message of a known kind with any numbers in it.
fn any(chance: &mut Chance, from: MemberId, to: MemberId) -> Message {
    let mut message = Message::default();
    message.set_msg_type(KINDS[chance.below(KINDS.len())]);
    (message.from, message.to) = (from, to);
    let number = |chance: &mut Chance| match chance.below(12) {
        0 => 0,
        1 => 1 << 62,
        2 => (1 << 62) - 1,
        3 => chance.next() >> 3,
        _ => chance.below(12) as u64,
    };
    message.term = number(chance);
    message.index = number(chance);
    message.log_term = number(chance);
    message.commit = number(chance);
    message.commit_term = number(chance);
    message.reject_hint = number(chance);
    message.reject = chance.below(2) == 0;
    let meta = message.mut_snapshot().mut_metadata();
    (meta.index, meta.term) = (number(chance), number(chance));
    let mut entries = Vec::new();
    for _ in 0..chance.below(4) {
        let mut entry = Entry::default();
        if chance.below(3) == 0 {
            entry.set_entry_type(raft::eraftpb::EntryType::EntryConfChangeV2);
        }
        entry.term = number(chance);
        entry.data = Bytes::from(vec![chance.next() as u8; chance.below(20)]);
        entries.push(entry);
    }
    message.set_entries(entries.into());
    if chance.below(4) == 0 {
        message.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
    }
    message
}

#[test]
fn a_frame_reads_back_and_a_cut_one_does_not() {
    let mut chance = Chance::new(1);
    for _ in 0..2000 {
        let message = any(&mut chance, 2, 1);
        let Some(bytes) = frame::encode(&message) else { continue };
        for cut in 0..bytes.len() {
            assert_eq!(frame::decode(&bytes.slice(..cut), 2, 1), None);
        }
        assert_eq!(frame::decode(&bytes, 3, 1), None, "another sender");
        assert_eq!(frame::decode(&bytes, 2, 3), None, "another receiver");
        match frame::decode(&bytes, 2, 1) {
            Some(Frame::Raft(read)) => {
                assert_eq!(frame::encode(&read), Some(bytes));
            }
            Some(Frame::Offer { term, .. }) => assert_eq!(term, message.term),
            other => panic!("{other:?}"),
        }
    }
    let mut beat = Message::default();
    beat.set_msg_type(MessageType::MsgHeartbeat);
    (beat.from, beat.to, beat.term, beat.commit) = (u64::MAX, 1, 12, 100_000);
    assert!(frame::encode(&beat).expect("a frame").len() <= 32);
}

#[test]
fn noise_is_counted() {
    let mut room = Room::new(3);
    room.elect();
    let mut chance = Chance::new(2);
    for round in 1..5000 {
        let bytes: Vec<u8> = (0..chance.below(80)).map(|_| chance.next() as u8).collect();
        room.step(1, Input::Message { from: 2, bytes: Bytes::from(bytes) });
        assert_eq!(room.standing(1).malformed, round);
    }
}

#[test]
fn mutated_frames_are_survived() {
    for seed in 0..60 {
        let mut room = Room::new(3);
        let leader = room.elect();
        room.write(leader, 1);
        let mut chance = Chance::new(seed);
        for _ in 0..200 {
            let message = any(&mut chance, 2, 1);
            let Some(bytes) = frame::encode(&message) else { continue };
            let mut bytes = bytes.to_vec();
            if chance.below(2) == 0 {
                let at = chance.below(bytes.len());
                bytes[at] = chance.next() as u8;
            }
            // The others are not asked: whoever knows the key can raise a term for all.
            let member = room.board(1).member.as_mut().expect("it runs");
            member.step(Input::Message { from: 2, bytes: Bytes::from(bytes) });
            member.step(Input::Tick);
            let mut applied = Vec::new();
            let mut written = Vec::new();
            while let Some(out) = member.outcome() {
                written.extend(out.persist.map(|persist| persist.number));
                applied.extend(out.apply.last().map(|entry| (entry.index, entry.term)));
                for number in written.drain(..) {
                    member.step(Input::Persisted { number });
                }
                for (index, term) in applied.drain(..) {
                    member.step(Input::Applied { index, term, members: None });
                }
            }
        }
    }
}
