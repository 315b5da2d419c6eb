//! Request bodies: nothing, bytes that can be sent again, or a stream that can be sent once.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use std::convert::Infallible;

/// What went wrong while a request body was being produced.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

fn never(error: Infallible) -> BodyError {
    match error {}
}

/// A body with nothing in it.
pub fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body that is produced while it is sent, with chunked encoding unless the request carries a
/// `Content-Length`.
pub fn stream<S>(chunks: S) -> Body
where
    S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
{
    let frames = chunks.map(|chunk| match chunk {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(error) => Err(Box::new(error) as BodyError),
    });
    StreamBody::new(frames).boxed_unsync()
}
