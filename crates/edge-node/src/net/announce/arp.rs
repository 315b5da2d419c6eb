//! ARP on the wire (RFC 826): Ethernet and IPv4 only.

use edge_core::proxy::claims::{Arp, Mac, Say};
use std::net::Ipv4Addr;

/// An Ethernet header and an ARP packet.
pub(super) const FRAME: usize = 42;
/// To everybody on the link.
const EVERYBODY: Mac = [0xff; 6];
/// What an ARP packet begins with: Ethernet, IPv4, and the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ETHERTYPE: [u8; 2] = [8, 6];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Reads a frame; `None` when it is no ARP packet of that kind.
pub(super) fn read(frame: &[u8]) -> Option<Arp> {
    let packet = frame.get(14..FRAME)?;
    if frame[12..14] != ETHERTYPE || packet[..6] != KIND || packet[6] != 0 {
        return None;
    }
    let mac = |at: usize| Mac::try_from(&packet[at..at + 6]).ok();
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).ok()?));
    let request = match packet[7] {
        REQUEST => true,
        REPLY => false,
        _ => return None,
    };
    Some(Arp { request, sender: (mac(8)?, ip(14)?), target: ip(24)? })
}

/// The frame that says it, from the link with that hardware address.
pub(super) fn write(own: Mac, say: &Say) -> [u8; FRAME] {
    let nobody = (Mac::default(), Ipv4Addr::UNSPECIFIED);
    let (to, operation, sender, target) = match *say {
        Say::Probe(ip) => (EVERYBODY, REQUEST, Ipv4Addr::UNSPECIFIED, (nobody.0, ip)),
        Say::Announce(ip) => (EVERYBODY, REQUEST, ip, (nobody.0, ip)),
        Say::Answer(ip, asker) => (asker.0, REPLY, ip, asker),
    };
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&own);
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame[14..20].copy_from_slice(&KIND);
    frame[21] = operation;
    frame[22..28].copy_from_slice(&own);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[32..38].copy_from_slice(&target.0);
    frame[38..42].copy_from_slice(&target.1.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_nonsense_does_not() {
        let own = [2, 0, 0, 0, 0, 1];
        let (ip, asker) = (Ipv4Addr::new(192, 0, 2, 240), Ipv4Addr::new(192, 0, 2, 5));
        let other = ([2, 0, 0, 0, 0, 5], asker);
        for (say, request, sender, target, to) in [
            (Say::Probe(ip), true, Ipv4Addr::UNSPECIFIED, ip, EVERYBODY),
            (Say::Announce(ip), true, ip, ip, EVERYBODY),
            (Say::Answer(ip, other), false, ip, asker, other.0),
        ] {
            let frame = write(own, &say);
            assert_eq!(frame[..6], to);
            assert_eq!(read(&frame), Some(Arp { request, sender: (own, sender), target }));
            for bad in 0..FRAME {
                let _ = read(&frame[..bad]);
                assert_eq!(read(&frame[..bad]), None);
            }
            let mut six = frame;
            six[17] = 0xdd;
            assert_eq!(read(&six), None);
        }
    }
}
