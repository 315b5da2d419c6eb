//! What is said to the kernel about tunnels, by its generic netlink family `wireguard`, and what it
//! answers; the numbers are those of `linux/wireguard.h` and `linux/genetlink.h`.

use super::super::netlink::{ACK, Attributes, DUMP, Message, Reply};
use edge_core::podnet::Range;
use edge_core::podnet::tunnel::{Change, Key, SeenPeer};
use std::net::{Ipv4Addr, SocketAddrV4};

/// What the kernel calls this family.
const FAMILY: &str = "wireguard";
/// The number of the family that knows the others' numbers.
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;
const DEVICE_LINK: u16 = 1;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_HANDSHAKE: u16 = 6;
const PEER_SENT: u16 = 8;
const PEER_RANGES: u16 = 9;
const REMOVE_PEER: u32 = 1;
const REPLACE_RANGES: u32 = 2;
const UPDATE_ONLY: u32 = 4;
const RANGE_FAMILY: u16 = 1;
const RANGE_ADDRESS: u16 = 2;
const RANGE_LENGTH: u16 = 3;
const INET: u16 = 2;
/// The length of the header after netlink's own.
const HEADER: usize = 4;

/// Peers in one message: a list of theirs stays far below the 64 KiB that it may have.
const PEERS_AT_ONCE: usize = 64;
/// Keys that were agreed on are thrown away after this many seconds.
const KEYS_LIVE: i64 = 180;
/// Setting this interval makes the kernel greet a new peer at once.
const GREETING: u16 = 25;

/// What is asked for one side of a tunnel and what the kernel has of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Device {
    pub(super) private: Option<[u8; 32]>,
    pub(super) public: Option<Key>,
    pub(super) port: u16,
    pub(super) peers: Vec<SeenPeer>,
}

/// Asks for the family's number.
pub(super) fn get_family() -> Message {
    let mut message = Message::new(CONTROL, ACK, &[CONTROL_GET_FAMILY, VERSION, 0, 0]);
    message.put_str(CONTROL_FAMILY_NAME, FAMILY);
    message
}

/// The family's number.
pub(super) fn read_family(replies: &[Reply]) -> Option<u16> {
    replies.iter().find_map(|reply| {
        let attributes = Attributes(reply.body.get(HEADER..)?);
        Some(u16::from_ne_bytes(attributes.find(CONTROL_FAMILY_ID)?.try_into().ok()?))
    })
}

fn about(family: u16, flags: u16, command: u8, link: u32) -> Message {
    let mut message = Message::new(family, flags, &[command, VERSION, 0, 0]);
    message.put_u32(DEVICE_LINK, link);
    message
}

/// Asks for all of a link.
pub(super) fn get_device(family: u16, link: u32) -> Message {
    about(family, DUMP, GET_DEVICE, link)
}

/// Sets the board's own side.
pub(super) fn set_own(family: u16, link: u32, private: &[u8; 32], port: u16) -> Message {
    let mut message = about(family, 0, SET_DEVICE, link);
    message.put(DEVICE_PRIVATE_KEY, private);
    message.put(DEVICE_PORT, &port.to_ne_bytes());
    message
}

/// Changes the other sides. A new one is greeted at once: the keys are agreed on before the first
/// packet needs them, also when the other side has been trying in vain until now.
pub(super) fn set_peers(family: u16, link: u32, changes: &[Change]) -> Vec<Message> {
    let mut messages = Vec::new();
    for part in changes.chunks(PEERS_AT_ONCE) {
        let mut message = about(family, 0, SET_DEVICE, link);
        message.nest(DEVICE_PEERS, |list| {
            for change in part {
                list.nest(0, |peer| put_peer(peer, change));
            }
        });
        messages.push(message);
    }
    let calm = |change: &Change| match change {
        Change::Set { key, fresh: true, keepalive, .. } if *keepalive != Some(GREETING) => {
            let (endpoint, pods) = (None, None);
            Some(Change::Set { key: *key, fresh: false, endpoint, pods, keepalive: *keepalive })
        }
        _ => None,
    };
    let calm: Vec<Change> = changes.iter().filter_map(calm).collect();
    if !calm.is_empty() {
        messages.extend(set_peers(family, link, &calm));
    }
    messages
}

