//! Answers from afar, as the other maker writes them and as nobody should: what we pass on says the
//! same, older by its age; what is broken counts as none.

use std::str::FromStr;

use edge_core::consensus::Chance;
use edge_core::dns::{Data, Query, listen, parse, records, serve};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};

use super::{cases, chance, mutate};

fn their_name(chance: &mut Chance) -> Name {
    let ends = ["example.org.", "Cdn.example.org.", "lan.", "a.b.c.d.e.f.lan.", "."];
    let end = Name::from_str(ends[chance.below(ends.len())]).expect("a name");
    match chance.next() % 3 {
        0 => end,
        n => Name::from_str(&format!("w{n}")).and_then(|w| w.append_domain(&end)).expect("a name"),
    }
}

fn their_record(chance: &mut Chance) -> Record {
    let data = match chance.next() % 7 {
        0 => RData::A(A::new(192, 0, 2, chance.next() as u8)),
        1 => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, chance.next() as u16)),
        2 => RData::CNAME(CNAME(their_name(chance))),
        3 => RData::MX(MX::new(10, their_name(chance))),
        4 => RData::SRV(SRV::new(1, 2, 443, their_name(chance))),
        5 => RData::TXT(TXT::new(vec!["some text".into(), String::new()])),
        _ => RData::SOA(SOA::new(their_name(chance), their_name(chance), 1, 2, 3, 4, 5)),
    };
    Record::from_rdata(their_name(chance), 1 + chance.next() as u32 % 100_000, data)
}

/// A question, and what somebody answers to it.
fn exchange(chance: &mut Chance) -> (Query, Message, Vec<u8>) {
    let question = Question::query(their_name(chance), [1u16, 28, 33, 15][chance.below(4)].into());
    let mut asked = Message::new(77, MessageType::Query, OpCode::Query);
    asked.metadata.recursion_desired = true;
    asked.queries.push(question.clone());
    if chance.next().is_multiple_of(2) {
        let mut edns = Edns::new();
        edns.set_max_payload(chance.next() as u16);
        asked.edns = Some(edns);
    }
    let packet = asked.to_vec().expect("a question");
    let query = parse(&packet).expect("another maker's question");
    let mut said = Message::new(77, MessageType::Response, OpCode::Query);
    said.metadata.response_code = [
        ResponseCode::NoError,
        ResponseCode::NXDomain,
        ResponseCode::ServFail,
        ResponseCode::BADVERS,
    ][chance.below(4)];
    said.queries.push(question);
    for (section, most) in [(0, 20), (1, 3), (2, 4)] {
        for _ in 0..chance.below(most) {
            let record = their_record(chance);
            match section {
                0 => said.answers.push(record),
                1 => said.authorities.push(record),
                _ => said.additionals.push(record),
            }
        }
    }
    if chance.next().is_multiple_of(2) || said.metadata.response_code == ResponseCode::BADVERS {
        said.edns = Some(Edns::new());
    }
    let packet = said.to_vec().expect("an answer");
    (query, said, packet)
}

#[test]
fn what_is_passed_on_says_the_same() {
    let mut chance = chance("passed on");
    let mut cut = 0;
    for _ in 0..cases() / 20 {
        let (query, said, packet) = exchange(&mut chance);
        let heard = listen(&packet, 77, &query, &query.name).expect("an answer to the question");
        assert_eq!(heard.code, u16::from(said.metadata.response_code));
        let age = chance.next() as u32 % 50;
        let limit = [query.udp_limit(), 65_535][chance.below(2)];
        let passed = serve(&heard, &query, age, limit);
        assert!(passed.len() <= limit.max(512), "{} of {limit}", passed.len());
        let read = Message::from_vec(&passed).expect("a message");
        let code = u16::from(said.metadata.response_code);
        let code = if query.edns.is_some() { code } else { code & 0xf };
        assert_eq!(u16::from(read.metadata.response_code), code);
        assert_eq!(read.queries, said.queries);
        let older = |records: &[Record]| {
            let mut records = records.to_vec();
            records.iter_mut().for_each(|record| record.ttl = record.ttl.saturating_sub(age));
            records
        };
        let sections = [
            (older(&said.answers), &read.answers),
            (older(&said.authorities), &read.authorities),
            (older(&said.additionals), &read.additionals),
        ];
        let mut short = false;
        for (n, (want, got)) in sections.iter().enumerate() {
            assert_eq!(want[..got.len()], got[..]);
            short |= n < 2 && got.len() < want.len();
        }
        assert_eq!(read.metadata.truncation, short);
        cut += u32::from(short);
        taken_out(&heard, &said.answers, age);
    }
    println!("{cut} cut short");
    assert!(cut > 10);
}

/// Records that are put behind others are the same ones.
fn taken_out(heard: &edge_core::dns::Heard, said: &[Record], age: u32) {
    let ours = records(heard, age);
    let plain = |record: &&Record| {
        matches!(record.data, RData::A(_) | RData::AAAA(_) | RData::CNAME(_) | RData::TXT(_))
    };
    let said: Vec<&Record> = said.iter().filter(plain).collect();
    assert_eq!(ours.len(), said.len());
    for (one, other) in ours.iter().zip(said) {
        match &one.data {
            Data::Raw(16, bytes) => assert_eq!(bytes, b"\x09some text\x00"),
            _ => {
                let mut aged = other.clone();
                aged.ttl = other.ttl.saturating_sub(age);
                assert!(super::made::same(one, &aged), "{one:?} is {other:?}");
            }
        }
    }
}

#[test]
fn no_answer_from_afar_makes_us_stumble() {
    let mut chance = chance("from afar");
    let (mut heard_some, mut passed_some) = (0, 0);
    for n in 0..cases() / 2 {
        let (query, _, mut packet) = exchange(&mut chance);
        if n % 16 == 0 {
            packet = (0..chance.below(200)).map(|_| chance.next() as u8).collect();
        } else {
            mutate(&mut chance, &mut packet);
        }
        let Some(heard) = listen(&packet, 77, &query, &query.name) else { continue };
        heard_some += 1;
        let limit = query.udp_limit();
        let passed = serve(&heard, &query, 3, limit);
        assert!(passed.len() <= limit.max(512), "case {n}");
        records(&heard, 3);
        // A name that refers to what is no name, such as a time to live, may be another one now,
        // and data that is broken in itself is passed on to who asked for it.
        passed_some += u32::from(Message::from_vec(&passed).is_ok());
    }
    println!("{heard_some} of {} were answers, {passed_some} of them whole", cases() / 2);
    assert!(heard_some > 1000);
}
