//! Answers as they go out: a few kinds of records, with the suffixes of names written once.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use super::{
    AUTHORITATIVE, CHECKING_DISABLED, CLASS_IN, DNSSEC_OK, HEADER, Name, OPERATION, Query,
    RECURSION_AVAILABLE, RECURSION_DESIRED, RESPONSE, TRUNCATED, UDP_MOST, kind,
};

/// What became of a question.
pub mod code {
    /// Answered, if only with nothing.
    pub const NONE: u16 = 0;
    /// The question makes no sense.
    pub const FORMAT: u16 = 1;
    /// No answer could be had.
    pub const FAILURE: u16 = 2;
    /// There is no such name.
    pub const NO_NAME: u16 = 3;
    /// An operation that nobody here does.
    pub const NOT_IMPLEMENTED: u16 = 4;
    /// Not for you.
    pub const REFUSED: u16 = 5;
    /// An unknown version of EDNS.
    pub const BAD_VERSION: u16 = 16;
}

/// Bytes of what we say that we can.
pub(super) const OPT_BYTES: usize = 11;
/// References reach no further into a message.
const REACH: usize = 0x3fff;

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name proper.
    Cname(Name),
    /// The name of an address.
    Ptr(Name),
    /// A zone's server.
    Ns(Name),
    /// A text of at most 255 bytes.
    Txt(&'static str),
    /// Host and port, chosen by weight.
    Srv {
        /// Of a hundred, among those with the same name.
        weight: u16,
        /// The port there.
        port: u16,
        /// The host.
        target: Name,
    },
    /// A zone: its server, who minds it, and for how many seconds a "no" counts.
    Soa {
        /// The server.
        server: Name,
        /// Whom to tell about it.
        contact: Name,
        /// Seconds for which a "no" counts.
        negative: u32,
    },
    /// "Ask for something in particular" (RFC 8482).
    Hinfo,
    /// Any other type, whose data holds no reference into a message.
    Raw(u16, Vec<u8>),
}

