//! Sending an archive to a board, and showing how far it is.

use crate::fault::Fault;
use crate::session::Session;
use bytes::{Bytes, BytesMut};
use edge_api::Object;
use edge_client::{Call, Client, Error, body};
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Pieces of the archive that wait to be sent, and the size of one.
const PIECES: usize = 4;
const PIECE: usize = 128 * 1024;

/// Between two pictures of the progress.
pub(in crate::commands) const TICK: Duration = Duration::from_millis(100);

/// The width of the bar.
const BAR: usize = 30;

/// The longest line of progress that a board sends.
const LINE_LIMIT: usize = 1024 * 1024;

/// What a board says at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Names, or ids of images without one.
    pub(super) names: Vec<String>,
    /// What they stand for, as the cluster keeps it.
    pub(super) images: Object,
    /// Bytes of the archive that came, if the board says so.
    pub(super) bytes: u64,
}

/// Something that a board does, and tells about.
pub(super) struct Running {
    body: Incoming,
    /// What it is, for a fault: `pull onto node n`.
    what: String,
}

impl Running {
    /// Has a board begin.
    pub(super) async fn begin(
        client: &Client,
        path: String,
        what: String,
    ) -> Result<Running, Fault> {
        let call = Call::new(Method::POST, path);
        let fault = |error| Fault::when(error, what.clone());
        let mut request = Request::new(body::empty());
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            call.path.parse().map_err(|_| Fault::text(format!("bad path {:?}", call.path)))?;
        let response = client.request(request).await.map_err(fault)?;
        if response.status().as_u16() >= 400 {
            return Err(fault(client.refused(&call, response).await));
        }
        Ok(Running { body: response.into_body(), what })
    }

    /// Waits until it is done; `told` gets each step.
    pub(super) async fn end(mut self, mut told: impl FnMut(String)) -> Result<Loaded, Fault> {
        let mut lines = Progress::default();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| {
                let operation = "read the progress".to_string();
                let error = Error::Protocol { operation, message: error.to_string() };
                Fault::when(error, self.what.clone())
            })?;
            if let Some(status) = frame.data_ref().and_then(|data| lines.take(data)) {
                told(status);
            }
        }
        lines.finish().map_err(|why| Fault::text(format!("{}: {why}", self.what)))
    }
}

/// Has a board take an image by its name, from other boards or a registry.
pub(super) async fn pull(client: &Client, node: &str, name: &str) -> Result<(), Fault> {
    let what = format!("images/pull?ref={}", edge_client::query::escape(name));
    let path = super::on_node(node, &what);
    let doing = format!("pull {name} onto node {node}");
    Running::begin(client, path, doing).await?.end(drop).await.map(drop)
}

/// Sends parts of the archive to one board; gives the images that it holds.
pub(super) async fn send(
    session: &mut Session,
    client: &Client,
    path: &str,
    file: &Path,
    parts: Vec<Range<u64>>,
    node: &str,
) -> Result<Loaded, Fault> {
    let size = parts.iter().map(|part| part.end - part.start).sum();
    let source =
        File::open(file).map_err(|error| Fault::io(format!("read {}", file.display()), error))?;
    let sent = Arc::new(AtomicU64::new(0));
    let pieces = read(source, parts, sent.clone());
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let mut request = Request::new(body::stream(stream));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| Fault::text(format!("bad node {node:?}")))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let mut view = View::new(session, node, size);
    let fault = |error| Fault::when(error, format!("load {} onto node {node}", file.display()));
    let exchange = client.request(request);
    tokio::pin!(exchange);
    let mut tick = tokio::time::interval(TICK);
    let response = loop {
        tokio::select! {
            response = &mut exchange => break response.map_err(fault)?,
            _ = tick.tick() => view.bar(sent.load(Ordering::Relaxed)),
        }
    };
    if response.status().as_u16() >= 400 {
        view.clear();
        return Err(fault(client.refused(&Call::new(Method::POST, path), response).await));
    }
    let mut lines = Progress::default();
    let mut body = response.into_body();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = tick.tick() => {
                view.bar(sent.load(Ordering::Relaxed));
                continue;
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            let operation = "read the progress".to_string();
            fault(Error::Protocol { operation, message: error.to_string() })
        })?;
        if let Some(status) = frame.data_ref().and_then(|data| lines.take(data)) {
            view.status(&status, sent.load(Ordering::Relaxed));
        }
    }
    view.clear();
    lines.finish().map_err(|why| Fault::text(format!("load onto node {node}: {why}")))
}

