//! What `edged doctor` asks the kernel about networks: chains of others, links of Wi-Fi that sleep,
//! and which kinds of links can be made. It opens no network of ours and keeps nothing.

use super::error::NetError;
use super::netlink::{ACK, Attributes, CREATE, EXCL, Message, Reply, Socket};
use super::nft;
use edge_core::doctor::Chain;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::SockProtocol;

const NEWLINK: u16 = 16;
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// The generic netlink family that knows the others' numbers, and what is asked of it.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `linux/nl80211.h`
const NL80211: &str = "nl80211";
const SET_POWER_SAVE: u8 = 61;
const GET_POWER_SAVE: u8 = 62;
const ATTR_LINK: u16 = 3;
const ATTR_POWER_SAVE: u16 = 93;
const GENERIC_HEADER: usize = 4;

/// Chains of nf_tables that are not ours.
///
/// # Errors
/// When the kernel does not list them: it has no nf_tables, or this is not root.
pub(crate) fn chains() -> Result<Vec<Chain>, NetError> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)
        .map_err(|errno| NetError::NoNfTables { errno })?;
    nft::base_chains(&mut socket)
}

/// Whether the kernel makes links of these kinds. They are tried in a network namespace of their
/// own that is gone afterwards; the kernel may load modules for it.
///
/// # Errors
/// When there can be no such namespace: mostly, when this is not root.
pub(crate) fn link_kinds(kinds: &[&'static str]) -> Result<Vec<(&'static str, bool)>, NetError> {
    let kinds = kinds.to_vec();
    let operation = "try kinds of links";
    let look = move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(NetError::kernel(operation, "in a namespace"))?;
        let mut socket = Socket::open(SockProtocol::NetlinkRoute)
            .map_err(NetError::kernel(operation, "in a namespace"))?;
        let mut tried = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut request = Message::new(NEWLINK, CREATE | EXCL, &[0; 16]);
            request.put_str(LINK_NAME, &format!("try{number}"));
            request.nest(LINK_INFO, |info| info.put_str(INFO_KIND, kind));
            let lacks = matches!(
                socket.request(request),
                Err(refusal) if refusal.errno == Errno::EOPNOTSUPP
            );
            tried.push((kind, !lacks));
        }
        Ok(tried)
    };
    let thread = std::thread::Builder::new().name("edged-net".to_owned()).spawn(look);
    let thread = thread.map_err(|_| NetError::Thread { operation })?;
    thread.join().unwrap_or(Err(NetError::Thread { operation }))
}

/// The kernel's Wi-Fi.
pub(crate) struct Wifi {
    socket: Socket,
    family: u16,
}

impl Wifi {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel has none.
    pub(crate) fn open() -> Result<Wifi, NetError> {
        let failed = |errno| NetError::kernel("ask the kernel for", "its Wi-Fi")(errno);
        let mut socket = Socket::open(SockProtocol::NetlinkGeneric).map_err(failed)?;
        let mut ask = Message::new(CONTROL, ACK, &[GET_FAMILY, 1, 0, 0]);
        ask.put_str(FAMILY_NAME, NL80211);
        let replies = socket.dump(ask).map_err(|refusal| failed(refusal.errno))?;
        let number = replies.iter().find_map(|reply| {
            let bytes = attributes(reply)?.find(FAMILY_ID)?.try_into().ok()?;
            Some(u16::from_ne_bytes(bytes))
        });
        let family = number.ok_or_else(|| failed(Errno::EOPNOTSUPP))?;
        Ok(Wifi { socket, family })
    }

    /// Whether the link with that number sleeps between packets; `None` when its driver does not
    /// say.
    pub(crate) fn power_save(&mut self, link: u32) -> Option<bool> {
        let request = about(self.family, ACK, GET_POWER_SAVE, link);
        read_power_save(&self.socket.dump(request).ok()?)
    }

    /// Keeps the link with that number awake.
    ///
    /// # Errors
    /// When the driver can't, or this is not root.
    pub(crate) fn stay_awake(&mut self, link: u32, name: &str) -> Result<(), NetError> {
        let mut request = about(self.family, 0, SET_POWER_SAVE, link);
        request.put_u32(ATTR_POWER_SAVE, 0);
        let refused = NetError::refused("turn power saving off on", name);
        self.socket.request(request).map_err(refused)
    }
}

fn about(family: u16, flags: u16, command: u8, link: u32) -> Message {
    let mut message = Message::new(family, flags, &[command, 0, 0, 0]);
    message.put_u32(ATTR_LINK, link);
    message
}

fn attributes(reply: &Reply) -> Option<Attributes<'_>> {
    Some(Attributes(reply.body.get(GENERIC_HEADER..)?))
}

fn read_power_save(replies: &[Reply]) -> Option<bool> {
    let state = replies.iter().find_map(|reply| attributes(reply)?.ne32(ATTR_POWER_SAVE))?;
    Some(state != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_wifi_and_what_it_answers() {
        let mut asked = about(30, ACK, GET_POWER_SAVE, 3);
        asked.put_u32(ATTR_POWER_SAVE, 0);
        let want = [62, 0, 0, 0, 8, 0, 3, 0, 3, 0, 0, 0, 8, 0, 93, 0, 0, 0, 0, 0];
        if cfg!(target_endian = "little") {
            assert_eq!(asked.bytes[16..], want);
        }
        let answer = |state: u32| {
            let mut message = about(30, 0, GET_POWER_SAVE, 3);
            message.put_u32(ATTR_POWER_SAVE, state);
            vec![Reply { body: message.bytes[16..].to_vec() }]
        };
        assert_eq!(read_power_save(&answer(1)), Some(true));
        assert_eq!(read_power_save(&answer(0)), Some(false));
        assert_eq!(read_power_save(&[Reply { body: vec![62, 0] }]), None, "cut short");
    }

    #[test]
    fn the_kernel_makes_bridges_and_nothing_that_nobody_has_heard_of() {
        match link_kinds(&["bridge", "edged-nonsense"]) {
            Ok(tried) => assert_eq!(tried, [("bridge", true), ("edged-nonsense", false)]),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
}
