//! This board's end of the tunnels to others: a WireGuard link of the kernel's, made when it is
//! needed and gone when it is not, with only those settings touched that differ from what is
//! wanted, so that what was agreed with other boards goes on over restarts.

mod key;
mod wire;

use super::board::{ALIAS, Board, lock, own_link_mtu};
use super::error::NetError;
use super::link::{Link, Links};
use super::netlink::{CREATE, EXCL, Message, Socket};
use super::record::PAIR_PREFIX;
use super::sysctl;
use edge_core::podnet::tunnel::{self, Change, Key, Tunnel, TunnelPeer};
use edge_core::podnet::{Unreached, Why};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use wire::Device;

/// Our link.
pub(super) const TUNNEL: &str = "edge-wg0";
/// What kind of link it is.
const KIND: &str = "wireguard";

const NEWLINK: u16 = 16;
const SETLINK: u16 = 19;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// What a board's end of tunnels is made with.
#[derive(Debug)]
pub(super) struct Settings {
    /// Whether all traffic of pods with other boards goes through tunnels.
    pub(super) encrypts: bool,
    /// The UDP port of this board's end.
    pub(super) port: u16,
    /// Where the other ends were last said to be.
    pub(super) told: Mutex<BTreeMap<Key, SocketAddrV4>>,
}

/// The kernel's WireGuard, for one link.
#[derive(Debug)]
struct Kernel {
    socket: Socket,
    family: u16,
    link: u32,
}

impl Kernel {
    fn open(link: u32) -> Result<Kernel, NetError> {
        let failed = |errno| NetError::kernel("ask the kernel for", "its WireGuard")(errno);
        let mut socket = Socket::open(SockProtocol::NetlinkGeneric).map_err(failed)?;
        let replies = socket.dump(wire::get_family()).map_err(|refusal| failed(refusal.errno))?;
        let family = wire::read_family(&replies).ok_or_else(|| failed(Errno::EOPNOTSUPP))?;
        Ok(Kernel { socket, family, link })
    }

    fn read(&mut self) -> Result<Device, NetError> {
        let replies = self.socket.dump(wire::get_device(self.family, self.link));
        let replies = replies.map_err(NetError::refused("read the tunnels of", TUNNEL))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(wire::read_device(&replies, i64::try_from(now.as_secs()).unwrap_or(0)))
    }

    fn set_own(&mut self, private: &[u8; 32], port: u16) -> Result<(), NetError> {
        let message = wire::set_own(self.family, self.link, private, port);
        self.socket.request(message).map_err(|refusal| taken(port, refusal.errno))
    }

    fn change(&mut self, changes: &[Change]) -> Result<(), NetError> {
        for message in wire::set_peers(self.family, self.link, changes) {
            self.socket
                .request(message)
                .map_err(NetError::refused("change the other ends of", TUNNEL))?;
        }
        Ok(())
    }
}

/// The port may be somebody else's, which the kernel says in these words.
fn taken(port: u16, errno: Errno) -> NetError {
    if errno != Errno::EADDRINUSE {
        return NetError::kernel("set up the tunnel link", TUNNEL)(errno);
    }
    NetError::Config {
        setting: "wireguard-port",
        value: port.to_string(),
        reason: "another program of this board, perhaps another WireGuard, has this UDP port; \
                 choose another"
            .to_owned(),
    }
}

impl Links {
    /// Makes a tunnel link, down; false when the kernel has no such links.
    fn add_tunnel(&mut self, mtu: u32) -> Result<bool, NetError> {
        let mut request = Message::new(NEWLINK, CREATE | EXCL, &[0; 16]);
        request.put_str(LINK_NAME, TUNNEL);
        request.put_u32(LINK_MTU, mtu);
        request.nest(LINK_INFO, |info| info.put_str(INFO_KIND, KIND));
        match self.socket.request(request) {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.errno == Errno::EOPNOTSUPP => Ok(false),
            Err(refusal) => Err(NetError::refused("create the tunnel link", TUNNEL)(refusal)),
        }
    }

    /// Sets the size of the largest packet that a link takes.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetError> {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut request = Message::new(SETLINK, 0, &header);
        request.put_u32(LINK_MTU, mtu);
        let object = format!("number {index}");
        self.socket
            .request(request)
            .map_err(NetError::refused("set the packet size of link", object))
    }
}

impl Board {
    /// This board's end as it stands.
    pub(super) fn find_tunnel(&self, all: &[Link]) -> Result<Tunnel, NetError> {
        let ours = |link: &&Link| link.name == TUNNEL && link.kind == KIND;
        let Some(found) = all.iter().find(ours) else { return Ok(Tunnel::Down) };
        let device = Kernel::open(found.index)?.read()?;
        Ok(device.public.map_or(Tunnel::Down, |key| Tunnel::Up { link: found.index, key }))
    }

