//! Building answers: JSON, plain text, and failures as `Status` objects.

use super::body::ReplyBody;
use bytes::Bytes;
use edge_api::status::Status;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// An answer.
pub(crate) type Reply = Response<ReplyBody>;

/// Warnings that one answer carries at most, and bytes of each.
const WARNINGS: usize = 16;
const WARNING_BYTES: usize = 512;

/// An answer of this code and type.
pub(crate) fn reply(code: u16, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON answer.
pub(crate) fn json(code: u16, bytes: impl Into<Bytes>) -> Reply {
    reply(code, "application/json", ReplyBody::of(bytes))
}

/// A plain text answer.
pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Reply {
    reply(code, "text/plain; charset=utf-8", ReplyBody::of(text))
}

/// A failure.
pub(crate) fn status(status: &Status) -> Reply {
    let mut response = json(status.code, status.to_json().to_string());
    if let Some(after) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

/// Adds a `Warning: 299` header for each warning.
pub(crate) fn warn(response: &mut Reply, warnings: &[String]) {
    const WARNING: HeaderName = HeaderName::from_static("warning");
    for warning in warnings.iter().take(WARNINGS) {
        let mut text = String::with_capacity(warning.len());
        for c in warning.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
            if text.len() > WARNING_BYTES {
                break;
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// An answer of another media type.
pub(crate) fn reply_typed(media: &'static str, body: impl Into<Bytes>) -> Reply {
    reply(200, media, ReplyBody::of(body))
}
