//! Why another board's pods can't be reached, in words that say what to do.

use super::Range;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::fmt;

/// Why a board has no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It has no IPv4 address.
    NoAddress,
    /// Its pods' addresses are none of the cluster's.
    Foreign,
    /// This board, or another one, has some of its pods' addresses.
    Overlap(String),
    /// Its own address is one of the cluster's pods'.
    AddressAmongPods(Ipv4Addr),
    /// Its address is this board's.
    OwnAddress(Ipv4Addr),
    /// No link of this board leads to it.
    Nowhere(Ipv4Addr),
    /// There is a route to its pods that somebody else has made.
    Taken,
    /// It takes a tunnel, and this board's kernel has none.
    NoTunnelHere(Cause),
    /// It takes a tunnel, and this board's end of it could not be made.
    TunnelDown(Cause),
    /// It takes a tunnel, and the kernel there has none.
    NoTunnelThere(Cause),
    /// It takes a tunnel, and the board has told no key for one.
    NoKey(Cause),
    /// It shows the key of this other board.
    SameKey(String),
    /// Its end of the tunnel has never answered.
    Silent(SocketAddrV4),
}

/// Why two boards' pods need a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The other board's address is on another network.
    Apart(Ipv4Addr),
    /// This board asks for encryption.
    Asked,
    /// The other board asks for encryption.
    AskedThere,
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Apart(ip) => {
                write!(out, "its address {ip} is on another network than this board's")
            }
            Cause::Asked => out.write_str("this board is set to encrypt-pods"),
            Cause::AskedThere => out.write_str("that board is set to encrypt-pods"),
        }
    }
}

/// A board whose pods can't be reached from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The board.
    pub board: String,
    /// Its pods.
    pub pods: Range,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Unreached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreached { board, pods, why } = self;
        write!(out, "pods of board {board} ({pods}) can't be reached from here: ")?;
        match why {
            Why::NoAddress => out.write_str("it has no IPv4 address (InternalIP)"),
            Why::Foreign => out.write_str("their addresses are outside this board's cluster-cidr"),
            Why::Overlap(other) => write!(out, "board {other} has some of these addresses"),
            Why::AddressAmongPods(ip) => write!(
                out,
                "its own address {ip} is one of cluster-cidr; give the board another one"
            ),
            Why::OwnAddress(ip) => {
                write!(out, "this board has its address {ip}; restart edged there")
            }
            Why::Nowhere(ip) => {
                write!(out, "no link of this board leads to its address {ip}; check the cable")
            }
            Why::Taken => {
                write!(out, "somebody else has made a route to {pods}; remove it")
            }
            Why::NoTunnelHere(cause) => write!(
                out,
                "{cause}, which takes a tunnel, and this board's kernel has no WireGuard: load \
                 its module wireguard, or run a kernel that has it"
            ),
            Why::TunnelDown(cause) => {
                write!(out, "{cause}, which takes a tunnel, and this board's end of it is not up")
            }
            Why::NoTunnelThere(cause) => write!(
                out,
                "{cause}, which takes a tunnel, and the kernel there has no WireGuard: load its \
                 module wireguard there, or run a kernel that has it"
            ),
            Why::NoKey(cause) => write!(
                out,
                "{cause}, which takes a tunnel, and that board has told no key for one yet; see \
                 its log if this stays"
            ),
            Why::SameKey(other) => write!(
                out,
                "it shows the tunnel key of board {other}: two boards run with one data \
                 directory, or one of them lies"
            ),
            Why::Silent(end) => write!(
                out,
                "nobody answers for its end of the tunnel, {end} (UDP): let that through the \
                 routers and firewalls between the boards"
            ),
        }
    }
}
