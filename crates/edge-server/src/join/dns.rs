//! The few DNS messages by which boards of a LAN find servers (RFC 6762, 6763): one question, one
//! service, no more. Packets come from anybody: whatever is odd in one makes it nothing, and what
//! is read from one is a place to ask at, which must then prove itself.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The service's name.
const SERVICE: [&str; 3] = ["_edged", "_tcp", "local"];
/// Questions and records that are looked at in one packet.
const ITEMS: usize = 32;
/// Labels of a name, and jumps within it, at most.
const STEPS: usize = 32;
/// Bytes of a packet that are looked at.
pub(super) const PACKET_BYTES: usize = 1472;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_TXT: u16 = 16;
const TYPE_SRV: u16 = 33;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
/// Asks that the answer replace what is remembered.
const FLUSH: u16 = 0x8000;
/// Seconds for which an answer may be remembered.
const TTL: u32 = 120;

/// A server as it announces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// Its board's name.
    pub(super) name: String,
    /// The id of its cluster.
    pub(super) cluster: String,
    /// Where its API listens.
    pub(super) api: SocketAddrV4,
}

/// The question for servers.
pub(super) fn question() -> Vec<u8> {
    let mut out = header(0, 1, 0);
    put_name(&mut out, &SERVICE);
    put(&mut out, &[TYPE_PTR, CLASS_IN]);
    out
}

/// Whether a packet asks for servers; gives its id, which an answer repeats.
pub(super) fn asks(packet: &[u8]) -> Option<u16> {
    let flags = u16_at(packet, 2)?;
    let count = usize::from(u16_at(packet, 4)?);
    if flags & 0x8000 != 0 || count > ITEMS {
        return None;
    }
    let mut at = 12;
    for _ in 0..count {
        let (name, next) = name_at(packet, at)?;
        let kind = u16_at(packet, next)?;
        if matches!(kind, TYPE_PTR | TYPE_ANY) && is_service(&name) {
            return u16_at(packet, 0);
        }
        at = next + 4;
    }
    None
}

/// The answer: the service's pointer to this server, and where that is.
pub(super) fn answer(id: u16, server: &Announced) -> Vec<u8> {
    let mut out = header(id, 0, 4);
    let label = server.name.replace('.', "-");
    let instance = [label.as_str(), SERVICE[0], SERVICE[1], SERVICE[2]];
    let host = [label.as_str(), "local"];
    record(&mut out, &SERVICE, TYPE_PTR, CLASS_IN, |data| put_name(data, &instance));
    record(&mut out, &instance, TYPE_SRV, CLASS_IN | FLUSH, |data| {
        put(data, &[0, 0, server.api.port()]);
        put_name(data, &host);
    });
    record(&mut out, &instance, TYPE_TXT, CLASS_IN | FLUSH, |data| {
        let text = format!("cluster={}", server.cluster);
        data.push(u8::try_from(text.len()).unwrap_or_default());
        data.extend(text.bytes().take(255));
    });
    let address = server.api.ip().octets();
    record(&mut out, &host, TYPE_A, CLASS_IN | FLUSH, |data| data.extend(address));
    out
}

/// The servers that an answer names.
pub(super) fn servers(packet: &[u8]) -> Option<Vec<Announced>> {
    let count = |at| u16_at(packet, at).map(usize::from);
    let (questions, records) = (count(4)?, count(6)? + count(8)? + count(10)?);
    if u16_at(packet, 2)? & 0x8000 == 0 || questions > ITEMS || records > ITEMS {
        return None;
    }
    let mut at = 12;
    for _ in 0..questions {
        at = name_at(packet, at)?.1 + 4;
    }
    let (mut ports, mut texts, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..records {
        let (name, next) = name_at(packet, at)?;
        let (kind, length) = (u16_at(packet, next)?, usize::from(u16_at(packet, next + 8)?));
        let data = next + 10;
        let bytes = packet.get(data..data + length)?;
        match kind {
            TYPE_SRV if is_service(name.get(1..)?) => {
                let host = name_at(packet, data + 6)?.0;
                ports.push((name, u16_at(packet, data + 4)?, host));
            }
            TYPE_TXT => texts.push((name, bytes)),
            TYPE_A => {
                let octets = <[u8; 4]>::try_from(bytes).ok()?;
                addresses.push((name, Ipv4Addr::from(octets)));
            }
            _ => {}
        }
        at = data + length;
    }
    let found = ports.into_iter().filter_map(|(instance, port, host)| {
        let address = addresses.iter().find(|(name, _)| *name == host)?.1;
        let text = texts.iter().find(|(name, _)| *name == instance).map(|(_, bytes)| *bytes);
        let text = String::from_utf8_lossy(text?.get(1..)?).into_owned();
        Some(Announced {
            name: instance.first()?.clone(),
            cluster: text.strip_prefix("cluster=")?.to_owned(),
            api: SocketAddrV4::new(address, port),
        })
    });
    Some(found.collect())
}

fn is_service(name: &[String]) -> bool {
    name.len() == SERVICE.len() && name.iter().zip(SERVICE).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

fn header(id: u16, questions: u16, answers: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // A response is authoritative.
    let flags = if answers > 0 { 0x8400 } else { 0 };
    put(&mut out, &[id, flags, questions, answers, 0, 0]);
    out
}

fn put(out: &mut Vec<u8>, numbers: &[u16]) {
    out.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
}

fn put_name(out: &mut Vec<u8>, labels: &[&str]) {
    for label in labels {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        out.push(u8::try_from(bytes.len()).unwrap_or_default());
        out.extend(bytes);
    }
    out.push(0);
}

fn record(out: &mut Vec<u8>, name: &[&str], kind: u16, class: u16, fill: impl Fn(&mut Vec<u8>)) {
    put_name(out, name);
    put(out, &[kind, class]);
    out.extend(TTL.to_be_bytes());
    let mut data = Vec::new();
    fill(&mut data);
    put(out, &[u16::try_from(data.len()).unwrap_or_default()]);
    out.extend(data);
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The name at a place, and where what follows it begins.
fn name_at(packet: &[u8], mut at: usize) -> Option<(Vec<String>, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    for _ in 0..STEPS {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some((labels, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = packet.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
            192.. => {
                end = end.or(Some(at + 2));
                at = usize::from(u16_at(packet, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Announced {
        Announced {
            name: "pi-1".into(),
            cluster: "0123456789abcdef".into(),
            api: "192.168.1.5:6443".parse().unwrap(),
        }
    }

    #[test]
    fn a_question_is_answered() {
        let question = question();
        assert_eq!(asks(&question), Some(0));
        let answer = answer(7, &server());
        assert_eq!(asks(&answer), None);
        assert_eq!(servers(&answer), Some(vec![server()]));
        assert_eq!(servers(&question), None);
    }

    #[test]
    fn torn_and_twisted_packets_are_nothing() {
        let answer = answer(7, &server());
        for end in 0..answer.len() {
            assert!(servers(&answer[..end]).is_none(), "{end}");
        }
        // Every byte may be anything; what comes of it may be wrong, and must come.
        for at in 0..answer.len() {
            for value in [0, 1, 63, 64, 192, 255] {
                let mut packet = answer.clone();
                packet[at] = value;
                let _ = (servers(&packet), asks(&packet));
            }
        }
        // A name that points at itself.
        let mut packet = header(0, 1, 0);
        packet.extend([0xc0, 12, 0, 12, 0, 1]);
        assert_eq!(asks(&packet), None);
    }
}
