//! Watching a kind: first what there is, if that is wanted, then every change, judged by the
//! selectors before and after it. A watcher that is too slow is told to start again, so what it
//! has not read yet never piles up.

use super::options::WatchOptions;
use super::read::{Choice, read_error};
use super::{Api, events, now_ms, read_object};
use bytes::Bytes;
use edge_api::kinds::{self, Kind};
use edge_api::meta;
use edge_api::status::Status;
use edge_store::{Change, Entry, Event, Gone, ListOptions, Revision, Watch, WatchEnd};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a watcher that wants bookmarks gets one, at most.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say: this and up to as much again.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What a watcher is told.
#[derive(Debug)]
pub enum WatchItem {
    /// An object is there that was not there for this watcher.
    Added(Bytes),
    /// An object changed.
    Modified(Bytes),
    /// An object is gone, or no longer what the selectors want.
    Deleted(Bytes),
    /// Everything up to this revision has been told.
    Bookmark {
        /// The revision.
        revision: Revision,
        /// Whether this closes what there was at the start.
        initial_end: bool,
    },
    /// The watch is over for this reason.
    Error(Status),
}

/// A watch in progress.
pub struct Watching {
    choice: Choice,
    source: Source,
    initial: std::vec::IntoIter<Entry>,
    /// The bookmark that closes the initial events, if it is still owed.
    closing: Option<Revision>,
    bookmarks: bool,
    told: Revision,
    next_bookmark: Instant,
    end: Instant,
}

enum Source {
    Live(Watch),
    Refused(Status),
    Over,
}

impl Api {
    /// Watches the objects of a kind in a namespace, or in all of them when it is empty.
    pub fn watch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        options: &WatchOptions,
    ) -> Result<Watching, Status> {
        let scope = Some(namespace).filter(|n| !n.is_empty() && kind.namespaced);
        let prefix = kind.key_prefix(scope);
        let choice =
            Choice { kind, labels: options.labels.clone(), fields: options.fields.clone() };
        let mut initial = Vec::new();
        let mut from = options.from.unwrap_or(0);
        if options.from.is_none() || options.initial_events {
            let listing = self.inner.store.list(&prefix, ListOptions::default());
            let listing = listing.map_err(|error| read_error(error, None))?;
            from = listing.revision;
            initial = listing.entries;
            if kind == kinds::EVENT {
                let now = now_ms();
                initial.retain(|entry| !events::expired(&entry.value, now));
            }
            initial.extend(self.held_leases(kind, scope));
        }
        let source = match self.inner.store.watch(&prefix, from) {
            Ok(watch) => Source::Live(watch),
            Err(Gone { from, oldest, .. }) => Source::Refused(Status::too_old(from, oldest)),
        };
        let now = Instant::now();
        let lifetime = match options.timeout_seconds {
            Some(seconds) => Duration::from_secs(seconds.min(24 * 60 * 60)),
            None => LIFETIME + Duration::from_secs(self.random() % LIFETIME.as_secs()),
        };
        Ok(Watching {
            choice,
            source,
            initial: initial.into_iter(),
            closing: (options.initial_events && options.bookmarks).then_some(from),
            bookmarks: options.bookmarks,
            told: from,
            next_bookmark: now + BOOKMARK,
            end: now + lifetime,
        })
    }
}

impl Watching {
    /// The next thing to tell; `None` when the watch has ended in peace.
    pub async fn next(&mut self) -> Option<WatchItem> {
        if let Source::Refused(_) = self.source {
            let Source::Refused(status) = std::mem::replace(&mut self.source, Source::Over) else {
                return None;
            };
            return Some(WatchItem::Error(status));
        }
        for entry in self.initial.by_ref() {
            if self.choice.takes(&entry.value) {
                return Some(WatchItem::Added(entry.value));
            }
        }
        if let Some(revision) = self.closing.take() {
            return Some(WatchItem::Bookmark { revision, initial_end: true });
        }
        self.follow().await
    }