impl Data {
    /// The record's type.
    pub fn kind(&self) -> u16 {
        match self {
            Data::A(_) => kind::A,
            Data::Aaaa(_) => kind::AAAA,
            Data::Cname(_) => kind::CNAME,
            Data::Ptr(_) => kind::PTR,
            Data::Ns(_) => kind::NS,
            Data::Txt(_) => kind::TXT,
            Data::Srv { .. } => kind::SRV,
            Data::Soa { .. } => kind::SOA,
            Data::Hinfo => kind::HINFO,
            Data::Raw(kind, _) => *kind,
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Whose it is.
    pub name: Name,
    /// Seconds for which it may be remembered.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// One of [`code`].
    pub code: u16,
    /// The server knows by itself.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// On whose authority; with a "no", the zone.
    pub authority: Vec<Record>,
    /// What will be asked for next; left out when there is no room.
    pub additional: Vec<Record>,
}

/// A message that only says no, to one that may not even have a question.
pub fn refuse(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let kept = flags & (OPERATION | RECURSION_DESIRED | CHECKING_DISABLED);
    let mut out = Vec::with_capacity(HEADER);
    for word in [id, RESPONSE | kept | code, 0, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out
}

/// The flags of an answer to `query`.
pub(super) fn flags(query: &Query, code: u16) -> u16 {
    let desired = if query.recursion { RECURSION_DESIRED } else { 0 };
    let unchecked = if query.unchecked { CHECKING_DISABLED } else { 0 };
    RESPONSE | RECURSION_AVAILABLE | desired | unchecked | (code & 0xf)
}

/// What we say that we can, to who said it too.
pub(super) fn put_opt(out: &mut Vec<u8>, query: &Query, code: u16) {
    let Some(edns) = query.edns else { return };
    let dnssec = if edns.dnssec { DNSSEC_OK } else { 0 };
    out.push(0);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&UDP_MOST.to_be_bytes());
    out.extend_from_slice(&((u32::from(code >> 4) << 24) | dnssec).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
}

/// Writes an answer of at most `limit` bytes. What doesn't fit is left out, and the asker told so
/// if it was what it asked for.
pub fn encode(query: &Query, reply: &Reply, limit: usize) -> Vec<u8> {
    let room = limit.saturating_sub(if query.edns.is_some() { OPT_BYTES } else { 0 });
    let mut out = Writer { out: vec![0; HEADER], suffixes: BTreeMap::new() };
    out.name(&query.name, true);
    out.word(query.kind);
    out.word(query.class);
    let mut flags = flags(query, reply.code);
    if reply.authoritative {
        flags |= AUTHORITATIVE;
    }
    let mut counts = [0u16; 3];
    let sections = [&reply.answers, &reply.authority, &reply.additional];
    'sections: for (section, records) in sections.into_iter().enumerate() {
        for record in records {
            let before = out.out.len();
            out.record(record);
            if out.out.len() > room {
                out.out.truncate(before);
                if section < 2 {
                    flags |= TRUNCATED;
                }
                break 'sections;
            }
            counts[section] += 1;
        }
    }
    let mut out = out.out;
    put_opt(&mut out, query, reply.code);
    let extra = u16::from(query.edns.is_some());
    let head = [query.id, flags, 1, counts[0], counts[1], counts[2] + extra];
    for (at, word) in head.into_iter().enumerate() {
        out[at * 2..at * 2 + 2].copy_from_slice(&word.to_be_bytes());
    }
    out
}

struct Writer {
    out: Vec<u8>,
    /// Where each suffix was written first.
    suffixes: BTreeMap<Vec<u8>, u16>,
}

impl Writer {
    fn word(&mut self, word: u16) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    fn long(&mut self, long: u32) {
        self.out.extend_from_slice(&long.to_be_bytes());
    }

    fn name(&mut self, name: &Name, refer: bool) {
        let mut rest = name.wire();
        while rest.len() > 1 {
            let suffix = rest.to_ascii_lowercase();
            if let Some(at) = self.suffixes.get(&suffix).filter(|_| refer) {
                self.word(0xc000 | at);
                return;
            }
            if let Some(at) =
                u16::try_from(self.out.len()).ok().filter(|at| usize::from(*at) <= REACH)
            {
                self.suffixes.entry(suffix).or_insert(at);
            }
            let (label, after) = rest.split_at(1 + usize::from(rest[0]));
            self.out.extend_from_slice(label);
            rest = after;
        }
        self.out.push(0);
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.name, true);
        self.word(record.data.kind());
        self.word(CLASS_IN);
        self.long(record.ttl);
        let length_at = self.out.len();
        self.word(0);
        match &record.data {
            Data::A(ip) => self.out.extend_from_slice(&ip.octets()),
            Data::Aaaa(ip) => self.out.extend_from_slice(&ip.octets()),
            Data::Cname(name) | Data::Ptr(name) | Data::Ns(name) => self.name(name, true),
            Data::Txt(text) => self.text(text),
            Data::Srv { weight, port, target } => {
                for word in [0, *weight, *port] {
                    self.word(word);
                }
                // No reference here (RFC 2782).
                self.name(target, false);
            }
            Data::Soa { server, contact, negative } => {
                self.name(server, true);
                self.name(contact, true);
                for long in [1, 7200, 1800, 86400, *negative] {
                    self.long(long);
                }
            }
            Data::Hinfo => {
                self.text("RFC8482");
                self.text("");
            }
            Data::Raw(_, bytes) => self.out.extend_from_slice(bytes),
        }
        let length = u16::try_from(self.out.len() - length_at - 2).unwrap_or(u16::MAX);
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        let length = text.len().min(255);
        self.out.push(u8::try_from(length).unwrap_or(u8::MAX));
        self.out.extend_from_slice(&text.as_bytes()[..length]);
    }
}
