//! Messages that we write, read by the other maker: every field comes out as it went in.

use std::net::{Ipv4Addr, Ipv6Addr};

use edge_core::consensus::Chance;
use edge_core::dns::{Data, Edns, Query, Record, Reply, encode, refuse};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{RData, Record as Theirs};

use super::oracle::labels;
use super::{cases, chance, name};

pub(super) fn query(chance: &mut Chance) -> Query {
    let edns = Edns { size: chance.next() as u16, dnssec: chance.next().is_multiple_of(2) };
    Query {
        id: chance.next() as u16,
        recursion: chance.next().is_multiple_of(2),
        unchecked: chance.next().is_multiple_of(2),
        name: name(chance),
        kind: [1, 12, 28, 33, 255][chance.below(5)],
        class: 1,
        edns: (chance.next().is_multiple_of(2)).then_some(edns),
    }
}

pub(super) fn record(chance: &mut Chance) -> Record {
    let data = match chance.next() % 10 {
        0 => Data::A(Ipv4Addr::from(chance.next() as u32)),
        1 => Data::Aaaa(Ipv6Addr::from(u128::from(chance.next()) << 60)),
        2 => Data::Cname(name(chance)),
        3 => Data::Ptr(name(chance)),
        4 => Data::Ns(name(chance)),
        5 => Data::Txt(["1.1.0", "", "two words"][chance.below(3)]),
        6 => {
            let (weight, port) = (chance.next() as u16, chance.next() as u16);
            Data::Srv { weight, port, target: name(chance) }
        }
        7 => {
            let negative = chance.next() as u32;
            Data::Soa { server: name(chance), contact: name(chance), negative }
        }
        8 => Data::Hinfo,
        _ => Data::Raw(0xff00, (0..=chance.below(40)).map(|n| n as u8).collect()),
    };
    Record { name: name(chance), ttl: chance.next() as u32 >> 1, data }
}

fn wire(name: &edge_core::dns::Name) -> Vec<Vec<u8>> {
    name.labels().map(<[u8]>::to_vec).collect()
}

