//! One attempt at one server: how a request is addressed to it, and how it did not answer.

use crate::body::Body;
use crate::connect::{Broken, Server};
use crate::error::{Error, flatten};
use http::header::HOST;
use http::{HeaderValue, Request};
use std::time::Duration;

/// How long the end of a connection that is over may take to be known.
const ENDING: Duration = Duration::from_secs(1);

/// How one server did not answer.
pub(super) enum Attempt {
    /// The request never left; another server may have it.
    Unsent(Box<Request<Body>>, Error),
    /// Whether the request was acted on is not known.
    Lost(Error),
}

impl Attempt {
    /// The request was sent, or a part of it.
    pub(super) fn lost(server: &Server, error: &hyper::Error) -> Attempt {
        Attempt::Lost(Error::Protocol {
            operation: format!("talk to {}", server.url),
            message: flatten(error),
        })
    }

    /// The same on a new connection. The request only knows that it can't be sent; what the peer
    /// said before it hung up, such as that it wants a certificate, the connection knows.
    pub(super) async fn broken(server: &Server, error: hyper::Error, broken: Broken) -> Attempt {
        let cause = match error.is_canceled() {
            true => tokio::time::timeout(ENDING, broken).await.ok().and_then(Result::ok),
            false => None,
        };
        Attempt::lost(server, &cause.unwrap_or(error))
    }
}

/// Puts a server's name and path prefix on a request.
pub(super) fn address(
    server: &Server,
    mut request: Request<Body>,
) -> Result<Request<Body>, Attempt> {
    let fault = |message: String| {
        let operation = format!("address a request to {}", server.url);
        Attempt::Lost(Error::Protocol { operation, message })
    };
    if !server.prefix.is_empty() {
        let full = format!("{}{}", server.prefix, request.uri());
        *request.uri_mut() = full.parse().map_err(|error| fault(format!("{error}")))?;
    }
    let host = HeaderValue::from_str(&server.authority).map_err(|e| fault(e.to_string()))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// Takes the prefix off again, for the next server.
pub(super) fn strip(server: &Server, mut request: Request<Body>) -> Request<Body> {
    let bare = request.uri().to_string();
    if let Some(Ok(uri)) = bare.strip_prefix(&server.prefix).map(str::parse) {
        *request.uri_mut() = uri;
    }
    request
}
