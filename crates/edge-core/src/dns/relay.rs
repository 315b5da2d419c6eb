//! Questions passed on to other servers, and their answers passed back: checked, kept without
//! what was between us and them, and shortened to what the asker takes. Answers come from
//! anybody, and from far away: one that is odd counts as none.

use super::reply::{OPT_BYTES, code, flags, put_opt};
use super::{
    CHECKING_DISABLED, CLASS_IN, DNSSEC_OK, Data, HEADER, Name, Query, RECURSION_DESIRED, RESPONSE,
    Record, TRUNCATED, UDP_MOST, kind, u16_at, u32_at,
};

/// Seconds for which an answer counts at most, and a "no".
const TTL_MOST: u32 = 3600;
const NO_TTL_MOST: u32 = 300;
/// Records that one answer has at most.
const RECORDS: usize = 2048;

/// The question as it goes to another server; without `edns` for one that doesn't know it.
pub fn ask(id: u16, query: &Query, name: &Name, edns: bool) -> Vec<u8> {
    let unchecked = if query.unchecked { CHECKING_DISABLED } else { 0 };
    let mut out = Vec::with_capacity(HEADER + name.wire().len() + 4 + OPT_BYTES);
    for word in [id, RECURSION_DESIRED | unchecked, 1, 0, 0, u16::from(edns)] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(name.wire());
    out.extend_from_slice(&query.kind.to_be_bytes());
    out.extend_from_slice(&query.class.to_be_bytes());
    if edns {
        let dnssec = query.edns.is_some_and(|edns| edns.dnssec);
        let flags = if dnssec { DNSSEC_OK } else { 0 };
        out.push(0);
        out.extend_from_slice(&kind::OPT.to_be_bytes());
        out.extend_from_slice(&UDP_MOST.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
    out
}

/// What another server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// One of [`code`].
    pub code: u16,
    /// There is more: ask again over TCP.
    pub truncated: bool,
    /// For how many seconds it counts; none for what is not worth keeping.
    pub ttl: Option<u32>,
    /// The message, without what the two servers said of themselves.
    pub message: Vec<u8>,
}

/// A record's place in a message.
struct Place {
    section: usize,
    start: usize,
    kind: u16,
    /// Where its type stands, the TTL and the data follow.
    fixed: usize,
    end: usize,
}

/// The records of a message whose questions end at `at`; none if it is broken.
fn places(packet: &[u8], mut at: usize) -> Option<Vec<Place>> {
    let counts = [6, 8, 10].map(|at| u16_at(packet, at).map_or(0, usize::from));
    if counts.iter().sum::<usize>() > RECORDS {
        return None;
    }
    let mut found = Vec::with_capacity(counts.iter().sum());
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let (_, fixed) = Name::read(packet, at)?;
            let length = usize::from(u16_at(packet, fixed + 8)?);
            let end = fixed + 10 + length;
            packet.get(..end)?;
            found.push(Place { section, start: at, kind: u16_at(packet, fixed)?, fixed, end });
            at = end;
        }
    }
    Some(found)
}

