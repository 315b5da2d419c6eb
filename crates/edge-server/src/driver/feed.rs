//! Keeps the driver's view true to the store: one list at the start, then the watch.

use std::collections::BTreeSet;
use std::sync::Arc;

use edge_api::kinds::{self, Kind};
use edge_api::{Object, keys, meta};
use edge_core::controllers::root_ca;
use edge_core::liveness::Liveness;
use edge_core::view::View;
use edge_store::{Change, Event, ListOptions, Watch};
use serde_json::{Map, Value};

use super::Beats;
use crate::api::{Api, now_ms, read_object};

/// Kinds that no controller decides by. Events are many and their only reader is a person.
const UNSEEN: &[&str] = &["Event"];

/// Kinds of which controllers need the metadata only (owners, namespaces, finalizers): their
/// content may be large, and secret.
pub(super) const SLIM: &[&str] = &["ConfigMap", "Secret"];

/// How long it is remembered when a Node went: far longer than its pods stay.
const DEPARTED_MS: i64 = 60 * 60 * 1000;

/// The view, and the watch that feeds it.
pub(super) struct Feed {
    view: View,
    watch: Watch,
}

impl Feed {
    /// Reads everything as it is now.
    pub(super) fn open(api: &Api) -> Result<Feed, String> {
        let store = api.store();
        let listing = store.list("", ListOptions::default()).map_err(|error| error.to_string())?;
        let watch = store.watch("", listing.revision).map_err(|error| error.to_string())?;
        let mut view = View::default();
        view.since_ms = now_ms();
        view.root_ca = api.inner.root_ca.clone();
        view.leader = Some(api.inner.name.clone());
        view.lan_pool = api.inner.lan_pool.clone();
        let mut feed = Feed { view, watch };
        for entry in listing.entries {
            feed.put(&entry.key, &entry.value);
        }
        Ok(feed)
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Whether any board stands otherwise than was taken in; and whether any stands worse.
    pub(super) fn compare(&self, beats: &Beats) -> (bool, bool) {
        beats.expect(self.view.list(kinds::NODE).map(|node| meta::name(node)));
        let (before, now) = (&self.view.liveness, beats.all());
        let worth = |l: &Liveness| (l.standing, l.crashed);
        let change = |(name, l): (&String, &Liveness)| {
            let known = before.get(name).map(worth);
            (known != Some(worth(l)), known.is_some_and(|(standing, _)| standing < l.standing))
        };
        let differs = before.len() != now.len();
        now.iter().map(change).fold((differs, false), |all, one| (all.0 | one.0, all.1 | one.1))
    }

    /// Takes in how the boards live.
    pub(super) fn listen(&mut self, beats: &Beats) {
        self.view.liveness = beats.all();
    }

    /// Takes in which servers are away.
    pub(super) fn miss(&mut self, away: BTreeSet<String>) {
        self.view.away = away;
    }

    /// Takes in what has happened already; whether that was anything that controllers look at.
    /// `None` when the watch is lost.
    pub(super) fn drain(&mut self) -> Option<bool> {
        let mut any = false;
        loop {
            match self.watch.try_next() {
                Ok(Some(event)) => any |= self.take(&event),
                Ok(None) => return Some(any),
                Err(_) => return None,
            }
        }
    }

    /// Waits for something that controllers look at. False when the watch is lost.
    pub(super) async fn next(&mut self) -> bool {
        loop {
            match self.watch.next().await {
                Ok(event) if self.take(&event) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, event: &Event) -> bool {
        match event.change {
            Change::Put => self.put(&event.key, &event.value),
            Change::Delete => {
                let Some(parts) = keys::parse(&event.key) else { return false };
                let Some(kind) = seen(&event.key) else { return false };
                self.view.remove(kind, parts.namespace, parts.name, event.revision);
                if kind == kinds::NODE {
                    let (now, departed) = (now_ms(), &mut self.view.departed);
                    departed.retain(|_, at| now - *at < DEPARTED_MS);
                    departed.insert(parts.name.to_owned(), now);
                }
                true
            }
        }
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> bool {
        let Some(kind) = seen(key) else { return false };
        match read_object(bytes) {
            Ok(object) => {
                if kind == kinds::NODE {
                    self.view.departed.remove(meta::name(&object));
                }
                self.view.put(kind, Arc::new(slim(kind, object)))
            }
            Err(error) => {
                tracing::error!("controllers: {key} can't be read and is left out: {error}");
                false
            }
        }
    }
}

fn seen(key: &str) -> Option<&'static Kind> {
    keys::kind_of(key).filter(|kind| !UNSEEN.contains(&kind.kind))
}

fn slim(kind: &Kind, mut object: Object) -> Object {
    if !is_partial(kind, meta::name(&object)) {
        return object;
    }
    let mut left = Map::new();
    // A Secret's type says what may use it, and nothing of what it holds.
    for field in ["apiVersion", "kind", "metadata", "type"] {
        if let Some(value) = object.get_mut(field) {
            left.insert(field.into(), value.take());
        }
    }
    let mut object = Value::Object(left);
    meta::remove(&mut object, "annotations");
    object
}

/// The kinds whose objects in the view are only part of what is stored.
pub(super) fn is_partial(kind: &Kind, name: &str) -> bool {
    SLIM.contains(&kind.kind) && (kind != kinds::CONFIG_MAP || name != root_ca::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_leaves_its_content_outside() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "data": {"a": "b"},
            "metadata": {"name": "x", "annotations": {"k": "{data}"}, "uid": "1"}});
        let slim = slim(kinds::SECRET, secret);
        assert_eq!(
            slim,
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                                "metadata": {"name": "x", "uid": "1"}})
        );
    }

    #[test]
    fn events_are_not_looked_at() {
        assert!(seen("events/default/x").is_none());
        assert_eq!(seen("pods/default/x").map(|k| k.kind), Some("Pod"));
    }
}
