//! Messages: read, written, shortened, passed on; and bytes that are none.

use crate::dns::{
    Data, Edns, Heard, Name, Query, Record, Reply, code, encode, kind, listen, parse, records,
    refuse, serve,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn query(edns: Option<u16>) -> Query {
    Query {
        id: 0x1234,
        recursion: true,
        unchecked: false,
        name: name("WWW.example.org"),
        kind: kind::A,
        class: 1,
        edns: edns.map(|size| Edns { size, dnssec: false }),
    }
}

fn question(edns: Option<u16>) -> Vec<u8> {
    let query = query(edns);
    crate::dns::ask(query.id, &query, &query.name, edns.is_some())
}

fn addresses(count: u8) -> Reply {
    let record = |n: u8| Record {
        name: name("www.example.org"),
        ttl: 60,
        data: Data::A([192, 0, 2, n].into()),
    };
    Reply { answers: (0..count).map(record).collect(), ..Reply::default() }
}

fn counts(packet: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([packet[at], packet[at + 1]]))
}

fn truncated(packet: &[u8]) -> bool {
    packet[2] & 2 != 0
}

#[test]
fn questions_are_read() {
    let mut want = query(Some(1232));
    assert_eq!(parse(&question(Some(1232))), Ok(want.clone()));
    want.edns = None;
    assert_eq!(parse(&question(None)), Ok(want));
    assert_eq!(query(None).udp_limit(), 512);
    assert_eq!(query(Some(65535)).udp_limit(), 1232);
    assert_eq!(query(Some(20)).udp_limit(), 512);
}

