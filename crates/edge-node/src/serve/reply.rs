//! Answers: bytes at once, or a stream of them; refusals as Kubernetes' `Status`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use edge_api::status::Status;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces of a stream that may wait for a slow reader.
pub(super) const PIECES: usize = 8;

/// The body of an answer.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A body that is filled from elsewhere; it ends when its sender is dropped.
pub(super) struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn response(code: u16, kind: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Plain text.
pub(super) fn text(code: u16, text: impl Into<Bytes>) -> Reply {
    response(code, "text/plain; charset=utf-8", text)
}

/// JSON.
pub(super) fn json(code: u16, value: &Value) -> Reply {
    response(code, "application/json", value.to_string())
}

/// A refusal.
pub(super) fn refuse(status: &Status) -> Reply {
    json(status.code, &status.to_json())
}

/// A stream of bytes of this kind, and where to put them.
pub(super) fn stream(kind: &'static str) -> (mpsc::Sender<Bytes>, Reply) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let mut response = Response::new(Stream(receiver).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    (sender, response)
}

/// A body that comes from elsewhere, of this length.
pub(crate) fn pieces(code: u16, length: u64, receiver: mpsc::Receiver<Bytes>) -> Reply {
    let mut response = Response::new(Stream(receiver).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}