/// Reads the archive on a thread of its own, a few pieces ahead.
pub(in crate::commands) fn read(
    mut source: impl Read + Seek + Send + 'static,
    parts: Vec<Range<u64>>,
    sent: Arc<AtomicU64>,
) -> mpsc::Receiver<Result<Bytes, std::io::Error>> {
    let (send, receive) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        for mut part in parts {
            if let Err(error) = source.seek(SeekFrom::Start(part.start)) {
                let _ = send.blocking_send(Err(error));
                return;
            }
            while part.start < part.end {
                let want = usize::try_from(part.end - part.start).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; want];
                let result = source.read_exact(&mut piece).map(|()| Bytes::from(piece));
                let ended = result.is_err();
                if send.blocking_send(result).is_err() || ended {
                    return;
                }
                part.start += want as u64;
                sent.fetch_add(want as u64, Ordering::Relaxed);
            }
        }
    });
    receive
}

/// What a board says while it loads: one JSON object a line.
#[derive(Default)]
struct Progress {
    buffer: BytesMut,
    loaded: Option<Loaded>,
    error: Option<String>,
}

impl Progress {
    /// Takes bytes in; gives the last status among them.
    fn take(&mut self, data: &[u8]) -> Option<String> {
        if self.buffer.len() + data.len() <= LINE_LIMIT {
            self.buffer.extend_from_slice(data);
        }
        let mut status = None;
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            status = self.line(&line).or(status);
        }
        status
    }

    fn line(&mut self, line: &[u8]) -> Option<String> {
        let object: Object = serde_json::from_slice(line).ok()?;
        if let Some(error) = object["error"].as_str() {
            self.error = Some(error.to_string());
        }
        if let Some(loaded) = object["loaded"].as_array() {
            let names = loaded.iter().filter_map(|name| name.as_str().map(str::to_string));
            let images = object["images"].clone();
            let bytes = object["bytes"].as_u64().unwrap_or(0);
            self.loaded = Some(Loaded { names: names.collect(), images, bytes });
        }
        object["status"].as_str().map(str::to_string)
    }

    fn finish(mut self) -> Result<Loaded, String> {
        let rest = std::mem::take(&mut self.buffer);
        self.line(&rest);
        match (self.error, self.loaded) {
            (Some(error), _) => Err(error),
            (None, Some(loaded)) => Ok(loaded),
            (None, None) => Err("the board ended the answer without a result".to_string()),
        }
    }
}

/// The line on the person's terminal; nothing in a pipe.
pub(in crate::commands) struct View<'a> {
    session: &'a mut Session,
    node: &'a str,
    size: u64,
    since: Instant,
    status: String,
}

impl<'a> View<'a> {
    pub(in crate::commands) fn new(session: &'a mut Session, node: &'a str, size: u64) -> View<'a> {
        View { session, node, size, since: Instant::now(), status: String::new() }
    }

    pub(in crate::commands) fn bar(&mut self, sent: u64) {
        if self.session.io.err_terminal {
            let line = bar(self.node, sent, self.size, self.since.elapsed(), &self.status);
            self.session.io.write_err(format!("\r{line}\x1b[K").as_bytes());
        }
    }

    fn status(&mut self, status: &str, sent: u64) {
        self.status = status.to_string();
        self.bar(sent);
    }

    pub(in crate::commands) fn clear(&mut self) {
        if self.session.io.err_terminal {
            self.session.io.write_err(b"\r\x1b[K");
        }
    }
}

/// `board-1 [#####-----] 50% 5.0/10.0 MiB 2.5 MiB/s unpacking layer 2 of 3`.
fn bar(node: &str, sent: u64, size: u64, elapsed: Duration, status: &str) -> String {
    let part = if size == 0 { 1.0 } else { (sent as f64 / size as f64).min(1.0) };
    let filled = (part * BAR as f64) as usize;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let rate = mib(sent) / elapsed.as_secs_f64().max(0.001);
    format!(
        "{node} [{}{}] {:3.0}% {:.1}/{:.1} MiB {rate:.1} MiB/s {status}",
        "#".repeat(filled),
        "-".repeat(BAR - filled),
        part * 100.0,
        mib(sent),
        mib(size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_decides() {
        let mut progress = Progress::default();
        assert_eq!(progress.take(b"{\"status\":\"a\"}\n{\"stat").as_deref(), Some("a"));
        assert_eq!(progress.take(b"us\":\"b\"}\n").as_deref(), Some("b"));
        assert_eq!(progress.take(b"{\"loaded\":[\"x:1\"]}"), None);
        assert_eq!(progress.finish().map(|loaded| loaded.names), Ok(vec!["x:1".to_string()]));
        let mut failed = Progress::default();
        failed.take(b"{\"error\":\"digest mismatch\"}\n");
        assert_eq!(failed.finish(), Err("digest mismatch".to_string()));
        assert!(Progress::default().finish().is_err());
    }

    #[test]
    fn a_bar() {
        let line = bar("b", 5 << 20, 10 << 20, Duration::from_secs(2), "layer 1");
        assert_eq!(line, "b [###############---------------]  50% 5.0/10.0 MiB 2.5 MiB/s layer 1");
    }
}
