//! Questions of every kind, whole, changed and broken: each is decided as the other maker's reader
//! would.

use edge_core::consensus::Chance;
use edge_core::dns::{Edns, Query, code};
use hickory_proto::op::Message;

use super::oracle::{Decision, ours, theirs};
use super::{cases, chance, labels, mutate, name};

/// A question with records behind it, as clients make them and as they don't.
fn question(chance: &mut Chance) -> Vec<u8> {
    let kinds = [1, 5, 6, 12, 13, 15, 16, 28, 33, 41, 64, 65, 128, 251, 252, 255, 256, 0xffff];
    let edns = Edns { size: chance.next() as u16, dnssec: chance.next().is_multiple_of(2) };
    let query = Query {
        id: chance.next() as u16,
        recursion: true,
        unchecked: chance.next().is_multiple_of(8),
        name: name(chance),
        kind: kinds[chance.below(kinds.len())],
        class: [1, 1, 1, 3, 4, 254, 255, 77][chance.below(8)],
        edns: (chance.next().is_multiple_of(2)).then_some(edns),
    };
    let name = query.name.clone();
    let mut packet = edge_core::dns::ask(query.id, &query, &name, query.edns.is_some());
    for _ in 0..chance.below(3) {
        extra(chance, &mut packet);
    }
    packet
}

/// One more record, in the last section.
fn extra(chance: &mut Chance, packet: &mut Vec<u8>) {
    packet[11] += 1;
    match chance.next() % 3 {
        0 => packet.push(0),
        1 => packet.extend([0xc0, 12]),
        _ => {
            for label in labels(chance) {
                packet.push(label.len() as u8);
                packet.extend(label);
            }
            packet.push(0);
        }
    }
    let kind: u16 = [1, 5, 12, 28, 33, 41, 46, 250, 24][chance.below(9)];
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1, 0, (chance.next() % 4 / 3) as u8, 0, 60]);
    let data = chance.below(9);
    packet.extend((data as u16).to_be_bytes());
    packet.extend((0..data).map(|_| 0));
}

#[test]
fn every_question_is_decided_as_another_maker_would() {
    let mut chance = chance("questions");
    let (mut taken, mut refused, mut ignored, mut softer) = (0, 0, 0, 0u64);
    for n in 0..cases() {
        let mut packet = question(&mut chance);
        match n % 4 {
            0 => {}
            1 => packet = (0..chance.below(80)).map(|_| chance.next() as u8).collect(),
            _ => mutate(&mut chance, &mut packet),
        }
        let (mine, other) = (ours(&packet), theirs(&packet));
        assert_eq!(mine, other, "case {n}: {packet:02x?}");
        match mine {
            Decision::Ignored => ignored += 1,
            Decision::Refused(_) => refused += 1,
            Decision::Taken(_) => taken += 1,
        }
        // Its whole reader looks into every record, too, and we into none: it may be stricter.
        let whole = Message::from_vec(&packet);
        match (&ours(&packet), whole) {
            (Decision::Taken(_), Err(_)) => softer += 1,
            (Decision::Refused(code::FORMAT), Ok(message)) => {
                let few = message.queries.len() == 1
                    && message.answers.len() + message.authorities.len() == 0
                    && message.additionals.len() < 8;
                // A name for what a server says of itself is the one thing it lets pass.
                let named = message.edns.is_some();
                assert!(!few || named, "case {n}: {packet:02x?} is {message:?}");
            }
            _ => {}
        }
    }
    println!("{taken} taken, {refused} refused, {ignored} ignored; {softer} with odd records");
    assert!(taken > cases() / 4 && refused > cases() / 20 && ignored > cases() / 50);
}

/// A question for a name that begins with a reference to `to`.
fn referring(to: u16) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend((0xc000 | to).to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet
}

#[test]
fn references_that_go_round_or_forwards_are_refused() {
    for to in [12, 13, 14, 100, 0x3fff] {
        let packet = referring(to);
        assert_eq!(ours(&packet), Decision::Refused(code::FORMAT), "to {to}");
        assert_eq!(theirs(&packet), Decision::Refused(code::FORMAT), "to {to}");
    }
    // A label, and then itself: it would never end.
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0xc0, 12, 0, 1, 0, 1];
    assert_eq!(ours(&packet), Decision::Refused(code::FORMAT));
    // Two that refer to each other.
    packet[12..16].copy_from_slice(&[0xc0, 14, 0xc0, 12]);
    assert_eq!(ours(&packet), Decision::Refused(code::FORMAT));
    assert_eq!(theirs(&packet), Decision::Refused(code::FORMAT));
}

/// The one wilful difference: a name may jump so often, since each jump costs a step, and a message
/// from afar may have thousands of names.
#[test]
fn a_name_jumps_not_more_than_32_times() {
    for (jumps, good) in [(1, true), (32, true), (33, false), (200, false)] {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1];
        // A record whose owner is the end of a chain; the chain itself is its neighbour's data.
        let chain = packet.len() + 11;
        packet.extend([0, 0, 1, 0, 1, 0, 0, 0, 0]);
        packet.extend((2 * jumps as u16).to_be_bytes());
        for n in 0..jumps {
            let to = if n == 0 { 12 } else { chain + 2 * (n - 1) };
            packet.extend((0xc000 | to as u16).to_be_bytes());
        }
        packet[11] = 2;
        let last = chain + 2 * (jumps - 1);
        let to = if jumps == 1 { 12 } else { last - 2 };
        packet.extend((0xc000 | to as u16).to_be_bytes());
        packet.extend([0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        let taken = matches!(ours(&packet), Decision::Taken(_));
        assert!(matches!(theirs(&packet), Decision::Taken(_)), "{jumps}");
        assert_eq!(taken, good, "{jumps} jumps");
    }
}

#[test]
fn long_names_and_long_messages_are_decided_alike() {
    for total in [253, 254, 255, 256, 300] {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut left: usize = total - 1;
        while left > 0 {
            let label = (left - 1).clamp(1, 63);
            packet.push(label as u8);
            packet.extend(std::iter::repeat_n(b'x', label));
            left = left.saturating_sub(label + 1);
        }
        packet.extend([0, 0, 1, 0, 1]);
        assert_eq!(ours(&packet), theirs(&packet), "a name of {total} bytes");
    }
    for size in [512, 4096, 65_535] {
        let mut packet = referring(100);
        packet.resize(size, 0);
        packet[12] = 0;
        assert_eq!(ours(&packet), theirs(&packet), "{size} bytes");
    }
}