#[test]
fn odd_messages_get_the_answer_that_there_is_for_them() {
    let code_of = |packet: &[u8]| match parse(packet) {
        Err(Some(reply)) => {
            assert_eq!(reply[..2], packet[..2], "the number comes back");
            Some(u16::from(reply[3] & 0xf))
        }
        Err(None) => None,
        Ok(query) => panic!("{query:?}"),
    };
    let with = |at: usize, byte: u8| {
        let mut packet = question(Some(1232));
        packet[at] = byte;
        packet
    };
    assert_eq!(code_of(&[0; 11]), None, "no message");
    assert_eq!(code_of(&with(2, 0x80)), None, "an answer is not answered");
    assert_eq!(code_of(&with(2, 0x28)), Some(code::NOT_IMPLEMENTED), "an update");
    for (at, byte) in [(5, 0), (5, 2), (7, 99), (12, 64), (12, 0xc0), (12, 63)] {
        assert_eq!(code_of(&with(at, byte)), Some(code::FORMAT), "{at} {byte}");
    }
    let version = question(Some(1232)).len() - 5;
    let Err(Some(bad)) = parse(&with(version, 1)) else { panic!() };
    assert_eq!((bad[3] & 0xf, bad[bad.len() - 6]), (0, 1), "BADVERS is 16");
    assert_eq!(refuse(7, 0x0100, code::REFUSED), [0, 7, 0x81, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn any_bytes_at_all_are_survived() {
    // A simple generator, so that a failure comes again.
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let heard = encode(&query(Some(1232)), &addresses(9), 1232);
    for _ in 0..60_000 {
        let start = if next() % 2 == 0 { question(Some(1232)) } else { heard.clone() };
        let mut packet = start;
        for _ in 0..1 + next() % 6 {
            let at = next() as usize % packet.len();
            packet[at] = (next() >> 8) as u8;
        }
        packet.truncate(1 + next() as usize % packet.len());
        let _ = parse(&packet);
        if let Some(heard) = listen(&packet, 0x1234, &query(None), &name("www.example.org")) {
            let out = serve(&heard, &query(Some(512)), 5, 512);
            assert!(out.len() <= 512 && !out.is_empty());
            let _ = records(&heard, 1);
        }
    }
}

#[test]
fn answers_are_written_small_and_cut_where_a_record_ends() {
    let full = encode(&query(None), &addresses(3), 512);
    assert_eq!((counts(&full), truncated(&full)), ([1, 3, 0, 0], false));
    assert_eq!(full.len(), 12 + 17 + 4 + 3 * 16, "the name stands there once");
    let (of, _) = Name::read(&full, 33).unwrap();
    assert_eq!(of.to_string(), "WWW.example.org.");
    let cut = encode(&query(None), &addresses(60), 512);
    assert!(truncated(&cut) && cut.len() <= 512);
    assert_eq!(counts(&cut)[1], 29, "as many as fit, for resolvers that know no TCP");
    let more = encode(&query(Some(4096)), &addresses(60), 1232);
    assert_eq!((counts(&more), truncated(&more)), ([1, 60, 0, 1], false));
    let mut extra = addresses(20);
    extra.additional = addresses(60).answers;
    let less = encode(&query(None), &extra, 512);
    assert!(!truncated(&less), "what nobody asked for is no loss");
}

#[test]
fn what_was_heard_is_checked_aged_and_cut() {
    let asked = name("www.example.org");
    let packet = encode(&query(Some(1232)), &addresses(40), 1232);
    assert_eq!(listen(&packet, 1, &query(None), &asked), None, "another number");
    assert_eq!(listen(&packet, 0x1234, &query(None), &name("example.org")), None);
    let heard = listen(&packet, 0x1234, &query(None), &asked).unwrap();
    assert_eq!((heard.code, heard.truncated, heard.ttl), (0, false, Some(60)));
    // The same question, whose end is the first byte of a count in the header.
    let mut referring = packet.clone();
    let end = 12 + asked.wire().len() - 1;
    referring.splice(end..=end, [0xc0, 4]);
    assert_eq!(listen(&referring, 0x1234, &query(None), &asked), None, "none of our length");
    let mut mine = query(None);
    mine.id = 7;
    mine.name = name("wWw.ExAmPlE.oRg");
    let out = serve(&heard, &mine, 20, 4096);
    assert_eq!(counts(&out), [1, 40, 0, 0]);
    assert_eq!(out[..2], [0, 7]);
    assert_eq!(out[13..16], *b"wWw");
    let again = listen(&out, 7, &mine, &asked).unwrap();
    assert_eq!(again.ttl, Some(40));
    assert_eq!(records(&again, 10)[0].ttl, 30);
    let short = serve(&heard, &mine, 0, 512);
    assert!(truncated(&short) && short.len() <= 512);
    assert!(listen(&short, 7, &mine, &asked).unwrap().ttl.is_none(), "half is not kept");
}

#[test]
fn a_no_counts_as_long_as_its_zone_says() {
    let soa = Data::Soa { server: name("a.b"), contact: name("c.b"), negative: 30 };
    let authority = vec![Record { name: name("org"), ttl: 900, data: soa }];
    let no = Reply { code: code::NO_NAME, authority, ..Reply::default() };
    let packet = encode(&query(None), &no, 512);
    let heard = listen(&packet, 0x1234, &query(None), &name("www.example.org")).unwrap();
    assert_eq!((heard.code, heard.ttl), (code::NO_NAME, Some(30)));
    let bare = Reply { code: code::NO_NAME, ..Reply::default() };
    let packet = encode(&query(None), &bare, 512);
    let heard = listen(&packet, 0x1234, &query(None), &name("www.example.org")).unwrap();
    assert_eq!(heard.ttl, None);
    let broken = Heard { code: code::FAILURE, truncated: false, ttl: None, message: vec![] };
    let out = serve(&broken, &query(None), 0, 512);
    assert_eq!((out[3] & 0xf, counts(&out)), (2, [1, 0, 0, 0]));
}

#[test]
fn names_have_bounds() {
    assert_eq!(Name::new("a..b"), None);
    assert_eq!(Name::new(&"a".repeat(64)), None);
    let long = vec!["a".repeat(49); 5].join(".");
    assert!(Name::new(&long).is_some());
    assert_eq!(Name::new(&format!("{long}.abcdef")), None, "256 bytes");
    // A name that refers to itself, and one that refers forward.
    assert_eq!(Name::read(&[0xc0, 0], 0), None);
    assert_eq!(Name::read(&[0xc0, 2, 0], 0), None);
    assert_eq!(Name::new(".").map(|root| root.to_string()), Some(".".to_owned()));
}
