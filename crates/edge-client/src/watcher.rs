//! List, then watch, then list again when history is gone: a state machine that never ends and
//! whose every step can be interrupted, so that it fits in a `select!`.

use crate::error::Error;
use crate::http_client::Client;
use crate::params::{List, ListParams, WatchParams};
use crate::pause::{Backoff, jitter};
use crate::watch::{WatchEvent, WatchStream};
use edge_api::Object;
use edge_api::kinds::Kind;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The first pause after a failure, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(15);

/// How long one watch lasts before it is renewed, drawn between half and all of it.
const WATCH_LENGTH: Duration = Duration::from_secs(590);

/// How much later than promised the server may end a watch.
const WATCH_GRACE: Duration = Duration::from_secs(30);

/// A watch that ends sooner than this without an event counts as a failure.
const SHORT: Duration = Duration::from_secs(1);

/// What happened to the collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// All objects, as they are now. Whatever is not among them is gone.
    Restarted(Vec<Object>),
    /// One object came or changed.
    Applied(Object),
    /// One object is gone; this is its last state.
    Deleted(Object),
}

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Where the watcher is between two events.
enum State {
    /// Reading the whole collection.
    Listing(Pending<List>),
    /// Asking for changes after a revision.
    Starting(Pending<WatchStream>),
    /// Reading changes.
    Watching { stream: Box<WatchStream>, since: Instant, until: Pin<Box<Sleep>>, heard: bool },
    /// Waiting after a failure; then on from the revision, or from the beginning without one.
    Pausing(Pin<Box<Sleep>>),
}

/// Follows one collection.
pub struct Watcher {
    client: Client,
    kind: &'static Kind,
    namespace: String,
    params: WatchParams,
    state: State,
    /// The last revision seen; empty before the first list and when history is gone.
    revision: String,
    /// The newest revision ever seen: no server that is behind it is believed.
    newest: u64,
    backoff: Backoff,
    failure: Option<String>,
}

impl Watcher {
    /// A watcher of a kind in one namespace, or in all when `ns` is empty. Nothing is sent until
    /// [`Watcher::next`] is awaited.
    pub fn new(client: Client, kind: &'static Kind, ns: &str, params: WatchParams) -> Watcher {
        let list = list(client.clone(), kind, ns.to_string(), params.clone(), 0);
        Watcher {
            client,
            kind,
            namespace: ns.to_string(),
            params,
            state: State::Listing(list),
            revision: String::new(),
            newest: 0,
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LIMIT),
            failure: None,
        }
    }

    /// Why the watcher is not in touch with a server right now; `None` when it is.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The next event. Waits through failures; may be dropped and called again at any time
    /// without losing anything.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.step().await {
                return event;
            }
        }
    }

    async fn step(&mut self) -> Option<Event> {
        match &mut self.state {
            State::Listing(list) => match list.as_mut().await {
                Ok(list) => {
                    self.advance_to(list.resource_version);
                    self.recovered();
                    self.start_watch();
                    return Some(Event::Restarted(list.items));
                }
                Err(error) => self.failed(&error),
            },
            State::Starting(start) => match start.as_mut().await {
                Ok(stream) => {
                    self.failure = None;
                    let length = Duration::from_secs(u64::from(self.params.timeout_seconds));
                    self.state = State::Watching {
                        stream: Box::new(stream),
                        since: Instant::now(),
                        until: Box::pin(tokio::time::sleep(length + WATCH_GRACE)),
                        heard: false,
                    };
                }
                Err(error) => self.failed(&error),
            },
            State::Watching { stream, until, .. } => {
                let event = tokio::select! {
                    event = stream.next() => event,
                    () = until.as_mut() => None,
                };
                return self.heard(event);
            }
            State::Pausing(pause) => {
                pause.as_mut().await;
                if self.revision.is_empty() {
                    self.start_list();
                } else {
                    self.start_watch();
                }
            }
        }
        None
    }

    /// Takes in what a watch gave, or its end.
    fn heard(&mut self, event: Option<Result<WatchEvent, Error>>) -> Option<Event> {
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                self.failed(&error);
                return None;
            }
            None => {
                let State::Watching { since, heard, .. } = &self.state else { return None };
                if *heard || since.elapsed() >= SHORT {
                    self.start_watch();
                } else {
                    self.pause("the watch ended at once".to_string());
                }
                return None;
            }
        };
        if let State::Watching { heard, .. } = &mut self.state {
            *heard = true;
        }
        self.recovered();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.advance(&object);
                Some(Event::Applied(object))
            }
            WatchEvent::Deleted(object) => {
                self.advance(&object);
                Some(Event::Deleted(object))
            }
            WatchEvent::Bookmark(revision) => {
                if !revision.is_empty() {
                    self.advance_to(revision);
                }
                None
            }
        }
    }

    fn advance(&mut self, object: &Object) {
        if let Some(revision) = object["metadata"]["resourceVersion"].as_str() {
            self.advance_to(revision.to_string());
        }
    }

    fn advance_to(&mut self, revision: String) {
        self.newest = self.newest.max(revision.parse().unwrap_or(0));
        self.revision = revision;
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.failure = None;
    }

    fn failed(&mut self, error: &Error) {
        if error.is_gone() {
            // History is gone: read everything again, at once the first time.
            let again = std::mem::take(&mut self.revision).is_empty();
            if !again {
                self.start_list();
                return;
            }
        }
        self.pause(error.to_string());
    }

    fn pause(&mut self, message: String) {
        let pause = self.backoff.next();
        tracing::debug!(kind = self.kind.kind, %message, ?pause, "watch interrupted");
        self.failure = Some(message);
        self.state = State::Pausing(Box::pin(tokio::time::sleep(pause)));
    }

    fn start_list(&mut self) {
        let (client, ns) = (self.client.clone(), self.namespace.clone());
        let params = self.params.clone();
        self.state = State::Listing(list(client, self.kind, ns, params, self.newest));
    }

    fn start_watch(&mut self) {
        self.params.timeout_seconds =
            u32::try_from(jitter(WATCH_LENGTH).as_secs()).unwrap_or(u32::MAX);
        let params =
            WatchParams { resource_version: Some(self.revision.clone()), ..self.params.clone() };
        let (client, kind, ns) = (self.client.clone(), self.kind, self.namespace.clone());
        self.state =
            State::Starting(Box::pin(async move { client.watch(kind, &ns, &params).await }));
    }
}

/// The collection as it is now, and not before `newest`: after a failover the next server may be
/// behind the one before, and what was seen must not be unseen.
fn list(
    client: Client,
    kind: &'static Kind,
    ns: String,
    params: WatchParams,
    newest: u64,
) -> Pending<List> {
    let params = ListParams {
        label_selector: params.label_selector,
        field_selector: params.field_selector,
        resource_version: (newest > 0).then(|| newest.to_string()),
        ..ListParams::default()
    };
    Box::pin(async move { client.list_all(kind, &ns, &params).await })
}

#[cfg(test)]
mod tests;
