//! The client's side of RFC 6455, as little of it as `exec` needs: handshake, frames, ping,
//! close. A library would bring a second HTTP stack's worth of options for these few frames.

use crate::call::Call;
use crate::error::Error;
use crate::http_client::Client;
use crate::switch::{Switch, Switched};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use http::{HeaderMap, HeaderValue, Method};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

/// Appended to the key before hashing, by the standard.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The largest message; the streams that Kubernetes sends come in pieces of 32 KiB or less.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// The largest payload sent in one frame.
const FRAME_PAYLOAD: usize = 32 * 1024;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A WebSocket connection.
pub struct WebSocket {
    protocol: String,
    reader: Reader,
    writer: Writer,
}

/// The receiving half.
pub struct Reader {
    stream: ReadHalf<Switched>,
    buffer: BytesMut,
    /// What came of a message whose last fragment is still to come.
    partial: Option<BytesMut>,
    writer: Writer,
    closed: bool,
}

/// The sending half; clones write to the same connection.
#[derive(Clone)]
pub struct Writer {
    stream: Arc<Mutex<WriteHalf<Switched>>>,
}

/// What a peer says when it closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text or binary data.
    Data(Bytes),
    /// The end, with the peer's code and reason.
    Close(u16, String),
}

impl Client {
    /// Opens a WebSocket and offers these sub-protocols. A refusal is the server's `Status`.
    pub async fn upgrade(
        &self,
        path_and_query: &str,
        protocols: &[&str],
    ) -> Result<WebSocket, Error> {
        let call = Call::new(Method::GET, path_and_query);
        let operation = format!("open a WebSocket on {path_and_query}");
        let switch = Switch { call: &call, operation };
        let mut nonce = [0u8; 16];
        SystemRandom::new().fill(&mut nonce).map_err(|_| switch.fault("no random numbers"))?;
        let key = STANDARD.encode(nonce);
        let mut request = switch.request("websocket")?;
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let offered = protocols.join(", ");
        for (name, text) in [(SEC_WEBSOCKET_KEY, &key), (SEC_WEBSOCKET_PROTOCOL, &offered)] {
            if !text.is_empty() {
                let value = HeaderValue::from_str(text);
                headers.insert(name, value.map_err(|error| switch.fault(error.to_string()))?);
            }
        }
        let chosen = |headers: &HeaderMap| {
            let header = |name| headers.get(name).and_then(|v| v.to_str().ok());
            if header(SEC_WEBSOCKET_ACCEPT) != Some(accept_of(&key).as_str()) {
                return Err(switch.fault("the server's Sec-WebSocket-Accept is wrong"));
            }
            let protocol = header(SEC_WEBSOCKET_PROTOCOL).unwrap_or("").to_string();
            match protocols.is_empty() || protocols.contains(&protocol.as_str()) {
                true => Ok(protocol),
                false => Err(switch.fault(format!("the server chose protocol {protocol:?}"))),
            }
        };
        let (stream, protocol) = switch.send(self, request, chosen).await?;
        Ok(WebSocket::over(stream, protocol))
    }
}

/// The answer that proves that the server read our key.
fn accept_of(key: &str) -> String {
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{ACCEPT_GUID}").as_bytes(),
    );
    STANDARD.encode(digest)
}

impl WebSocket {
    fn over(stream: Switched, protocol: String) -> WebSocket {
        let (read, write) = tokio::io::split(stream);
        let writer = Writer { stream: Arc::new(Mutex::new(write)) };
        let reader = Reader {
            stream: read,
            buffer: BytesMut::new(),
            partial: None,
            writer: writer.clone(),
            closed: false,
        };
        WebSocket { protocol, reader, writer }
    }

    /// The sub-protocol that the server chose.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Both halves, for two tasks.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// The next message; see [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        self.reader.next().await
    }

    /// Sends one binary message; see [`Writer::send`].
    pub async fn send(&self, prefix: &[u8], data: &[u8]) -> Result<(), Error> {
        self.writer.send(prefix, data).await
    }
}

impl Reader {
    /// The next message; `None` after the end. Answers pings. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        while !self.closed {
            let Some((last, opcode, payload)) = take_frame(&mut self.buffer)? else {
                let count = self.stream.read_buf(&mut self.buffer).await;
                match count {
                    Ok(0) => self.closed = true,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        // A peer that closed without TLS' own goodbye.
                        self.closed = true;
                    }
                    Err(error) => return Err(fault("read", &error.to_string())),
                }
                continue;
            };
            match opcode {
                PING => self.writer.pong(&payload).await?,
                PONG => {}
                CLOSE => {
                    self.closed = true;
                    let (code, reason) = close_reason(&payload);
                    return Ok(Some(Message::Close(code, reason)));
                }
                CONTINUATION | TEXT | BINARY => {
                    if let Some(whole) = self.assemble(last, opcode, payload)? {
                        return Ok(Some(Message::Data(whole)));
                    }
                }
                other => return Err(fault("read", &format!("unknown frame type {other}"))),
            }
        }
        Ok(None)
    }

    fn assemble(&mut self, last: bool, op: u8, payload: Bytes) -> Result<Option<Bytes>, Error> {
        match (self.partial.take(), op) {
            (None, CONTINUATION) => Err(fault("read", "a continuation of nothing")),
            (None, _) if last => Ok(Some(payload)),
            (None, _) => {
                self.partial = Some(BytesMut::from(payload));
                Ok(None)
            }
            (Some(mut partial), CONTINUATION) => {
                if partial.len() + payload.len() > MESSAGE_LIMIT {
                    return Err(fault("read", "message too large"));
                }
                partial.extend_from_slice(&payload);
                if last {
                    return Ok(Some(partial.freeze()));
                }
                self.partial = Some(partial);
                Ok(None)
            }
            (Some(_), _) => Err(fault("read", "a new message within another")),
        }
    }
}

