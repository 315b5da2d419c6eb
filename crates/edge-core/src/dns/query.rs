//! A question as it comes in, from anybody in a pod: whatever is odd about it gets the answer
//! that DNS has for it, and nothing else happens.

use super::reply::{code, refuse};
use super::{
    CHECKING_DISABLED, DNSSEC_OK, HEADER, Name, OPERATION, RECURSION_DESIRED, RESPONSE, UDP_BYTES,
    UDP_MOST, kind, u16_at, u32_at,
};

/// Records that a question may bring along.
const EXTRAS: usize = 8;

/// What the asker said it can (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Bytes of an answer over UDP that it takes.
    pub size: u16,
    /// It wants signatures.
    pub dnssec: bool,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The number that the answer repeats.
    pub id: u16,
    /// It asks for more than what the server itself knows.
    pub recursion: bool,
    /// It wants answers whose signatures are wrong.
    pub unchecked: bool,
    /// What is asked about, as the asker spells it.
    pub name: Name,
    /// The type of records.
    pub kind: u16,
    /// The class.
    pub class: u16,
    /// What the asker can, if it said so.
    pub edns: Option<Edns>,
}

impl Query {
    /// Bytes that an answer over UDP may have.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_BYTES, |edns| edns.size.clamp(UDP_BYTES, UDP_MOST)).into()
    }
}

/// Reads a question. An error is the message to send back instead, if any.
pub fn parse(packet: &[u8]) -> Result<Query, Option<Vec<u8>>> {
    let (Some(id), Some(flags)) = (u16_at(packet, 0), u16_at(packet, 2)) else { return Err(None) };
    if packet.len() < HEADER || flags & RESPONSE != 0 {
        return Err(None);
    }
    if flags & OPERATION != 0 {
        return Err(Some(refuse(id, flags, code::NOT_IMPLEMENTED)));
    }
    let malformed = || Some(refuse(id, flags, code::FORMAT));
    let count = |at| u16_at(packet, at).map_or(0, usize::from);
    let extras = count(6) + count(8) + count(10);
    if count(4) != 1 || extras > EXTRAS {
        return Err(malformed());
    }
    let (name, at) = Name::read(packet, HEADER).ok_or_else(malformed)?;
    let (Some(kind), Some(class)) = (u16_at(packet, at), u16_at(packet, at + 2)) else {
        return Err(malformed());
    };
    let mut query = Query {
        id,
        recursion: flags & RECURSION_DESIRED != 0,
        unchecked: flags & CHECKING_DISABLED != 0,
        name,
        kind,
        class,
        edns: None,
    };
    match edns(packet, at + 4, extras, extras - count(10)) {
        Some(Ok(edns)) => query.edns = edns,
        Some(Err(())) => {
            query.edns = Some(Edns { size: UDP_BYTES, dnssec: false });
            let reply = super::Reply { code: code::BAD_VERSION, ..super::Reply::default() };
            return Err(Some(super::encode(&query, &reply, UDP_BYTES.into())));
        }
        None => return Err(malformed()),
    }
    Ok(query)
}

/// What the records after the question say that the asker can; an error is a version of this that
/// nobody knows, and nothing is a message that is broken. The first `before` records are in
/// sections where that has no place.
fn edns(
    packet: &[u8],
    start: usize,
    extras: usize,
    before: usize,
) -> Option<Result<Option<Edns>, ()>> {
    let (mut at, mut found, mut version) = (start, None, 0);
    for number in 0..extras {
        let (name, next) = Name::read(packet, at)?;
        let class = u16_at(packet, next + 2)?;
        let flags = u32_at(packet, next + 4)?;
        let length = usize::from(u16_at(packet, next + 8)?);
        packet.get(next + 10..next + 10 + length)?;
        if u16_at(packet, next)? == kind::OPT {
            if number < before || found.is_some() || name.labels().next().is_some() {
                return None;
            }
            version = (flags >> 16) & 0xff;
            found = Some(Edns { size: class, dnssec: flags & DNSSEC_OK != 0 });
        }
        at = next + 10 + length;
    }
    Some(if version == 0 { Ok(found) } else { Err(()) })
}
