//! SPDY/3.1, as much of it as `kubectl` before 1.31 needs for exec and attach: the client opens one
//! stream for each of error, stdin, stdout, stderr and resize; data flows in frames.

mod dictionary;
mod headers;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edge_client::spdy::{
    Frame, GOAWAY, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, block, control, data, take_frame,
};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::exec::Asked;
use super::reply::{self, Reply};
use super::session::{FromClient, ToClient};
pub(super) use headers::Inflater;

const PROTOCOL: &str = "SPDY/3.1";
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The version of the remote command protocol that we speak.
const V4: &str = "v4.channel.k8s.io";

/// A client has this long to open its streams …
const STREAMS: Duration = Duration::from_secs(30);
/// … and this long to hang up when all is said.
const GOODBYE: Duration = Duration::from_secs(5);

/// True for a request that asks for SPDY.
pub(super) fn asked(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    upgrade.eq_ignore_ascii_case(PROTOCOL)
}

/// The answer that agrees to a remote command, or why we don't.
pub(super) fn handshake(headers: &HeaderMap) -> Result<Reply, String> {
    agree(headers, V4)
}

/// The answer that agrees to this stream protocol, or why we don't.
pub(super) fn agree(headers: &HeaderMap, protocol: &'static str) -> Result<Reply, String> {
    let offered = headers.get_all(VERSION_HEADER);
    let mut offered =
        offered.iter().filter_map(|v| v.to_str().ok()).flat_map(|list| list.split(','));
    if !offered.any(|version| version.trim() == protocol) {
        return Err(format!(
            "unable to upgrade: of the stream protocols only {protocol} is supported"
        ));
    }
    let mut reply = reply::text(101, "");
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = reply.headers_mut();
    out.clear();
    out.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(VERSION_HEADER, HeaderValue::from_static(protocol));
    Ok(reply)
}

/// What the reading half tells the writing half.
enum News {
    /// The client has opened a stream of this type.
    Opened(String, u32),
    /// The client wants this frame back.
    Pong(Bytes),
}

struct Reading {
    inflater: Inflater,
    streams: BTreeMap<u32, String>,
    told: mpsc::Sender<FromClient>,
    news: mpsc::Sender<News>,
}

/// Why reading ends.
type End = Option<&'static str>;

impl Reading {
    async fn run(mut self, mut read: impl AsyncRead + Unpin) -> End {
        let mut buffer = BytesMut::new();
        loop {
            match take_frame(&mut buffer) {
                Err(error) => return Some(error),
                Ok(Some(frame)) => {
                    if let Err(end) = self.take(frame).await {
                        return end;
                    }
                }
                Ok(None) => match read.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    _ => return None,
                },
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Control { kind: SYN_STREAM, payload, .. } => {
                let id = payload.first_chunk::<4>().ok_or(Some("a stream has no number"))?;
                let id = u32::from_be_bytes(*id) & 0x7fff_ffff;
                let block = payload.get(10..).ok_or(Some("a stream has no headers"))?;
                let mut headers = self.inflater.read(block).map_err(Some)?;
                let kind = headers.remove("streamtype").unwrap_or_default();
                self.streams.insert(id, kind.clone());
                self.news.send(News::Opened(kind, id)).await.map_err(|_| None)
            }
            Frame::Control { kind: PING, payload, .. } => {
                let _ = self.news.try_send(News::Pong(payload));
                Ok(())
            }
            Frame::Control { kind: RST_STREAM, payload, .. } => {
                let id = payload.first_chunk::<4>().map(|id| u32::from_be_bytes(*id));
                self.closed(id.unwrap_or(0)).await
            }
            Frame::Control { kind: GOAWAY, .. } => Err(None),
            Frame::Control { .. } => Ok(()),
            Frame::Data { stream, fin, payload } => {
                let news = match self.streams.get(&stream).map(String::as_str) {
                    Some("stdin") if !payload.is_empty() => Some(FromClient::Stdin(payload)),
                    Some("resize") => FromClient::resize(&payload),
                    _ => None,
                };
                if let Some(news) = news {
                    self.told.send(news).await.map_err(|_| None)?;
                }
                if fin { self.closed(stream).await } else { Ok(()) }
            }
        }
    }

    async fn closed(&mut self, stream: u32) -> Result<(), End> {
        if self.streams.get(&stream).is_some_and(|kind| kind == "stdin") {
            return self.told.send(FromClient::StdinEnd).await.map_err(|_| None);
        }
        Ok(())
    }
}

/// Streams that a client opens for what it asked.
fn expected(asked: Asked) -> Vec<&'static str> {
    let all = [
        ("error", true),
        ("stdin", asked.stdin),
        ("stdout", asked.stdout),
        ("stderr", asked.stderr && !asked.tty),
    ];
    all.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind).collect()
}

struct Writing<W> {
    write: W,
    /// Number of each stream by its type.
    opened: BTreeMap<String, u32>,
    replied: bool,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    async fn news(&mut self, news: News) -> std::io::Result<()> {
        match news {
            News::Opened(kind, id) => {
                let block = block(!self.replied, &[]);
                self.replied = true;
                self.opened.insert(kind, id);
                let payload = [&id.to_be_bytes()[..], &block].concat();
                self.send(&control(SYN_REPLY, &payload)).await
            }
            News::Pong(payload) => self.send(&control(PING, &payload)).await,
        }
    }

    async fn tell(&mut self, order: ToClient) -> std::io::Result<()> {
        let (kind, payload) = match order {
            ToClient::Stdout(payload) => ("stdout", payload),
            ToClient::Stderr(payload) => ("stderr", payload),
            ToClient::Status(status) => ("error", Bytes::from(status.to_string())),
        };
        match self.opened.get(kind).copied() {
            Some(id) => self.send(&data(id, false, &payload)).await,
            None => Ok(()),
        }
    }
}

/// Carries streams over an upgraded connection until either side ends.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    asked: Asked,
    told: mpsc::Sender<FromClient>,
    mut tell: mpsc::Receiver<ToClient>,
) {
    let (read, write) = tokio::io::split(connection);
    let (news_in, mut news) = mpsc::channel(super::session::PIECES);
    let reading =
        Reading { inflater: Inflater::new(), streams: BTreeMap::new(), told, news: news_in };
    let mut reader = tokio::spawn(reading.run(read));
    let mut writing = Writing { write, opened: BTreeMap::new(), replied: false };
    let wanted = expected(asked);
    let opened = tokio::time::timeout(STREAMS, async {
        while !wanted.iter().all(|kind| writing.opened.contains_key(*kind)) {
            match news.recv().await {
                Some(one) => writing.news(one).await?,
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
        std::io::Result::Ok(())
    });
    if !matches!(opened.await, Ok(Ok(()))) {
        return reader.abort();
    }
    let told_all = loop {
        let done = tokio::select! {
            Some(one) = news.recv() => writing.news(one).await,
            order = tell.recv() => match order {
                Some(order) => writing.tell(order).await,
                None => break true,
            },
            end = &mut reader => {
                if let Ok(Some(error)) = end {
                    tracing::debug!("SPDY: {error}");
                }
                return;
            }
        };
        if done.is_err() {
            break false;
        }
    };
    if told_all {
        for kind in ["stdout", "stderr", "error"] {
            if let Some(id) = writing.opened.get(kind).copied() {
                let _ = writing.send(&data(id, true, &[])).await;
            }
        }
        let _ = tokio::time::timeout(GOODBYE, &mut reader).await;
    }
    let _ = writing.write.shutdown().await;
    reader.abort();
}

#[cfg(test)]
mod tests;
