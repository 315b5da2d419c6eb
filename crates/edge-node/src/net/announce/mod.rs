//! Answering for addresses of the LAN that belong to no board. Not by giving them to a link: then
//! whatever listens on the board would answer there, and the kernel would go on answering when
//! edged is dead and another board has taken over. edged answers ARP itself, on a packet socket
//! that is there only while the board has such an address; what comes then goes the Services' way.
//!
//! IPv6 (neighbour discovery) would be a second [`ArpSocket`].

mod arp;

use super::board::{BRIDGE, Board};
use super::error::NetError;
use super::link::Links;
use edge_core::podnet::Range;
use edge_core::proxy::claims::{Arp, Mac, Say};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::net::UnixDatagram;

/// ARP's number among the protocols of a link (`ETH_P_ARP`).
const ARP: u16 = 0x0806;

/// A network that the board is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// The link's name.
    pub link: String,
    /// Its addresses.
    pub range: Range,
}

impl Board {
    /// See [`super::Net::networks`].
    pub(super) fn networks(&self) -> Result<Vec<Network>, NetError> {
        let mut links = Links::open()?;
        let all = links.list()?;
        let mut found = Vec::new();
        for (index, address, length) in links.addresses()? {
            let link = all.iter().find(|link| link.index == index);
            let Some(link) = link.filter(|link| link.neighbours && link.name != BRIDGE) else {
                continue;
            };
            let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let base = Ipv4Addr::from(u32::from(address) & bits);
            if let Some(range) = Range::new(base, length).filter(|_| length < 32) {
                found.push(Network { link: link.name.clone(), range });
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Hears and says ARP on one link.
#[derive(Debug)]
pub struct ArpSocket {
    /// A packet socket. To the event loop one socket of datagrams is like another.
    socket: UnixDatagram,
    mac: Mac,
}

impl ArpSocket {
    /// On the link of that name.
    pub(super) fn open(link: &str) -> Result<ArpSocket, NetError> {
        let failed = |errno| NetError::kernel("hear ARP on", link)(errno);
        let of = |error: io::Error| {
            failed(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
        };
        let address = link_address(link).map_err(failed)?.ok_or_else(|| failed(Errno::ENODEV))?;
        let mac = address.addr().ok_or_else(|| failed(Errno::EADDRNOTAVAIL))?;
        let protocol = Protocol::from(i32::from(ARP.to_be()));
        let domain = Domain::from(nix::libc::AF_PACKET);
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).map_err(of)?;
        socket.set_nonblocking(true).map_err(of)?;
        // An address without a protocol leaves the socket's own.
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let socket = UnixDatagram::from_std(OwnedFd::from(socket).into()).map_err(of)?;
        Ok(ArpSocket { socket, mac })
    }

    /// The link's hardware address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Waits for the next ARP packet. May be dropped and called again at any time.
    ///
    /// # Errors
    /// The link went down or away.
    pub async fn hear(&self) -> io::Result<Arp> {
        let mut frame = [0; 64];
        loop {
            let length = self.socket.recv(&mut frame).await?;
            if let Some(packet) = arp::read(&frame[..length]) {
                return Ok(packet);
            }
        }
    }

    /// Sends; what finds no room is lost, as on any wire.
    ///
    /// # Errors
    /// The link went down or away.
    pub fn say(&self, say: &Say) -> io::Result<()> {
        match self.socket.try_send(&arp::write(self.mac, say)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// The link's own address, which names it to a packet socket.
fn link_address(name: &str) -> Result<Option<LinkAddr>, Errno> {
    let mut all = getifaddrs()?;
    let found = all.find_map(|entry| {
        let address = entry.address?;
        (entry.interface_name == name).then(|| address.as_link_addr().copied())?
    });
    Ok(found)
}
