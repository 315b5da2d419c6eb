//! Tunnels between boards: what each board's Node says of its own end, and which of the kernel's
//! settings differ from what is wanted. The kernel makes the public key; nothing here computes one.

#[cfg(test)]
mod tests;

use super::{Range, Way};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::net::SocketAddrV4;
use edge_api::{Object, meta};
use std::collections::BTreeMap;
use std::fmt;

/// The Node's annotation with its board's public key and UDP port, or [`LACKING`].
pub const KEY_ANNOTATION: &str = "edged.dev/wireguard";
/// The Node's annotation that says, by `true`, that its board wants encryption.
pub const ENCRYPT_ANNOTATION: &str = "edged.dev/encrypt-pods";
/// What a board says that needs a tunnel and whose kernel has none.
const LACKING: &str = "lacking";

/// So often, in seconds, a board behind a router sends something, lest the router forget it.
const KEEPALIVE: u16 = 25;
/// What a tunnel adds to each packet: outer IPv4 or IPv6, UDP, and WireGuard's own 32 bytes.
const OVERHEAD_4: u32 = 60;
const OVERHEAD_6: u32 = 80;
/// The smallest packet size that IPv4 knows.
const MTU_LEAST: u32 = 576;

/// A board's public key, as `wg show` writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Key {
    /// Reads what [`Key`]'s `Display` writes; a key of zeros is none.
    pub fn parse(text: &str) -> Option<Key> {
        let bytes = <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok()?;
        (bytes != [0; 32]).then_some(Key(bytes))
    }
}

/// What a board's Node says of its end of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Announced {
    /// Nothing: it needs no tunnel, or is older than tunnels.
    #[default]
    Nothing,
    /// It needs one, and its kernel has none.
    Lacking,
    /// Where its end is.
    Key {
        /// Its public key.
        key: Key,
        /// Its UDP port.
        port: u16,
    },
}

/// All that a board's Node says of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Announcement {
    /// It wants all traffic of its pods with other boards encrypted.
    pub encrypts: bool,
    /// Its end.
    pub wireguard: Announced,
}

impl Announcement {
    /// Reads a Node; what makes no sense says nothing.
    pub fn read(node: &Object) -> Announcement {
        let encrypts = meta::annotation(node, ENCRYPT_ANNOTATION) == Some("true");
        let wireguard = match meta::annotation(node, KEY_ANNOTATION) {
            Some(LACKING) => Announced::Lacking,
            Some(text) => parse(text).unwrap_or_default(),
            None => Announced::Nothing,
        };
        Announcement { encrypts, wireguard }
    }

    /// The Node's annotations that say this; those without a value must not be there.
    pub fn annotations(&self) -> [(&'static str, Option<String>); 2] {
        let wireguard = match self.wireguard {
            Announced::Nothing => None,
            Announced::Lacking => Some(LACKING.to_owned()),
            Announced::Key { key, port } => Some(format!("{key} {port}")),
        };
        let encrypts = self.encrypts.then(|| "true".to_owned());
        [(ENCRYPT_ANNOTATION, encrypts), (KEY_ANNOTATION, wireguard)]
    }
}

fn parse(text: &str) -> Option<Announced> {
    let (key, port) = text.split_once(' ')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some(Announced::Key { key: Key::parse(key)?, port })
}

/// This board's end of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tunnel {
    /// It has not been needed.
    #[default]
    Down,
    /// The kernel has none.
    Lacking,
    /// It stands.
    Up {
        /// The index of its link.
        link: u32,
        /// Its public key.
        key: Key,
    },
}

impl Tunnel {
    /// The index of its link, if it stands.
    pub fn link(&self) -> Option<u32> {
        match self {
            Tunnel::Up { link, .. } => Some(*link),
            Tunnel::Down | Tunnel::Lacking => None,
        }
    }

    /// Its public key, if it stands.
    pub fn key(&self) -> Option<Key> {
        match self {
            Tunnel::Up { key, .. } => Some(*key),
            Tunnel::Down | Tunnel::Lacking => None,
        }
    }
}

