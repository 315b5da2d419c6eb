//! A watch as a streaming answer: one JSON line for each event, ended by the client, the clock,
//! or the server's shutdown.

use super::body::{Pieces, ReplyBody};
use super::encode::Writer;
use super::reply::{self, Reply};
use crate::api::{Api, WatchItem, Watching};
use crate::lead::Leadership;
use crate::metrics::Gauge;
use futures_util::stream;
use tokio::sync::watch;

struct Streaming {
    watching: Watching,
    writer: Writer,
    leadership: Leadership,
    stop: watch::Receiver<bool>,
    _open: Gauge,
}

impl Streaming {
    async fn next(&mut self) -> Option<Pieces> {
        let item = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return None,
            // The client finds a server that goes on.
            () = self.leadership.abandoned() => return None,
            item = self.watching.next() => item?,
        };
        match self.writer.event(item) {
            Ok(line) => Some(line),
            Err(status) => self.writer.event(WatchItem::Error(status)).ok(),
        }
    }
}

/// The answer that carries a watch.
pub(super) fn stream(
    api: &Api,
    watching: Watching,
    writer: Writer,
    stop: watch::Receiver<bool>,
) -> Reply {
    let open = api.inner.metrics.watcher();
    let leadership = api.inner.leadership.clone();
    let state = Streaming { watching, writer, leadership, stop, _open: open };
    let lines =
        stream::unfold(
            state,
            |mut state| async move { state.next().await.map(|line| (line, state)) },
        );
    reply::reply(200, "application/json", ReplyBody::Stream(Box::pin(lines)))
}
