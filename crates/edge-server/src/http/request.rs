//! Reading a request's body: with a limit on its size, on the time it may take, and on the media
//! types that make sense.

use crate::api::MAX_OBJECT;
use bytes::Bytes;
use edge_api::status::Status;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use std::error::Error;
use std::time::Duration;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// How much of a body that is too large is still read. Many clients write all of it before they
/// look for an answer, and a connection that closes under them hides the answer.
const AWAY: u64 = 64 * 1024 * 1024;

/// How long that may take.
const AWAY_TIME: Duration = Duration::from_secs(10);

/// Reads a body that must fit into the limit on objects.
pub(super) async fn whole<B>(mut body: B) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > MAX_OBJECT as u64 {
        read_away(&mut body).await;
        return Err(Status::too_large(MAX_OBJECT));
    }
    let limited = Limited::new(&mut body, MAX_OBJECT);
    match tokio::time::timeout(ARRIVAL, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            read_away(&mut body).await;
            Err(Status::too_large(MAX_OBJECT))
        }
        Ok(Err(error)) => Err(Status::bad_request(format!("read the request's body: {error}"))),
        Err(_) => Err(Status::timeout("the request's body took too long to arrive")),
    }
}

/// Reads a body that must fit into `limit`; one that does not is not read to its end.
pub(super) async fn small<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let limited = Limited::new(&mut body, limit);
    match tokio::time::timeout(ARRIVAL, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(limit)),
        Ok(Err(error)) => Err(Status::bad_request(format!("read the request's body: {error}"))),
        Err(_) => Err(Status::timeout("the request's body took too long to arrive")),
    }
}

/// Reads on without keeping anything, to a bound; nothing when it would not reach the end.
async fn read_away<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    if body.size_hint().lower() > AWAY {
        return;
    }
    let work = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await
            && read <= AWAY
        {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    };
    let _ = tokio::time::timeout(AWAY_TIME, work).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use std::convert::Infallible;

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_to_its_end() {
        let mut told = Full::new(Bytes::from(vec![b'x'; MAX_OBJECT + 1]));
        assert_eq!(whole(&mut told).await.map_err(|status| status.code), Err(413));
        assert!(told.is_end_stream());

        let piece = Bytes::from(vec![b'x'; 1024 * 1024]);
        let mut left = 20;
        let pieces = std::iter::from_fn(|| {
            left -= 1;
            (left >= 0).then(|| Ok::<_, Infallible>(Frame::data(piece.clone())))
        });
        let untold = StreamBody::new(futures_util::stream::iter(pieces));
        assert_eq!(whole(untold).await.map_err(|status| status.code), Err(413));
        assert_eq!(left, -1);
    }

    #[tokio::test]
    async fn a_body_of_the_largest_size_is_taken() {
        let body = Full::new(Bytes::from(vec![b'x'; MAX_OBJECT]));
        assert_eq!(whole(body).await.map(|bytes| bytes.len()).ok(), Some(MAX_OBJECT));
    }
}
