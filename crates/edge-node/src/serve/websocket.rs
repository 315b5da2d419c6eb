//! The server's side of RFC 6455, as little of it as `kubectl exec` needs, and Kubernetes' channels
//! on top: the first byte of each message says which stream it belongs to.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::reply::{self, Reply};
use super::session::{FromClient, ToClient};

/// Appended to the key before hashing, by the standard.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Protocols we speak, the best first. Version 5 can close a stream.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The largest message that a client may send.
const MESSAGE: usize = 4 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the next byte names a stream that has ended.
const CLOSED: u8 = 255;

const CONTINUATION: u8 = 0;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
/// Close code for an orderly end.
pub(super) const NORMAL: u16 = 1000;

/// True for a request that asks for a WebSocket.
pub(super) fn asked(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    upgrade.eq_ignore_ascii_case("websocket")
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The answer that agrees to a remote command, or why we don't.
pub(super) fn handshake(headers: &HeaderMap) -> Result<Reply, String> {
    agree(headers, &PROTOCOLS).map(|(reply, _)| reply)
}

/// The answer that agrees to the first of these protocols that is offered, or why we don't.
pub(super) fn agree(
    headers: &HeaderMap,
    protocols: &[&'static str],
) -> Result<(Reply, &'static str), String> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let key = text(SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> = offered
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    let chosen = protocols.iter().copied().find(|known| offered.contains(known));
    let chosen = chosen.ok_or_else(|| {
        format!("none of the offered protocols is known; use {}", protocols.join(" or "))
    })?;
    let algorithm = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let digest = ring::digest::digest(algorithm, format!("{key}{ACCEPT_GUID}").as_bytes());
    let mut reply = reply::text(101, "");
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = reply.headers_mut();
    out.clear();
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let accept = HeaderValue::from_str(&base64(digest.as_ref()));
    out.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|e| e.to_string())?);
    out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok((reply, chosen))
}

/// One frame of a client.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    last: bool,
    opcode: u8,
    payload: Bytes,
}

/// Takes a whole frame off the front of `buffer`; `None` when it is not all there.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, &'static str> {
    let [first, second, ..] = buffer[..] else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err("a client's frame is not masked");
    }
    let (extra, length) = match second & 0x7f {
        126 => (2, buffer.get(2..4).map(|b| u64::from(u16::from_be_bytes([b[0], b[1]])))),
        127 => {
            let bytes = buffer.get(2..10).and_then(|b| <[u8; 8]>::try_from(b).ok());
            (8, bytes.map(u64::from_be_bytes))
        }
        short => (0, Some(u64::from(short))),
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|n| *n <= MESSAGE);
    let length = length.ok_or("a message is too large")?;
    let header = 2 + extra + 4;
    if buffer.len() < header + length {
        return Ok(None);
    }
    let mut mask = [0; 4];
    mask.copy_from_slice(&buffer[header - 4..header]);
    buffer.advance(header);
    let mut payload = buffer.split_to(length);
    for piece in payload.chunks_mut(mask.len()) {
        for (byte, key) in piece.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    let payload = payload.freeze();
    Ok(Some(Frame { last: first & 0x80 != 0, opcode: first & 0x0f, payload }))
}

/// A whole frame of ours.
pub(super) fn frame(opcode: u8, prefix: &[u8], data: &[u8]) -> Vec<u8> {
    let length = prefix.len() + data.len();
    let mut out = Vec::with_capacity(length + 10);
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(u8::try_from(length).unwrap_or(0)),
        126..65536 => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(prefix);
    out.extend_from_slice(data);
    out
}

/// What a whole message means; nothing, for one that is not for us.
fn meaning(message: &Bytes) -> Option<FromClient> {
    let (channel, data) = message.split_first()?;
    match *channel {
        STDIN => Some(FromClient::Stdin(message.slice(1..))),
        RESIZE => FromClient::resize(data),
        CLOSED if data.first() == Some(&STDIN) => Some(FromClient::StdinEnd),
        _ => None,
    }
}

/// Reads whole messages of a client.
pub(super) struct Messages<R> {
    read: R,
    buffer: BytesMut,
    whole: BytesMut,
    pongs: mpsc::Sender<Bytes>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    /// Pings to be answered go to `pongs`, as far as there is room.
    pub(super) fn new(read: R, pongs: mpsc::Sender<Bytes>) -> Messages<R> {
        Messages { read, buffer: BytesMut::new(), whole: BytesMut::new(), pongs }
    }

