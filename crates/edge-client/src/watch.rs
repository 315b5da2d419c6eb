//! A watch: one JSON event per line, decoded as the bytes arrive, in a buffer with a limit.

use crate::error::{Error, flatten};
use bytes::{Buf, BytesMut};
use edge_api::Object;
use edge_api::status::Status;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

/// The longest event: an object may be 3 MiB, and a table row carries it with its cells.
const EVENT_LIMIT: usize = 16 * 1024 * 1024;

/// A buffer that grew beyond this is dropped once it is empty.
const BUFFER_KEEP: usize = 64 * 1024;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// The object came to be, or came to match.
    Added(Object),
    /// The object changed.
    Modified(Object),
    /// The object is gone, or no longer matches; this is its last state.
    Deleted(Object),
    /// Nothing changed up to this revision.
    Bookmark(String),
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

/// The changes of one watch, until the server ends it.
pub struct WatchStream {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    path: String,
    ended: bool,
}

impl WatchStream {
    pub(crate) fn new(body: Incoming, path: String) -> WatchStream {
        WatchStream { body, buffer: BytesMut::new(), searched: 0, path, ended: false }
    }

    /// The next change; `None` when the server has ended the watch. May be dropped and called
    /// again without losing an event.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        loop {
            if let Some(line) = self.line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(self.decode(&line));
            }
            if self.ended {
                return None;
            }
            match self.body.frame().await {
                None => self.finish(),
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    if self.buffer.len() + data.len() > EVENT_LIMIT {
                        self.ended = true;
                        return Some(Err(self.fault(format!("event over {EVENT_LIMIT} bytes"))));
                    }
                    self.buffer.extend_from_slice(data);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(Error::Protocol {
                        operation: format!("watch {}", self.path),
                        message: flatten(&error),
                    }));
                }
            }
        }
    }

    /// The last event may come without a line end.
    fn finish(&mut self) {
        self.ended = true;
        if !self.buffer.is_empty() {
            self.buffer.extend_from_slice(b"\n");
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + found);
        self.buffer.advance(1);
        self.searched = 0;
        if self.buffer.is_empty() && line.capacity() > BUFFER_KEEP {
            self.buffer = BytesMut::new();
        }
        Some(line)
    }

    fn decode(&mut self, line: &[u8]) -> Result<WatchEvent, Error> {
        let wire: Wire = match serde_json::from_slice(line) {
            Ok(wire) => wire,
            Err(error) => {
                self.ended = true;
                self.buffer.clear();
                return Err(self.fault(error.to_string()));
            }
        };
        match wire.kind.as_str() {
            "ADDED" => Ok(WatchEvent::Added(wire.object)),
            "MODIFIED" => Ok(WatchEvent::Modified(wire.object)),
            "DELETED" => Ok(WatchEvent::Deleted(wire.object)),
            "BOOKMARK" => {
                let revision = wire.object["metadata"]["resourceVersion"].as_str();
                Ok(WatchEvent::Bookmark(revision.unwrap_or_default().to_string()))
            }
            "ERROR" => match Status::from_json(&wire.object) {
                Some(status) => Err(Error::Status(Box::new(status))),
                None => Err(self.fault("an ERROR event without a Status".to_string())),
            },
            other => Err(self.fault(format!("unknown event type {other:?}"))),
        }
    }

    fn fault(&self, message: String) -> Error {
        Error::Decode { operation: format!("watch {}", self.path), message }
    }
}
