//! The netlink wire: messages built and read attribute by attribute, and the socket that
//! carries them. Small enough to own: the published crates lack most of what nftables
//! needs, and would come in twice beside the versions that the container runtime uses.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// The message asks the kernel for something.
pub(super) const REQUEST: u16 = 0x1;
/// The kernel shall answer even when all went well.
pub(super) const ACK: u16 = 0x4;
/// The request is for everything of a sort.
pub(super) const DUMP: u16 = 0x300;
/// Replace what exists.
pub(super) const REPLACE: u16 = 0x100;
/// Fail when it exists.
pub(super) const EXCL: u16 = 0x200;
/// Make it when it doesn't exist.
pub(super) const CREATE: u16 = 0x400;
/// Add behind the others.
pub(super) const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
/// The kernel never makes a dump's datagram larger than this.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Room that the socket asks for, when a batch is larger than what it has.
const SEND_SLACK: usize = 64 * 1024;

/// One or more netlink messages, back to back, as one datagram.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    start: usize,
    count: u32,
}

impl Message {
    /// A datagram whose first message has this type, flags and family header.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut message = Message::default();
        message.next(kind, flags, header);
        message
    }

    /// Begins another message in the same datagram.
    pub(super) fn next(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.finish();
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.count += 1;
        self.pad();
    }

    /// How many messages have been begun.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Appends an attribute with these bytes.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4)
            .expect("invariant: values given to netlink are far below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Appends a number as the machine orders its bytes (rtnetlink).
    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Appends a number in network order (netfilter).
    pub(super) fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends a string with its closing zero.
    pub(super) fn put_str(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// Appends an attribute that holds what `fill` appends.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) {
        let at = self.bytes.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - at)
            .expect("invariant: lists given to netlink are cut below 64 KiB");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends raw bytes: the fixed header some nested attributes open with.
    pub(super) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        let over = self.bytes.len() % 4;
        if over > 0 {
            self.bytes.extend_from_slice(&[0u8; 3][..4 - over]);
        }
    }

    fn finish(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let length = u32::try_from(self.bytes.len() - self.start)
            .expect("invariant: a netlink message is far below 4 GiB");
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The attributes in a stretch of bytes: their types and values. Stops at the first bad one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & KIND_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get((length + 3) & !3..).unwrap_or(&[]);
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of that type.
    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes within the first attribute of that type; none when it is missing.
    pub(super) fn within(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or(&[]))
    }

    /// A string attribute, without its closing zero.
    pub(super) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// A number in network order.
    pub(super) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A number as the machine orders its bytes.
    pub(super) fn ne32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.try_into().ok()?))
    }
}

/// One message that the kernel answered with.
#[derive(Debug)]
pub(super) struct Reply {
    /// What follows the netlink header: family header and attributes.
    pub(super) body: Vec<u8>,
}

/// What the kernel said no to: the error, and which message of the datagram it was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The error number.
    pub(super) errno: Errno,
    /// Index of the message in its datagram, from 0.
    pub(super) index: u32,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, index: 0 }
    }
}

/// A netlink socket. It stays in the network namespace that it was opened in, whichever
/// thread uses it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    room: usize,
}

