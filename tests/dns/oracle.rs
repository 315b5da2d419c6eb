//! The other maker's view of a question: what its readers of headers, names and questions make of
//! the bytes, and what a server should therefore do.

use edge_core::dns::code;
use hickory_proto::op::{Header, Message, Query};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is none.
    Ignored,
    /// It is refused with this code.
    Refused(u16),
    /// It is answered.
    Taken(Box<Read>),
}

/// What was read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) id: u16,
    pub(super) recursion: bool,
    pub(super) unchecked: bool,
    pub(super) labels: Vec<Vec<u8>>,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<(u16, bool)>,
}

/// Records beside the question that we read at most.
const EXTRAS: usize = 8;

pub(super) fn labels(name: &Name) -> Vec<Vec<u8>> {
    name.iter().map(<[u8]>::to_vec).collect()
}

/// What the other maker's parts say.
pub(super) fn theirs(packet: &[u8]) -> Decision {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let mut decoder = BinDecoder::new(packet);
    if packet.len() < 12 || packet[2] & 0x80 != 0 {
        return Decision::Ignored;
    }
    if packet[2] & 0x78 != 0 {
        return Decision::Refused(code::NOT_IMPLEMENTED);
    }
    let Ok(header) = Header::read(&mut decoder) else { return Decision::Refused(code::FORMAT) };
    let counts = header.counts;
    let before = usize::from(counts.answers) + usize::from(counts.authorities);
    let extras = before + usize::from(counts.additionals);
    let malformed = Decision::Refused(code::FORMAT);
    if counts.queries != 1 || extras > EXTRAS {
        return malformed;
    }
    let Ok(query) = Query::read(&mut decoder) else { return malformed };
    let (mut edns, mut version) = (None, 0);
    for number in 0..extras {
        let Ok(owner) = Name::read(&mut decoder) else { return malformed };
        let at = decoder.index();
        let Some([kind, class, high, low, length]) = [0, 2, 4, 6, 8]
            .map(|more| word(at + more))
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .and_then(|words| <[u16; 5]>::try_from(words).ok())
        else {
            return malformed;
        };
        if decoder.read_slice(10 + usize::from(length)).is_err() {
            return malformed;
        }
        if kind == 41 {
            if edns.is_some() || number < before || !owner.is_root() {
                return malformed;
            }
            (edns, version) = (Some((class, low & 0x8000 != 0)), high & 0xff);
        }
    }
    if version != 0 {
        return Decision::Refused(code::BAD_VERSION);
    }
    let metadata = header.metadata;
    Decision::Taken(Box::new(Read {
        id: metadata.id,
        recursion: metadata.recursion_desired,
        unchecked: metadata.checking_disabled,
        labels: labels(query.name()),
        kind: query.query_type().into(),
        class: query.query_class().into(),
        edns,
    }))
}

/// What we say.
pub(super) fn ours(packet: &[u8]) -> Decision {
    match edge_core::dns::parse(packet) {
        Ok(query) => Decision::Taken(Box::new(Read {
            id: query.id,
            recursion: query.recursion,
            unchecked: query.unchecked,
            labels: query.name.labels().map(<[u8]>::to_vec).collect(),
            kind: query.kind,
            class: query.class,
            edns: query.edns.map(|edns| (edns.size, edns.dnssec)),
        })),
        Err(None) => Decision::Ignored,
        Err(Some(refusal)) => {
            let message = Message::from_vec(&refusal).expect("a refusal is a message");
            assert_eq!(message.metadata.id.to_be_bytes(), packet[..2]);
            Decision::Refused(message.metadata.response_code.into())
        }
    }
}