/// A board at the other end of a tunnel, as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Its Node's name.
    pub board: String,
    /// Its public key.
    pub key: Key,
    /// Where its packets are sent: never an address that leads into the tunnel.
    pub endpoint: SocketAddrV4,
    /// Whose packets may come from it, and are sent to it.
    pub pods: Range,
    /// Seconds between signs of life when nothing else is sent; 0 for none. `None` while nobody
    /// can say: it stays as it is.
    pub keepalive: Option<u16>,
}

/// The other end of a tunnel as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPeer {
    /// Its public key.
    pub key: Key,
    /// Where its packets are sent now: the kernel follows a board that it hears from.
    pub endpoint: Option<SocketAddrV4>,
    /// Whose packets are sent to it.
    pub pods: Vec<Range>,
    /// Seconds between signs of life; 0 for none.
    pub keepalive: u16,
    /// True while keys agreed with it can be in use.
    pub alive: bool,
    /// True when something was sent there and it has never answered.
    pub unanswered: bool,
}

/// One thing to change about the other ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nobody wants this one any more.
    Remove(Key),
    /// Sets what differs about one, and makes it if it is not there.
    Set {
        /// Which.
        key: Key,
        /// True when it is new.
        fresh: bool,
        /// Where to send its packets.
        endpoint: Option<SocketAddrV4>,
        /// Whose packets to send to it.
        pods: Option<Range>,
        /// Seconds between signs of life.
        keepalive: Option<u16>,
    },
}

/// What to change about the other ends; those that are right are not mentioned, so that what was
/// agreed with them goes on. `told` has where the kernel was last told to send: an endpoint that
/// the kernel has found by itself is better than what a Node says, as long as it works and the
/// Node says nothing new.
pub fn changes(
    wanted: &[TunnelPeer],
    seen: &[SeenPeer],
    told: &BTreeMap<Key, SocketAddrV4>,
) -> Vec<Change> {
    let gone = seen.iter().filter(|seen| wanted.iter().all(|wanted| wanted.key != seen.key));
    let mut changes: Vec<Change> = gone.map(|seen| Change::Remove(seen.key)).collect();
    for peer in wanted {
        let found = seen.iter().find(|seen| seen.key == peer.key);
        let set = match found {
            None => Change::Set {
                key: peer.key,
                fresh: true,
                endpoint: Some(peer.endpoint),
                pods: Some(peer.pods),
                keepalive: Some(peer.keepalive.unwrap_or(0)),
            },
            Some(seen) => {
                let news = told.get(&peer.key).is_none_or(|told| *told != peer.endpoint);
                let moved = seen.endpoint != Some(peer.endpoint) && (news || !seen.alive);
                let pods = seen.pods != [peer.pods];
                let keepalive = peer.keepalive.filter(|wanted| *wanted != seen.keepalive);
                if !(moved || pods || keepalive.is_some()) {
                    continue;
                }
                Change::Set {
                    key: peer.key,
                    fresh: false,
                    endpoint: moved.then_some(peer.endpoint),
                    pods: pods.then_some(peer.pods),
                    keepalive,
                }
            }
        };
        changes.push(set);
    }
    changes
}

/// The boards whose ends have been asked and never answered.
pub fn unanswered<'a>(
    wanted: &'a [TunnelPeer],
    seen: &'a [SeenPeer],
) -> impl Iterator<Item = &'a TunnelPeer> {
    wanted.iter().filter(|peer| {
        let same = |seen: &&SeenPeer| seen.key == peer.key && seen.endpoint == Some(peer.endpoint);
        seen.iter().find(same).is_some_and(|seen| seen.unanswered)
    })
}

/// How often a board gives a sign of life to one that is reached this way. Neighbours need none.
pub(super) fn keepalive(way: Way) -> Option<u16> {
    match way {
        Way::Neighbour(_) => Some(0),
        Way::Routed => Some(KEEPALIVE),
        Way::Own | Way::Nowhere => None,
    }
}

/// The largest packet that fits through a tunnel over a link that takes `link` bytes.
pub fn mtu(link: u32, outer_is_ipv4: bool) -> u32 {
    let overhead = if outer_is_ipv4 { OVERHEAD_4 } else { OVERHEAD_6 };
    link.saturating_sub(overhead).max(MTU_LEAST)
}