fn put_peer(peer: &mut Message, change: &Change) {
    match change {
        Change::Remove(key) => {
            peer.put(PEER_KEY, &key.0);
            peer.put_u32(PEER_FLAGS, REMOVE_PEER);
        }
        Change::Set { key, fresh, endpoint, pods, keepalive } => {
            peer.put(PEER_KEY, &key.0);
            let only = if *fresh { 0 } else { UPDATE_ONLY };
            peer.put_u32(PEER_FLAGS, only | pods.map_or(0, |_| REPLACE_RANGES));
            if let Some(endpoint) = endpoint {
                peer.put(PEER_ENDPOINT, &socket_address(*endpoint));
            }
            if let Some(pods) = pods {
                peer.nest(PEER_RANGES, |list| list.nest(0, |range| put_range(range, pods)));
            }
            if let Some(seconds) = if *fresh { Some(GREETING) } else { *keepalive } {
                peer.put(PEER_KEEPALIVE, &seconds.to_ne_bytes());
            }
        }
    }
}

fn put_range(message: &mut Message, range: &Range) {
    message.put(RANGE_FAMILY, &INET.to_ne_bytes());
    message.put(RANGE_ADDRESS, &range.base().octets());
    message.put(RANGE_LENGTH, &[range.length()]);
}

/// `struct sockaddr_in`.
fn socket_address(address: SocketAddrV4) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&INET.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