    /// The next message; `None` once the client has said goodbye, in whatever way.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let next = match take_frame(&mut self.buffer) {
                Ok(next) => next,
                Err(error) => {
                    tracing::debug!("WebSocket: {error}");
                    return None;
                }
            };
            let Some(next) = next else {
                match self.read.read_buf(&mut self.buffer).await {
                    Ok(1..) => continue,
                    _ => return None,
                }
            };
            match next.opcode {
                CLOSE => return None,
                PING => drop(self.pongs.try_send(next.payload)),
                PONG => {}
                opcode => {
                    if opcode != CONTINUATION {
                        self.whole.clear();
                    }
                    if self.whole.len() + next.payload.len() > MESSAGE {
                        return None;
                    }
                    if next.last && self.whole.is_empty() {
                        return Some(next.payload);
                    }
                    self.whole.extend_from_slice(&next.payload);
                    if next.last {
                        return Some(self.whole.split().freeze());
                    }
                }
            }
        }
    }
}

/// Carries streams over an upgraded connection until either side ends.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    told: mpsc::Sender<FromClient>,
    mut tell: mpsc::Receiver<ToClient>,
) {
    let (read, mut write) = tokio::io::split(connection);
    let (pongs, mut pong) = mpsc::channel::<Bytes>(1);
    let reader = tokio::spawn(async move {
        let mut messages = Messages::new(read, pongs);
        while let Some(message) = messages.next().await {
            if let Some(news) = meaning(&message)
                && told.send(news).await.is_err()
            {
                return;
            }
        }
    });
    loop {
        let bytes = tokio::select! {
            Some(payload) = pong.recv() => frame(PONG, &[], &payload),
            news = tell.recv() => match news {
                Some(ToClient::Stdout(data)) => frame(BINARY, &[STDOUT], &data),
                Some(ToClient::Stderr(data)) => frame(BINARY, &[STDERR], &data),
                Some(ToClient::Status(status)) => {
                    frame(BINARY, &[STATUS], status.to_string().as_bytes())
                }
                None => break,
            },
        };
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            break;
        }
    }
    let _ = write.write_all(&frame(CLOSE, &NORMAL.to_be_bytes(), &[])).await;
    let _ = write.shutdown().await;
    reader.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        if payload.len() < 126 {
            out.push(0x80 | payload.len() as u8);
        } else {
            out.push(0x80 | 126);
            out.extend((payload.len() as u16).to_be_bytes());
        }
        out.extend([1, 2, 3, 4]);
        out.extend(payload.iter().zip([1u8, 2, 3, 4].iter().cycle()).map(|(b, k)| b ^ k));
        out
    }

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let long = vec![7; 300];
        for payload in [&b"\0hello"[..], &long] {
            let bytes = masked(0x82, payload);
            for cut in 0..bytes.len() {
                let mut buffer = BytesMut::from(&bytes[..cut]);
                assert_eq!(take_frame(&mut buffer), Ok(None));
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            let frame = take_frame(&mut buffer).unwrap().unwrap();
            assert_eq!((frame.last, frame.opcode, &frame.payload[..]), (true, BINARY, payload));
            assert!(buffer.is_empty());
        }
        assert!(take_frame(&mut BytesMut::from(&[0x82, 1, 0][..])).is_err());
    }

    #[test]
    fn the_standards_own_example() {
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        headers.insert(SEC_WEBSOCKET_KEY, key);
        assert!(handshake(&headers).is_err());
        let offer = HeaderValue::from_static("v9, v4.channel.k8s.io");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offer);
        let reply = handshake(&headers).unwrap();
        assert_eq!(reply.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(reply.headers()[SEC_WEBSOCKET_PROTOCOL], "v4.channel.k8s.io");
    }

    #[tokio::test]
    async fn streams_are_carried() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (told, mut news) = mpsc::channel(4);
        let (tell, orders) = mpsc::channel(4);
        tokio::spawn(carry(server, told, orders));
        let (mut read, mut write) = tokio::io::split(client);
        write.write_all(&masked(0x02, b"\0he")).await.unwrap();
        write.write_all(&masked(0x80, b"llo")).await.unwrap();
        assert_eq!(news.recv().await, Some(FromClient::Stdin(Bytes::from_static(b"hello"))));
        write.write_all(&masked(0x82, b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
        assert_eq!(news.recv().await, Some(FromClient::Resize(80, 24)));
        write.write_all(&masked(0x82, b"\xff\0")).await.unwrap();
        assert_eq!(news.recv().await, Some(FromClient::StdinEnd));
        tell.send(ToClient::Stdout(Bytes::from_static(b"out"))).await.unwrap();
        drop(tell);
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [&[0x82, 4, 1][..], b"out", &[0x88, 2, 3, 0xe8]].concat());
    }
}
