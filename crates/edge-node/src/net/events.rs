//! The kernel's news about links, addresses and routes: a link that goes down takes its routes
//! along, and a new address may lead to boards that could not be reached before.

use super::error::NetError;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use tokio::net::UnixDatagram;

/// News of links, of IPv4 addresses and of IPv4 routes, as bits.
const GROUPS: u32 = 0x1 | 0x10 | 0x40;
/// What is read of each piece of news: that there is one.
const BUFFER: usize = 64;

/// Tells that something about the board's links, addresses or routes has changed.
#[derive(Debug)]
pub struct LinkEvents {
    /// A netlink socket. To the event loop one socket of datagrams is like another.
    socket: UnixDatagram,
}

impl LinkEvents {
    /// For the calling thread's network namespace.
    pub(super) fn open() -> Result<LinkEvents, NetError> {
        let failed = |errno| NetError::kernel("listen for news of", "links and routes")(errno);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let kind = SockType::Raw;
        let fd = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)
            .map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(failed)?;
        let socket = UnixDatagram::from_std(fd.into()).map_err(|error| {
            failed(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
        })?;
        Ok(LinkEvents { socket })
    }

    /// Waits until something has changed, and takes in all that has come until now. News that
    /// found no room counts as well. May be dropped and called again at any time.
    pub async fn changed(&mut self) {
        let mut buffer = [0u8; BUFFER];
        // Whatever is wrong here, the slow look remains.
        if self.socket.recv(&mut buffer).await.is_err_and(|e| e.raw_os_error() != NO_ROOM) {
            return std::future::pending().await;
        }
        loop {
            match self.socket.try_recv(&mut buffer) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == NO_ROOM => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Some news were lost.
const NO_ROOM: Option<i32> = Some(Errno::ENOBUFS as i32);