fn set(packet: &mut [u8], at: usize, word: u16) {
    if let Some(place) = packet.get_mut(at..at + 2) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

/// Reads what came back for the question `name` with this number; none if that is no answer to it.
pub fn listen(packet: &[u8], id: u16, query: &Query, name: &Name) -> Option<Heard> {
    let flags = u16_at(packet, 2)?;
    if u16_at(packet, 0)? != id || flags & RESPONSE == 0 {
        return None;
    }
    let mut heard = Heard {
        code: flags & 0xf,
        truncated: flags & TRUNCATED != 0,
        ttl: None,
        message: Vec::new(),
    };
    if u16_at(packet, 4)? == 0 && heard.code != code::NONE {
        // Some servers repeat nothing of what they refuse.
        return Some(heard);
    }
    let (of, at) = Name::read(packet, HEADER)?;
    // A question that is written by reference has another length than ours, where records begin.
    let same = u16_at(packet, 4)? == 1
        && of.lower() == name.lower()
        && at == HEADER + name.wire().len()
        && u16_at(packet, at)? == query.kind
        && u16_at(packet, at + 2)? == query.class;
    let places = places(packet, at + 4).filter(|_| same)?;
    // What servers say of themselves stands last; whatever follows it goes as well.
    let own = places.iter().position(|place| place.section == 2 && place.kind == kind::OPT);
    let kept = &places[..own.unwrap_or(places.len())];
    let end = kept.last().map_or(at + 4, |place| place.end);
    heard.message = packet.get(..end)?.to_vec();
    if let Some(at) = own {
        let extended = u16::from(*packet.get(places[at].fixed + 4)?);
        heard.code |= extended << 4;
    }
    let additional = kept.iter().filter(|place| place.section == 2).count();
    set(&mut heard.message, 10, u16::try_from(additional).ok()?);
    // A name may refer to anything before it, also to the count that was just changed.
    if own.is_some() {
        self::places(&heard.message, at + 4)?;
    }
    heard.ttl = ttl(packet, kept, heard.code).filter(|_| !heard.truncated);
    Some(heard)
}

/// For how long an answer counts: the least of its records; a "no" as the zone has it (RFC 2308).
fn ttl(packet: &[u8], places: &[Place], code: u16) -> Option<u32> {
    let of = |place: &Place| u32_at(packet, place.fixed + 4);
    let answers = places.iter().filter(|place| place.section == 0);
    let least = answers.filter_map(of).min();
    match (code, least) {
        (code::NONE, Some(least)) => Some(least.min(TTL_MOST)),
        (code::NONE | code::NO_NAME, _) => {
            let soa = places.iter().find(|place| place.section == 1 && place.kind == kind::SOA)?;
            let minimum = u32_at(packet, soa.end.checked_sub(4)?)?;
            let all = [of(soa)?, minimum, NO_TTL_MOST].into_iter().chain(least);
            all.min()
        }
        _ => None,
    }
}

/// The answer to `query` out of what was heard `age` seconds ago, in at most `limit` bytes.
pub fn serve(heard: &Heard, query: &Query, age: u32, limit: usize) -> Vec<u8> {
    let question = HEADER + query.name.wire().len() + 4;
    let room = limit.saturating_sub(if query.edns.is_some() { OPT_BYTES } else { 0 });
    let places = places(&heard.message, question).unwrap_or_default();
    let fits = places.iter().take_while(|place| place.end <= room).count();
    let mut counts = [0u16; 3];
    places[..fits].iter().for_each(|place| counts[place.section] += 1);
    let cut = places[fits..].iter().any(|place| place.section < 2);
    let end = places.get(fits).map_or(heard.message.len().max(question), |place| place.start);
    let mut out = heard.message.get(..end.min(heard.message.len())).unwrap_or_default().to_vec();
    out.resize(out.len().max(question), 0);
    for place in &places[..fits] {
        let at = place.fixed + 4;
        let left = u32_at(&out, at).unwrap_or(0).saturating_sub(age);
        out[at..at + 4].copy_from_slice(&left.to_be_bytes());
    }
    // As the asker spells it: some compare.
    out[HEADER..question - 4].copy_from_slice(query.name.wire());
    set(&mut out, question - 4, query.kind);
    set(&mut out, question - 2, query.class);
    let short = if cut || heard.truncated { TRUNCATED } else { 0 };
    put_opt(&mut out, query, heard.code);
    let additional = counts[2] + u16::from(query.edns.is_some());
    let words = [query.id, flags(query, heard.code) | short, 1, counts[0], counts[1], additional];
    for (at, word) in words.into_iter().enumerate() {
        set(&mut out, at * 2, word);
    }
    out
}

/// Types whose data may refer into the message (RFC 3597); the rest can be copied.
const REFERRING: &[u16] = &[2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 21, 24, 26, 30, 33, 35, 36];

/// The records that answer, `age` seconds after they were heard, to be put behind others; those
/// that can't be taken out of their message are left out.
pub fn records(heard: &Heard, age: u32) -> Vec<Record> {
    let message = &heard.message;
    let Some((_, at)) = Name::read(message, HEADER) else { return Vec::new() };
    let places = places(message, at + 4).unwrap_or_default();
    let read = |place: &Place| {
        let (name, _) = Name::read(message, place.start)?;
        let data = message.get(place.fixed + 10..place.end)?;
        let data = match place.kind {
            kind::A => Data::A(<[u8; 4]>::try_from(data).ok()?.into()),
            kind::AAAA => Data::Aaaa(<[u8; 16]>::try_from(data).ok()?.into()),
            kind::CNAME => Data::Cname(Name::read(message, place.fixed + 10)?.0),
            kind if REFERRING.contains(&kind) => return None,
            kind => Data::Raw(kind, data.to_vec()),
        };
        let class = u16_at(message, place.fixed + 2)?;
        let ttl = u32_at(message, place.fixed + 4)?.saturating_sub(age);
        (class == CLASS_IN).then_some(Record { name, ttl, data })
    };
    places.iter().filter(|place| place.section == 0).filter_map(read).collect()
}
