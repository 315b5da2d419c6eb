//! Packets that no honest kernel sends: made by hand, with whatever sender they say.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;

/// A way to send them from where the thread that made it stood.
pub(crate) struct Forge(OwnedFd);

impl Forge {
    pub(crate) fn new() -> Forge {
        let raw = SockType::Raw;
        let made = socket(AddressFamily::Inet, raw, SockFlag::empty(), SockProtocol::Raw);
        Forge(made.expect("root may make raw sockets"))
    }

    /// The first packet of a TCP connection.
    pub(crate) fn syn(&self, from: SocketAddrV4, to: SocketAddrV4, sequence: u32) {
        let mut tcp = Vec::with_capacity(20);
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend([0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
        let sum = checksum(*from.ip(), *to.ip(), &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        self.send(TCP, *from.ip(), to, &tcp);
    }

    /// A datagram.
    pub(crate) fn datagram(&self, from: SocketAddrV4, to: SocketAddrV4, text: &[u8]) {
        let length = u16::try_from(8 + text.len()).expect("a short text");
        let mut udp = Vec::with_capacity(length.into());
        udp.extend(from.port().to_be_bytes());
        udp.extend(to.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        // No checksum.
        udp.extend([0, 0]);
        udp.extend(text);
        self.send(UDP, *from.ip(), to, &udp);
    }

    /// The kernel adds what the header lacks: length, number, checksum.
    fn send(&self, protocol: u8, from: Ipv4Addr, to: SocketAddrV4, payload: &[u8]) {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(from.octets());
        packet.extend(to.ip().octets());
        packet.extend(payload);
        let to = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
        // A full queue loses packets, as a real one does.
        let _ = sendto(self.0.as_raw_fd(), &packet, &to, MsgFlags::empty());
    }
}

fn checksum(from: Ipv4Addr, to: Ipv4Addr, tcp: &[u8]) -> u16 {
    let mut all = [from.octets(), to.octets()].concat();
    all.extend([0, TCP]);
    all.extend(u16::try_from(tcp.len()).expect("a header").to_be_bytes());
    all.extend(tcp);
    let words =
        all.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("sixteen bits")
}