    async fn follow(&mut self) -> Option<WatchItem> {
        loop {
            let Source::Live(watch) = &mut self.source else { return None };
            tokio::select! {
                biased;
                event = watch.next() => match event {
                    Ok(event) => {
                        self.told = event.revision;
                        if let Some(item) = judge(&self.choice, &event) {
                            return Some(item);
                        }
                    }
                    Err(end) => {
                        self.source = Source::Over;
                        return ended(end, self.told);
                    }
                },
                _ = sleep_until(self.end) => {
                    self.source = Source::Over;
                    return None;
                }
                _ = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK;
                    if let Some(item) = self.bookmark() {
                        return Some(item);
                    }
                }
            }
        }
    }

    /// A bookmark for a watcher that has seen everything, unless it knows; or what it has not seen.
    fn bookmark(&mut self) -> Option<WatchItem> {
        let Source::Live(watch) = &mut self.source else { return None };
        match watch.try_next() {
            Ok(Some(event)) => {
                self.told = event.revision;
                judge(&self.choice, &event)
            }
            Ok(None) if watch.progress() > self.told => {
                self.told = watch.progress();
                Some(WatchItem::Bookmark { revision: self.told, initial_end: false })
            }
            Ok(None) => None,
            Err(end) => {
                self.source = Source::Over;
                ended(end, self.told)
            }
        }
    }
}

fn ended(end: WatchEnd, told: Revision) -> Option<WatchItem> {
    match end {
        WatchEnd::Lagged => Some(WatchItem::Error(Status::expired(format!(
            "too old resource version: {told} (this watcher reads too slowly)"
        )))),
        WatchEnd::Closed => None,
    }
}

/// What a change means to a watcher with these selectors.
fn judge(choice: &Choice, event: &Event) -> Option<WatchItem> {
    let before = event.previous.as_ref().filter(|previous| choice.takes(&previous.value));
    let removed = event.change == Change::Delete;
    match (before, removed) {
        (Some(_), true) => Some(WatchItem::Deleted(event.value.clone())),
        (None, true) => None,
        (before, false) => match (before, choice.takes(&event.value)) {
            (Some(_), true) => Some(WatchItem::Modified(event.value.clone())),
            (None, true) => Some(WatchItem::Added(event.value.clone())),
            (Some(previous), false) => Some(WatchItem::Deleted(left(previous, event.revision))),
            (None, false) => None,
        },
    }
}

/// The last state that a selector's watcher knew, at the revision at which the object left.
fn left(previous: &Entry, revision: Revision) -> Bytes {
    match read_object(&previous.value) {
        Ok(mut object) => {
            meta::set(&mut object, "resourceVersion", revision.to_string());
            object.to_string().into()
        }
        Err(_) => previous.value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_api::selector::{FieldSelector, LabelSelector};
    use serde_json::json;
    use std::sync::Arc;

    fn event(before: Option<&str>, after: Option<&str>) -> Event {
        let object = |app: &str, revision: &str| -> Bytes {
            json!({"metadata": {"labels": {"app": app}, "resourceVersion": revision}})
                .to_string()
                .into()
        };
        let key: Arc<str> = Arc::from("pods/default/a");
        let previous =
            before.map(|app| Entry { key: key.clone(), revision: 1, value: object(app, "1") });
        let change = if after.is_some() { Change::Put } else { Change::Delete };
        let value = object(after.or(before).unwrap_or_default(), "2");
        Event { revision: 2, key, change, value, previous }
    }

    #[test]
    fn a_selectors_watcher_sees_labels_come_and_go() {
        let choice = Choice {
            kind: kinds::POD,
            labels: LabelSelector::parse("app=web").unwrap(),
            fields: FieldSelector::default(),
        };
        let told = |before, after| judge(&choice, &event(before, after));
        assert!(matches!(told(None, Some("web")), Some(WatchItem::Added(_))));
        assert!(told(None, Some("db")).is_none());
        assert!(matches!(told(Some("db"), Some("web")), Some(WatchItem::Added(_))));
        assert!(matches!(told(Some("web"), Some("web")), Some(WatchItem::Modified(_))));
        assert!(matches!(told(Some("web"), None), Some(WatchItem::Deleted(_))));
        assert!(told(Some("db"), None).is_none());
        let Some(WatchItem::Deleted(last)) = told(Some("web"), Some("db")) else {
            panic!("a label change deletes")
        };
        let last = read_object(&last).unwrap();
        assert_eq!((meta::label(&last, "app"), meta::revision(&last)), (Some("web"), 2));
    }
}
