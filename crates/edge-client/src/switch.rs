//! Switching an HTTP/1.1 connection to another protocol (RFC 9110, 7.8), as `exec` and
//! port-forward begin.

use crate::body::Body;
use crate::call::{Call, read_failure};
use crate::error::{Error, flatten};
use crate::http_client::Client;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// How long the server may take to switch protocols.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// A connection that speaks the other protocol now.
pub(crate) type Switched = TokioIo<Upgraded>;

/// A request to speak another protocol from here on.
pub(crate) struct Switch<'a> {
    /// The path that is asked for.
    pub call: &'a Call,
    /// What a person would call it: "open a WebSocket on /api/…".
    pub operation: String,
}

impl Switch<'_> {
    /// An error of this operation.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Error {
        Error::Protocol { operation: self.operation.clone(), message: message.into() }
    }

    /// The request, for headers of the protocol's own.
    pub(crate) fn request(&self, protocol: &'static str) -> Result<Request<Body>, Error> {
        let mut request = self.call.request()?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        Ok(request)
    }

    /// Sends it. `judge` looks at the headers of an answer that agrees.
    ///
    /// # Errors
    /// The server's refusal, what `judge` finds wrong, or why nobody could be asked.
    pub(crate) async fn send<T>(
        &self,
        client: &Client,
        request: Request<Body>,
        judge: impl FnOnce(&HeaderMap) -> Result<T, Error>,
    ) -> Result<(Switched, T), Error> {
        let response = tokio::time::timeout(HANDSHAKE, client.request(request)).await;
        let response = response.map_err(|_| Error::Timeout {
            operation: self.operation.clone(),
            seconds: HANDSHAKE.as_secs(),
        })??;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if response.status().is_success() {
                return Err(self.fault(format!("the server answered {}", response.status())));
            }
            return Err(read_failure(self.call, response, HANDSHAKE).await);
        }
        let judged = judge(response.headers())?;
        let upgraded = hyper::upgrade::on(response).await;
        let stream = upgraded.map_err(|error| self.fault(flatten(&error)))?;
        Ok((TokioIo::new(stream), judged))
    }
}
