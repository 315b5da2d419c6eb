//! Reading a request's body: with a limit on its size, on the time it may take, and on the media
//! types that make sense.

use crate::api::MAX_OBJECT;
use bytes::Bytes;
use edge_api::status::Status;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Reads a body that must fit into the limit on objects.
pub(super) async fn whole(body: Incoming) -> Result<Bytes, Status> {
    if body.size_hint().lower() > MAX_OBJECT as u64 {
        return Err(Status::too_large(MAX_OBJECT));
    }
    let collected = tokio::time::timeout(ARRIVAL, Limited::new(body, MAX_OBJECT).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(MAX_OBJECT)),
        Ok(Err(error)) => Err(Status::bad_request(format!("read the request's body: {error}"))),
        Err(_) => Err(Status::timeout("the request's body took too long to arrive")),
    }
}