impl Socket {
    /// Opens a socket of that family in the calling thread's network namespace.
    pub(super) fn open(protocol: SockProtocol) -> Result<Socket, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Socket { fd, sequence: 1, room: SEND_SLACK })
    }

    /// Sends the messages and waits until the kernel has acknowledged each one.
    pub(super) fn request(&mut self, mut message: Message) -> Result<(), Refusal> {
        let all = 0..message.count;
        let (first, count) = self.send(&mut message, ACK, all)?;
        let mut refusal = None;
        let mut left = count;
        while left > 0 {
            for reply in self.receive(first, count)? {
                if let Received::End { errno, index } = reply {
                    left -= 1;
                    if errno != Errno::UnknownErrno && refusal.is_none() {
                        refusal = Some(Refusal { errno, index });
                    }
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Sends messages of which only the one at `acknowledged` is answered when all went well:
    /// a transaction of nftables, which is done by the time that the send returns.
    pub(super) fn transact(
        &mut self,
        mut message: Message,
        acknowledged: u32,
    ) -> Result<(), Refusal> {
        let range = acknowledged..acknowledged + 1;
        let (first, count) = self.send(&mut message, ACK, range)?;
        loop {
            for reply in self.receive(first, count)? {
                match reply {
                    Received::End { errno: Errno::UnknownErrno, index }
                        if index == acknowledged =>
                    {
                        return Ok(());
                    }
                    Received::End { errno: Errno::UnknownErrno, .. } => {}
                    Received::End { errno, index } => {
                        self.drain();
                        return Err(Refusal { errno, index });
                    }
                    Received::Part(_) => {}
                }
            }
        }
    }

    /// Sends one request and gathers every message of its answer.
    pub(super) fn dump(&mut self, mut message: Message) -> Result<Vec<Reply>, Refusal> {
        let (first, count) = self.send(&mut message, 0, 0..0)?;
        let mut replies = Vec::new();
        loop {
            for received in self.receive(first, count)? {
                match received {
                    Received::Part(reply) => replies.push(reply),
                    Received::End { errno: Errno::UnknownErrno, .. } => return Ok(replies),
                    Received::End { errno, index } => return Err(Refusal { errno, index }),
                }
            }
        }
    }

    /// Stamps sequence numbers and flags, and sends. Answers the first number and the count.
    fn send(
        &mut self,
        message: &mut Message,
        flags: u16,
        flagged: std::ops::Range<u32>,
    ) -> Result<(u32, u32), Errno> {
        message.finish();
        let first = self.sequence;
        let mut at = 0;
        let mut index = 0;
        while at < message.bytes.len() {
            let header = &mut message.bytes[at..at + HEADER];
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            if flagged.contains(&index) {
                let set = u16::from_ne_bytes([header[6], header[7]]) | flags;
                header[6..8].copy_from_slice(&set.to_ne_bytes());
            }
            let number = first.wrapping_add(index);
            header[8..12].copy_from_slice(&number.to_ne_bytes());
            at += length as usize;
            index += 1;
        }
        self.sequence = first.wrapping_add(index);
        if message.bytes.len() + SEND_SLACK > self.room {
            self.room = message.bytes.len() + SEND_SLACK;
            // Best effort: if it is refused and the batch too large, the send says so.
            let _ = setsockopt(&self.fd, sockopt::SndBufForce, &self.room);
        }
        send(self.fd.as_raw_fd(), &message.bytes, MsgFlags::empty())?;
        Ok((first, index))
    }

    /// Reads one datagram; what doesn't answer messages `first ..` is left aside.
    fn receive(&mut self, first: u32, count: u32) -> Result<Vec<Received>, Errno> {
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        Ok(split(&buffer[..length], first, count))
    }

    /// Throws away what is still queued.
    fn drain(&mut self) {
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        while recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
    }
}

/// A part of an answer, or its end. `UnknownErrno` (0) is a good end.
#[derive(Debug)]
enum Received {
    Part(Reply),
    End { errno: Errno, index: u32 },
}

fn split(mut bytes: &[u8], first: u32, count: u32) -> Vec<Received> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(0) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = bytes.get(HEADER..length) else { break };
        bytes = bytes.get((length + 3) & !3..).unwrap_or(&[]);
        let index = word(8).wrapping_sub(first);
        if index >= count {
            continue;
        }
        found.push(match kind {
            KIND_ERROR | KIND_DONE => {
                let code = body
                    .get(..4)
                    .map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
                Received::End { errno: Errno::from_raw(code.saturating_neg()), index }
            }
            _ => Received::Part(Reply { body: body.to_vec() }),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_as_written_whatever_their_length() {
        let mut message = Message::new(7, 0, &[1, 2]);
        message.put_str(1, "edge0");
        message.nest(2, |inner| {
            inner.put_be32(3, 9);
            inner.put(4, &[5]);
        });
        message.put_u32(5, 77);
        message.finish();
        let read = Attributes(&message.bytes[HEADER + 4..]);
        assert_eq!(read.text(1), Some("edge0"));
        assert_eq!(read.within(2).be32(3), Some(9));
        assert_eq!(read.within(2).find(4), Some(&[5u8][..]));
        assert_eq!(read.ne32(5), Some(77));
        assert_eq!(read.find(6), None);
    }

    #[test]
    fn broken_attributes_end_the_reading() {
        for bytes in [&[][..], &[9], &[3, 0, 1, 0], &[200, 0, 1, 0, 7, 7], &[0, 0, 0, 0]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
        }
        for bytes in [&[][..], &[9; 15], &[255; 16], &[0; 40]] {
            assert!(split(bytes, 1, 1).len() < 4, "{bytes:?}");
        }
    }
}
