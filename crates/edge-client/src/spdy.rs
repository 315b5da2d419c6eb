//! Frames of SPDY/3.1, which Kubernetes still uses for port-forward (and for exec before 1.31):
//! numbered streams in one connection, each with headers and bytes both ways. Clients of Kubernetes
//! keep no windows, so there are none here.

use bytes::{Buf, Bytes, BytesMut};

/// Opens a stream.
pub const SYN_STREAM: u16 = 1;
/// Agrees to a stream.
pub const SYN_REPLY: u16 = 2;
/// Ends a stream at once, both ways.
pub const RST_STREAM: u16 = 3;
/// Wants the same frame back.
pub const PING: u16 = 6;
/// No more streams.
pub const GOAWAY: u16 = 7;
/// A flag: the sender says no more on this stream.
pub const FIN: u8 = 1;

/// [`RST_STREAM`]: the stream is not wanted.
pub const REFUSED: u32 = 3;
/// [`RST_STREAM`]: whoever opened the stream does not need it any more.
pub const CANCEL: u32 = 5;
/// [`RST_STREAM`]: what is behind the stream has failed.
pub const INTERNAL: u32 = 6;

/// `0x8003`: a control frame of version 3.
const CONTROL: u16 = 0x8003;
/// The largest frame that is taken.
pub const FRAME: usize = 1 << 20;
/// Most bytes of one stored block of deflate.
const STORED: usize = 0xffff;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A frame that is about streams.
    Control {
        /// One of the kinds above.
        kind: u16,
        /// [`FIN`], or others.
        flags: u8,
        /// What follows the head.
        payload: Bytes,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        stream: u32,
        /// True for the last ones.
        fin: bool,
        /// The bytes.
        payload: Bytes,
    },
}

/// Takes a whole frame off the front of `buffer`; `None` when it is not all there.
///
/// # Errors
/// What is wrong with a frame that is none, or too large.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, &'static str> {
    let Some(head) = buffer.first_chunk::<8>().copied() else { return Ok(None) };
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > FRAME {
        return Err("a frame is too large");
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    buffer.advance(8);
    let payload = buffer.split_to(length).freeze();
    let (first, flags) = (u16::from_be_bytes([head[0], head[1]]), head[4]);
    if first & 0x8000 == 0 {
        let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        return Ok(Some(Frame::Data { stream, fin: flags & FIN != 0, payload }));
    }
    if first != CONTROL {
        return Err("a frame is not of SPDY/3");
    }
    let kind = u16::from_be_bytes([head[2], head[3]]);
    Ok(Some(Frame::Control { kind, flags, payload }))
}

fn frame(first: [u8; 4], flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&first);
    out.extend_from_slice(&[flags, length[1], length[2], length[3]]);
    out.extend_from_slice(payload);
    out
}

/// A control frame without flags.
pub fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let (version, kind) = (CONTROL.to_be_bytes(), kind.to_be_bytes());
    frame([version[0], version[1], kind[0], kind[1]], 0, payload)
}

/// Bytes of a stream; the last ones with `fin`.
pub fn data(stream: u32, fin: bool, payload: &[u8]) -> Vec<u8> {
    frame(stream.to_be_bytes(), u8::from(fin) * FIN, payload)
}

/// The end of a stream for this reason ([`REFUSED`], [`CANCEL`], [`INTERNAL`]).
pub fn reset(stream: u32, reason: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), reason.to_be_bytes()].concat())
}

/// A header block; the `first` one of a direction begins its zlib stream. Stored blocks without the
/// preset dictionary, which every inflater takes.
pub fn block(first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(0).to_be_bytes();
    let mut plain = number(headers.len()).to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.extend_from_slice(&number(text.len()));
        plain.extend_from_slice(text.as_bytes());
    }
    let mut out = if first { vec![0x78, 0x01] } else { Vec::new() };
    // The last block is empty: at it inflaters hand over what they have.
    for piece in plain.chunks(STORED).chain([&[][..]]) {
        let length = u16::try_from(piece.len()).unwrap_or(0);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// Opens stream `id`. A client's streams have odd numbers that grow.
pub fn open(id: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&block(first, headers));
    control(SYN_STREAM, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let bytes = data(5, true, b"hello");
        for cut in 0..bytes.len() {
            assert_eq!(take_frame(&mut BytesMut::from(&bytes[..cut])), Ok(None));
        }
        let want = Frame::Data { stream: 5, fin: true, payload: Bytes::from_static(b"hello") };
        assert_eq!(take_frame(&mut BytesMut::from(&bytes[..])), Ok(Some(want)));
        assert!(take_frame(&mut BytesMut::from(&[0x80, 2, 0, 1, 0, 0, 0, 0][..])).is_err());
    }

    #[test]
    fn blocks_are_stored() {
        let block = block(true, &[("port", "80")]);
        assert_eq!(block[..7], [0x78, 0x01, 0, 18, 0, 0xed, 0xff]);
        assert_eq!(block[7..25], *b"\0\0\0\x01\0\0\0\x04port\0\0\0\x0280");
        assert_eq!(block[25..], [0, 0, 0, 0xff, 0xff]);
    }
}