    /// Makes this board's end, or sets right what is wrong about it.
    pub(super) fn raise_tunnel(&self, links: &mut Links) -> Result<Tunnel, NetError> {
        let mtu = tunnel::mtu(self.link_mtu.load(Ordering::Relaxed), self.node_ip.is_ipv4());
        let found = match links.find(TUNNEL)? {
            Some(found) => found,
            None if !links.add_tunnel(mtu)? => return Ok(Tunnel::Lacking),
            None => links
                .find(TUNNEL)?
                .ok_or_else(|| NetError::kernel("find the tunnel link", TUNNEL)(Errno::ENODEV))?,
        };
        let ours = found.alias.is_empty() || found.alias.starts_with(ALIAS);
        if found.kind != KIND || !ours {
            return Err(NetError::Config {
                setting: "link",
                value: TUNNEL.to_owned(),
                reason: "exists and isn't ours; rename or remove it".to_owned(),
            });
        }
        let private = key::own(&self.data_dir)?;
        let mut kernel = Kernel::open(found.index)?;
        let mut device = kernel.read()?;
        if device.private != Some(private) || device.port != self.tunnel.port {
            kernel.set_own(&private, self.tunnel.port)?;
            device = kernel.read()?;
        }
        if found.mtu != mtu {
            links.set_mtu(found.index, mtu)?;
        }
        // The board speaks to other boards' pods with the address that its own pods know it by:
        // what they answer comes back through the tunnel.
        links.add_address(found.index, self.ranges.pods.gateway(), 32)?;
        if !found.up || found.alias.is_empty() {
            for complaint in sysctl::set([
                ("net/ipv4/conf/edge-wg0/forwarding", "1"),
                ("net/ipv6/conf/edge-wg0/disable_ipv6", "1"),
            ]) {
                tracing::warn!("network: {complaint}");
            }
            let alias = format!("{ALIAS}{}", self.run_dir.display());
            links.raise(found.index, Some(&alias)).map_err(|error| match error {
                NetError::Kernel { errno, .. } => taken(self.tunnel.port, errno),
                other => other,
            })?;
        }
        let key = device
            .public
            .ok_or_else(|| NetError::kernel("find the public key of", TUNNEL)(Errno::ENOKEY))?;
        Ok(Tunnel::Up { link: found.index, key })
    }

    /// Makes the other ends those that are wanted; boards whose end never answered.
    pub(super) fn sync_ends(
        &self,
        link: u32,
        wanted: &[TunnelPeer],
    ) -> Result<Vec<Unreached>, NetError> {
        let mut kernel = Kernel::open(link)?;
        let seen = kernel.read()?.peers;
        let mut told = lock(&self.tunnel.told);
        let changes = tunnel::changes(wanted, &seen, &told);
        for change in &changes {
            tracing::debug!("network: tunnel: {change:?}");
        }
        kernel.change(&changes)?;
        *told = wanted.iter().map(|peer| (peer.key, peer.endpoint)).collect();
        let silent = tunnel::unanswered(wanted, &seen).map(|peer| Unreached {
            board: peer.board.clone(),
            pods: peer.pods,
            why: Why::Silent(peer.endpoint),
        });
        Ok(silent.collect())
    }

    /// Takes this board's end away.
    pub(super) fn remove_tunnel(&self, links: &mut Links) -> Result<(), NetError> {
        let Some(found) = links.find(TUNNEL)? else { return Ok(()) };
        if found.kind == KIND {
            links.remove(TUNNEL)?;
        }
        lock(&self.tunnel.told).clear();
        Ok(())
    }

    /// Removes this board's private key: whoever starts edged again makes another one.
    pub(super) fn forget_key(&self) -> Result<(), NetError> {
        key::forget(&self.data_dir)
    }

    /// Looks how large packets of the board's own link may be; when it has none now, they stay.
    pub(super) fn look_at_link(&self, links: &mut Links) -> Result<(), NetError> {
        if let Some(mtu) = own_link_mtu(links, self.node_ip)? {
            self.link_mtu.store(mtu, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes the pods' interfaces take packets of the size that fits the way to other boards, on
    /// both ends, those of pods that run as well. The board's end is set last: one that differs
    /// tells that its pod's has still to be set.
    pub(super) fn fit_pods(&self, links: &mut Links, all: &[Link], tunnel: bool) -> Outcome {
        let link_mtu = self.link_mtu.load(Ordering::Relaxed);
        let wanted = match tunnel {
            true => tunnel::mtu(link_mtu, self.node_ip.is_ipv4()),
            false => link_mtu,
        };
        self.mtu.store(wanted, Ordering::Relaxed);
        let mut outcome = Ok(());
        let differs = |link: &&Link| link.mtu != wanted;
        for link in all.iter().filter(differs) {
            if link.name == super::board::BRIDGE {
                outcome = outcome.and(links.set_mtu(link.index, wanted));
            } else if link.name.starts_with(PAIR_PREFIX) && link.kind == "veth" {
                let inside = self.fit_inside(&link.alias, wanted);
                let both = inside.and_then(|()| links.set_mtu(link.index, wanted));
                outcome = outcome.and(both);
            }
        }
        outcome
    }
}

type Outcome = Result<(), NetError>;