/// Reads a link as the kernel tells it, in one or several messages. `now` is the board's clock, in
/// seconds since 1970.
pub(super) fn read_device(replies: &[Reply], now: i64) -> Device {
    let mut device = Device::default();
    for reply in replies {
        let Some(body) = reply.body.get(HEADER..) else { continue };
        let attributes = Attributes(body);
        if let Some(private) = attributes.find(DEVICE_PRIVATE_KEY) {
            device.private = private.try_into().ok();
        }
        if let Some(public) = attributes.find(DEVICE_PUBLIC_KEY) {
            device.public = public.try_into().ok().map(Key);
        }
        if let Some(port) = attributes.find(DEVICE_PORT).and_then(short) {
            device.port = port;
        }
        for (_, peer) in attributes.within(DEVICE_PEERS) {
            let Some(peer) = read_peer(Attributes(peer), now) else { continue };
            match device.peers.last_mut() {
                // One whose ranges did not fit into the message before.
                Some(last) if last.key == peer.key => last.pods.extend(peer.pods),
                _ => device.peers.push(peer),
            }
        }
    }
    device
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn read_peer(attributes: Attributes<'_>, now: i64) -> Option<SeenPeer> {
    let key = Key(attributes.find(PEER_KEY)?.try_into().ok()?);
    let seconds = attributes.find(PEER_HANDSHAKE).and_then(|time| time.get(..8)?.try_into().ok());
    let shaken = seconds.map_or(0, i64::from_ne_bytes);
    let sent = attributes.find(PEER_SENT).and_then(|sent| sent.try_into().ok());
    Some(SeenPeer {
        key,
        endpoint: attributes.find(PEER_ENDPOINT).and_then(read_endpoint),
        pods: attributes.within(PEER_RANGES).filter_map(|(_, range)| read_range(range)).collect(),
        keepalive: attributes.find(PEER_KEEPALIVE).and_then(short).unwrap_or(0),
        alive: shaken > 0 && now.saturating_sub(shaken) < KEYS_LIVE,
        unanswered: shaken == 0 && sent.is_some_and(|sent| u64::from_ne_bytes(sent) > 0),
    })
}

fn read_endpoint(bytes: &[u8]) -> Option<SocketAddrV4> {
    let family = short(bytes.get(..2)?)?;
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?;
    (family == INET).then(|| SocketAddrV4::new(Ipv4Addr::from(ip), port))
}

fn read_range(bytes: &[u8]) -> Option<Range> {
    let attributes = Attributes(bytes);
    let base = <[u8; 4]>::try_from(attributes.find(RANGE_ADDRESS)?).ok()?;
    Range::new(Ipv4Addr::from(base), *attributes.find(RANGE_LENGTH)?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key([n; 32])
    }

    fn range(text: &str) -> Range {
        Range::parse(text).expect("a range")
    }

    /// A message as hexadecimal words, without its length, which is written when it is sent.
    fn hex(message: &Message) -> String {
        let words = message.bytes[4..].chunks(4);
        let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        words.map(word).collect::<Vec<_>>().join(" ").replace(&"07070707 ".repeat(8), "KEY7 ")
    }

    fn fresh() -> Change {
        Change::Set {
            key: key(7),
            fresh: true,
            endpoint: Some(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 51820)),
            pods: Some(range("10.42.7.0/24")),
            keepalive: Some(0),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn messages_are_what_the_kernel_reads() {
        // Type and flags, number, port; then command and version; then attributes.
        assert_eq!(
            hex(&get_family()),
            "10000500 00000000 00000000 03010000 0e000200 77697265 67756172 64000000"
        );
        assert_eq!(
            hex(&get_device(31, 9)),
            "1f000103 00000000 00000000 00010000 08000100 09000000"
        );
        assert_eq!(
            hex(&set_own(31, 9, &[7; 32], 51820)),
            "1f000100 00000000 00000000 01010000 08000100 09000000 24000300 KEY7 06000600 6cca0000"
        );
        let [greet, calm] = &set_peers(31, 9, &[fresh()])[..] else { panic!("two messages") };
        assert_eq!(
            hex(greet),
            "1f000100 00000000 00000000 01010000 08000100 09000000 70000880 6c000080 \
             24000100 KEY7 08000300 02000000 14000400 0200ca6c c0000207 00000000 00000000 \
             20000980 1c000080 06000100 02000000 08000200 0a2a0700 05000300 18000000 \
             06000500 19000000"
        );
        assert_eq!(
            hex(calm),
            "1f000100 00000000 00000000 01010000 08000100 09000000 3c000880 38000080 \
             24000100 KEY7 08000300 04000000 06000500 00000000"
        );
        let [gone] = &set_peers(31, 9, &[Change::Remove(key(7))])[..] else { panic!("one") };
        assert_eq!(
            hex(gone),
            "1f000100 00000000 00000000 01010000 08000100 09000000 34000880 30000080 \
             24000100 KEY7 08000300 01000000"
        );
        let many = vec![Change::Remove(key(7)); 130];
        assert_eq!(set_peers(31, 9, &many).len(), 3);
    }

    /// A message as the kernel would answer, from the attributes of one that we write.
    fn reply(fill: impl FnOnce(&mut Message)) -> Reply {
        let mut message = Message::new(31, 0, &[0, 1, 0, 0]);
        fill(&mut message);
        Reply { body: message.bytes[16..].to_vec() }
    }

    #[test]
    fn a_link_is_read_whatever_messages_it_comes_in() {
        let peer = |list: &mut Message, n: u8, pods: &str, shaken: i64| {
            list.nest(0, |peer| {
                peer.put(PEER_KEY, &[n; 32]);
                let end = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, n), 51820);
                peer.put(PEER_ENDPOINT, &socket_address(end));
                peer.put(PEER_KEEPALIVE, &25u16.to_ne_bytes());
                peer.put(PEER_HANDSHAKE, &[shaken.to_ne_bytes(), [0; 8]].concat());
                peer.put(PEER_SENT, &148u64.to_ne_bytes());
                peer.nest(PEER_RANGES, |list| list.nest(0, |one| put_range(one, &range(pods))));
            });
        };
        let first = reply(|message| {
            message.put(DEVICE_PRIVATE_KEY, &[1; 32]);
            message.put(DEVICE_PUBLIC_KEY, &[2; 32]);
            message.put(DEVICE_PORT, &51820u16.to_ne_bytes());
            message.nest(DEVICE_PEERS, |list| {
                peer(list, 7, "10.42.7.0/24", 1000);
                peer(list, 8, "10.42.8.0/24", 0);
            });
        });
        let second = reply(|message| {
            message.nest(DEVICE_PEERS, |list| peer(list, 8, "10.42.9.0/24", 0));
        });
        let device = read_device(&[first, second], 1100);
        assert_eq!((device.private, device.public), (Some([1; 32]), Some(key(2))));
        assert_eq!(device.port, 51820);
        let [live, new] = &device.peers[..] else { panic!("{:?}", device.peers) };
        assert!(live.alive && !live.unanswered && live.keepalive == 25, "{live:?}");
        assert_eq!(live.endpoint, Some(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 51820)));
        assert!(!new.alive && new.unanswered, "{new:?}");
        assert_eq!(new.pods, [range("10.42.8.0/24"), range("10.42.9.0/24")]);
    }

    #[test]
    fn broken_answers_are_passed_over() {
        for body in [vec![], vec![0; 3], vec![0; 4], vec![255; 64]] {
            let device = read_device(&[Reply { body: body.clone() }], 0);
            assert!(device.peers.is_empty() && device.public.is_none());
            assert_eq!(read_family(&[Reply { body }]), None);
        }
        let id = reply(|message| message.put(CONTROL_FAMILY_ID, &31u16.to_ne_bytes()));
        assert_eq!(read_family(&[id]), Some(31));
    }
}
