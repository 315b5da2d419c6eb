//! One request to the API and what came back: building it, and reading a refusal.

use crate::body::{self, Body};
use crate::error::Error;
use bytes::Bytes;
use edge_api::Object;
use edge_api::status::{Reason, Status};
use http::header::{ACCEPT, CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request with a body that can be sent again.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// What to accept; `application/json` when empty.
    pub accept: Option<&'static str>,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Call {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            accept: None,
            content_type: "application/json",
            body: Bytes::new(),
        }
    }

    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    /// Asks for this type of answer.
    pub fn accept(mut self, accept: &'static str) -> Call {
        self.accept = Some(accept);
        self
    }

    /// Sends this JSON.
    pub fn json(mut self, value: &Object) -> Call {
        self.body = Bytes::from(value.to_string());
        self
    }

    pub(crate) fn operation(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn request(&self) -> Result<Request<Body>, Error> {
        let body = match self.body.is_empty() {
            true => body::empty(),
            false => body::full(self.body.clone()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().map_err(|error| Error::Protocol {
            operation: self.operation(),
            message: format!("not a request path: {error}"),
        })?;
        let accept = self.accept.map_or(JSON, HeaderValue::from_static);
        request.headers_mut().insert(ACCEPT, accept);
        if !self.body.is_empty() {
            let kind = HeaderValue::from_static(self.content_type);
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        Ok(request)
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP code.
    pub code: u16,
    /// What the server warned about.
    pub warnings: Vec<String>,
    /// The body; `null` when there was none.
    pub object: Object,
}

/// The texts of `Warning: 299 - "…"` headers.
pub(crate) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let mut found = Vec::new();
    for value in headers.get_all(WARNING) {
        let Ok(text) = value.to_str() else { continue };
        let quoted = text.splitn(3, ' ').nth(2).unwrap_or(text).trim();
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        found.push(inner.unwrap_or(quoted).replace("\\\"", "\"").replace("\\\\", "\\"));
    }
    found
}

/// The error in a failed answer: its `Status`, or one made from the code and the text.
pub(crate) fn failure(call: &Call, code: u16, body: &[u8]) -> Error {
    if let Ok(object) = serde_json::from_slice::<Object>(body)
        && object["kind"] == "Status"
        && let Some(status) = Status::from_json(&object)
    {
        return Error::Status(Box::new(status));
    }
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or("").trim();
    let message = if line.is_empty() {
        format!("{}: the server answered {code}", call.operation())
    } else {
        line.to_string()
    };
    Error::Status(Box::new(Status { code, reason: reason(code), message, details: None }))
}

/// The reason that goes with a code when the server gave none.
fn reason(code: u16) -> Reason {
    match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        406 => Reason::NotAcceptable,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        413 => Reason::RequestEntityTooLarge,
        415 => Reason::UnsupportedMediaType,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        500 => Reason::InternalError,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        _ => Reason::Unknown,
    }
}

/// [`failure`] for an answer whose body has not been read.
pub(crate) async fn read_failure(
    call: &Call,
    response: Response<Incoming>,
    limit: Duration,
) -> Error {
    let code = response.status().as_u16();
    let body = tokio::time::timeout(limit, response.into_body().collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    failure(call, code, &body)
}