impl Writer {
    /// Sends `prefix` and `data` as binary messages: one, or several when `data` is long, each
    /// with the prefix.
    pub async fn send(&self, prefix: &[u8], data: &[u8]) -> Result<(), Error> {
        let mut stream = self.stream.lock().await;
        let mut rest = data;
        loop {
            let (now, later) = rest.split_at(rest.len().min(FRAME_PAYLOAD));
            write_frame(&mut stream, BINARY, prefix, now).await?;
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    /// Says goodbye.
    pub async fn close(&self) -> Result<(), Error> {
        let mut stream = self.stream.lock().await;
        write_frame(&mut stream, CLOSE, &1000u16.to_be_bytes(), &[]).await
    }

    /// Skipped while data is being written: that shows life as well, and waiting for it here
    /// would keep the reader from reading.
    async fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        match self.stream.try_lock() {
            Ok(mut stream) => write_frame(&mut stream, PONG, payload, &[]).await,
            Err(_) => Ok(()),
        }
    }
}

async fn write_frame(
    stream: &mut WriteHalf<Switched>,
    opcode: u8,
    prefix: &[u8],
    data: &[u8],
) -> Result<(), Error> {
    let mut mask = [0u8; 4];
    SystemRandom::new().fill(&mut mask).map_err(|_| fault("write", "no random numbers"))?;
    let frame = encode(opcode, mask, prefix, data);
    let sent = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| fault("write", &error.to_string()))
}

/// One whole, masked frame.
fn encode(opcode: u8, mask: [u8; 4], prefix: &[u8], data: &[u8]) -> Vec<u8> {
    let length = prefix.len() + data.len();
    let mut frame = Vec::with_capacity(length + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(0x80 | short),
        (_, Ok(medium)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    let payload = prefix.iter().chain(data);
    frame.extend(payload.zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Takes one whole frame off the buffer: whether it ends its message, its type, its payload.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<(bool, u8, Bytes)>, Error> {
    if buffer.len() < 2 {
        return Ok(None);
    }
    let (first, second) = (buffer[0], buffer[1]);
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(fault("read", "a frame with reserved bits or a mask"));
    }
    let (header, length) = match second {
        126 if buffer.len() < 4 => return Ok(None),
        126 => (4, usize::from(u16::from_be_bytes([buffer[2], buffer[3]]))),
        127 if buffer.len() < 10 => return Ok(None),
        127 => {
            let mut wide = [0u8; 8];
            wide.copy_from_slice(&buffer[2..10]);
            (10, usize::try_from(u64::from_be_bytes(wide)).unwrap_or(usize::MAX))
        }
        short => (2, usize::from(short)),
    };
    if length > MESSAGE_LIMIT {
        return Err(fault("read", "frame too large"));
    }
    if buffer.len() < header + length {
        buffer.reserve(header + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(header);
    let payload = buffer.split_to(length).freeze();
    Ok(Some((first & 0x80 != 0, first & 0x0f, payload)))
}

fn close_reason(payload: &[u8]) -> (u16, String) {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            (code, String::from_utf8_lossy(reason).into_owned())
        }
        _ => (1005, String::new()),
    }
}

fn fault(operation: &str, message: &str) -> Error {
    Error::Protocol { operation: format!("{operation} WebSocket"), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_handshake() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_masked_and_sized() {
        let hello = encode(TEXT, [0x37, 0xfa, 0x21, 0x3d], b"He", b"llo");
        assert_eq!(hello, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(encode(BINARY, [0; 4], &[], &[0; 200])[1..4], [0x80 | 126, 0, 200]);
        let long = encode(BINARY, [0; 4], &[], &vec![0; 70_000]);
        assert_eq!(long[1..10], [0x80 | 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn frames_are_taken_whole_or_not_at_all() {
        let bytes = b"\x82\x03abc\x89\x00\x82\x7e\x01\x00";
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in bytes.iter().chain([b'x'; 256].iter()) {
            buffer.extend_from_slice(&[*byte]);
            while let Some(frame) = take_frame(&mut buffer).unwrap() {
                seen.push((frame.1, frame.2.len()));
            }
        }
        assert_eq!(seen, [(BINARY, 3), (PING, 0), (BINARY, 256)]);
        assert!(take_frame(&mut BytesMut::from(&b"\xf2\x00"[..])).is_err());
        assert!(
            take_frame(&mut BytesMut::from(&b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"[..]))
                .is_err()
        );
        assert_eq!(close_reason(b"\x03\xe8bye"), (1000, "bye".to_string()));
    }
}