/// Names are the same, whatever the case: a reference may lead to another spelling.
fn same_name(ours: &edge_core::dns::Name, theirs: &hickory_proto::rr::Name) -> bool {
    let (ours, theirs) = (wire(ours), labels(theirs));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// True when a record of ours and one of theirs say the same.
pub(super) fn same(ours: &Record, theirs: &Theirs) -> bool {
    let data = match (&ours.data, &theirs.data) {
        (Data::A(ip), RData::A(other)) => *ip == other.0,
        (Data::Aaaa(ip), RData::AAAA(other)) => *ip == other.0,
        (Data::Cname(name), RData::CNAME(other)) => same_name(name, &other.0),
        (Data::Ptr(name), RData::PTR(other)) => same_name(name, &other.0),
        (Data::Ns(name), RData::NS(other)) => same_name(name, &other.0),
        (Data::Txt(text), RData::TXT(other)) => {
            other.txt_data.len() == 1 && *other.txt_data[0] == *text.as_bytes()
        }
        (Data::Srv { weight, port, target }, RData::SRV(other)) => {
            (other.priority, other.weight, other.port) == (0, *weight, *port)
                && same_name(target, &other.target)
        }
        (Data::Soa { server, contact, negative }, RData::SOA(other)) => {
            same_name(server, &other.mname)
                && same_name(contact, &other.rname)
                && other.minimum == *negative
        }
        (Data::Hinfo, RData::HINFO(other)) => *other.cpu == *b"RFC8482" && other.os.is_empty(),
        (Data::Raw(kind, bytes), RData::Unknown { code, rdata }) => {
            u16::from(*code) == *kind && rdata.anything == *bytes
        }
        _ => false,
    };
    let kind = u16::from(theirs.record_type());
    data && kind == ours.data.kind()
        && theirs.ttl == ours.ttl
        && u16::from(theirs.dns_class) == 1
        && same_name(&ours.name, &theirs.name)
}

fn check(query: &Query, reply: &Reply, limit: usize) -> Message {
    let packet = encode(query, reply, limit);
    assert!(packet.len() <= limit, "{} bytes of {limit}", packet.len());
    let read = Message::from_vec(&packet).unwrap_or_else(|e| panic!("{e}: {packet:02x?}"));
    let head = read.metadata;
    assert_eq!(head.id, query.id);
    assert_eq!((head.message_type, head.op_code), (MessageType::Response, OpCode::Query));
    assert_eq!(head.recursion_desired, query.recursion);
    assert_eq!(head.checking_disabled, query.unchecked);
    assert_eq!(head.authoritative, reply.authoritative);
    assert!(head.recursion_available && !head.authentic_data);
    let code = if query.edns.is_some() { reply.code } else { reply.code & 0xf };
    assert_eq!(u16::from(head.response_code), code);
    assert_eq!(read.queries.len(), 1);
    assert_eq!(labels(read.queries[0].name()), wire(&query.name), "as the asker spells it");
    assert_eq!(u16::from(read.queries[0].query_type()), query.kind);
    assert_eq!(
        read.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
        query.edns.map(|edns| (1232, edns.dnssec))
    );
    let sections = [
        (&reply.answers, &read.answers),
        (&reply.authority, &read.authorities),
        (&reply.additional, &read.additionals),
    ];
    let mut cut = false;
    for (n, (ours, theirs)) in sections.into_iter().enumerate() {
        assert!(theirs.len() <= ours.len() && (!cut || theirs.is_empty()), "what follows a gap");
        for (one, other) in ours.iter().zip(theirs) {
            assert!(same(one, other), "{one:?} became {other:?}");
        }
        cut |= theirs.len() < ours.len();
        if n == 1 {
            assert_eq!(head.truncation, cut, "said when the answer is not whole");
        }
    }
    read
}

#[test]
fn what_we_answer_another_maker_reads_the_same() {
    let mut chance = chance("answers");
    let (mut cut, mut records) = (0, 0);
    for _ in 0..cases() / 5 {
        let query = query(&mut chance);
        let many = |chance: &mut Chance, most| {
            (0..chance.below(most)).map(|_| record(chance)).collect::<Vec<_>>()
        };
        let reply = Reply {
            code: [0, 2, 3, 5, 16][chance.below(5)],
            authoritative: chance.next().is_multiple_of(2),
            answers: many(&mut chance, 12),
            authority: many(&mut chance, 3),
            additional: many(&mut chance, 6),
        };
        let limit = [300 + chance.below(300), 512, 1232, 65_535][chance.below(4)]
            .max(12 + query.name.wire().len() + 4 + 11);
        let read = check(&query, &reply, limit);
        cut += u32::from(read.metadata.truncation);
        records += read.answers.len() + read.authorities.len() + read.additionals.len();
    }
    println!("{records} records the same; {cut} answers cut short");
    assert!(cut > 100 && records > 10_000);
}

#[test]
fn the_largest_answer_is_read_the_same() {
    let mut chance = chance("large");
    let mut query = query(&mut chance);
    query.edns = None;
    // Beyond 16 kB nothing can be referred to.
    let answers = (0..1500).map(|_| record(&mut chance)).collect();
    let reply = Reply { answers, ..Reply::default() };
    check(&query, &reply, 65_535);
}

#[test]
fn refusals_are_read() {
    for code in [1, 2, 4, 5] {
        let read = Message::from_vec(&refuse(9, 0x2910, code)).expect("a message");
        let head = read.metadata;
        assert_eq!((head.id, u16::from(head.response_code)), (9, code));
        assert!(head.recursion_desired && head.checking_disabled && read.queries.is_empty());
        assert_eq!(u8::from(head.op_code), 5);
    }
}

#[test]
fn what_we_ask_another_maker_reads_the_same() {
    let mut chance = chance("questions of ours");
    for _ in 0..cases() / 20 {
        let query = query(&mut chance);
        let edns = chance.next().is_multiple_of(2);
        let packet = edge_core::dns::ask(3, &query, &query.name, edns);
        let read = Message::from_vec(&packet).expect("a message");
        assert_eq!((read.metadata.id, read.metadata.message_type), (3, MessageType::Query));
        assert!(read.metadata.recursion_desired);
        assert_eq!(read.metadata.checking_disabled, query.unchecked);
        assert_eq!(labels(read.queries[0].name()), wire(&query.name));
        assert_eq!(read.edns.is_some(), edns);
        let dnssec = query.edns.is_some_and(|edns| edns.dnssec);
        assert!(read.edns.is_none_or(|read| read.flags().dnssec_ok == dnssec));
    }
}
