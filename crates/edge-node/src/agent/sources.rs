//! ConfigMaps and Secrets that pods of this board use: fetched when needed, followed while a volume
//! shows them, and kept in the ledger for a board that boots with no server in reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_api::kinds::{CONFIG_MAP, Kind, SECRET};
use edge_api::{Object, meta};
use edge_client::watcher::Event;
use edge_client::{Client, WatchParams, Watcher};
use edge_core::controllers::root_ca;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ledger::Ledger;
use super::spec::env_references;
use crate::volumes::{Reference, references};

/// Namespace and object.
type Key = (String, Reference);

/// An object that volumes show, followed by a watch of its own.
struct Followed {
    users: BTreeSet<String>,
    task: JoinHandle<()>,
    /// What the watch saw last; `None` before its first answer.
    seen: Option<Option<Object>>,
}

struct Inner {
    client: Client,
    ledger: Arc<Ledger>,
    followed: Mutex<BTreeMap<Key, Followed>>,
    changed: mpsc::Sender<String>,
}

/// The one way to ConfigMaps and Secrets; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sources(Arc<Inner>);

fn kind_of(reference: &Reference) -> (&'static Kind, &str) {
    match reference {
        Reference::ConfigMap(name) => (CONFIG_MAP, name),
        Reference::Secret(name) => (SECRET, name),
    }
}

/// The objects that a pod uses, as (kind, namespace, name).
pub(crate) fn used_by(pod: &Object) -> Vec<(String, String, String)> {
    let Ok(desired) = super::worker::desired(pod) else { return Vec::new() };
    let mut all = references(desired.spec());
    for container in desired.all() {
        all.extend(env_references(container));
    }
    let secrets = desired.spec().image_pull_secrets.iter().flatten();
    all.extend(secrets.map(|s| Reference::Secret(s.name.clone())));
    let named = all.iter().map(|reference| {
        let (kind, name) = kind_of(reference);
        (kind.kind.to_owned(), desired.namespace().to_owned(), name.to_owned())
    });
    named.collect()
}

impl Sources {
    /// `changed` gets the uid of each pod that shows an object which has changed.
    pub(crate) fn new(
        client: Client,
        ledger: Arc<Ledger>,
        changed: mpsc::Sender<String>,
    ) -> Sources {
        Sources(Arc::new(Inner { client, ledger, followed: Mutex::default(), changed }))
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Key, Followed>> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as it is now, or as it last was when no server answers. `Ok(None)`: there is
    /// none.
    pub(crate) async fn fetch(
        &self,
        namespace: &str,
        reference: &Reference,
    ) -> Result<Option<Object>, String> {
        let key = (namespace.to_owned(), reference.clone());
        if let Some(Followed { seen: Some(object), .. }) = self.followed().get(&key) {
            return Ok(object.clone());
        }
        let (kind, name) = kind_of(reference);
        match self.0.client.get(kind, namespace, name).await {
            Ok(object) => {
                self.record(kind, namespace, name, Some(&object));
                Ok(Some(object))
            }
            Err(error) if error.is_not_found() => {
                self.record(kind, namespace, name, None);
                Ok(None)
            }
            Err(error) => match self.0.ledger.object(kind.kind, namespace, name) {
                Some(object) => Ok(Some(object)),
                None => Err(error.to_string()),
            },
        }
    }

    fn record(&self, kind: &Kind, namespace: &str, name: &str, object: Option<&Object>) {
        let result = match object {
            Some(object) => self.0.ledger.put_object(kind.kind, object),
            None => self.0.ledger.remove_object(kind.kind, namespace, name),
        };
        if let Err(error) = result {
            tracing::warn!("record {} {namespace}/{name} in the ledger: {error}", kind.kind);
        }
    }

    /// Follows the objects that a pod's volumes show.
    pub(crate) fn follow(&self, uid: &str, namespace: &str, references: &[Reference]) {
        for reference in references {
            // It changes once in the life of a cluster: renewing the token beside it is often
            // enough, and spares a watch for each namespace.
            if matches!(reference, Reference::ConfigMap(name) if name == root_ca::NAME) {
                continue;
            }
            let key = (namespace.to_owned(), reference.clone());
            let mut followed = self.followed();
            if let Some(entry) = followed.get_mut(&key) {
                entry.users.insert(uid.to_owned());
                continue;
            }
            let task = tokio::spawn(self.clone().watch(key.clone()));
            let users = BTreeSet::from([uid.to_owned()]);
            followed.insert(key, Followed { users, task, seen: None });
        }
    }

    /// The pod shows nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        self.followed().retain(|_, entry| {
            entry.users.remove(uid);
            if entry.users.is_empty() {
                entry.task.abort();
            }
            !entry.users.is_empty()
        });
    }

    async fn watch(self, key: Key) {
        let (kind, name) = kind_of(&key.1);
        let params = WatchParams {
            field_selector: Some(format!("metadata.name={name}")),
            ..WatchParams::default()
        };
        let mut watcher = Watcher::new(self.0.client.clone(), kind, &key.0, params);
        loop {
            let object = match watcher.next().await {
                Event::Restarted(list) => list.into_iter().find(|o| meta::name(o) == name),
                Event::Applied(object) => Some(object),
                Event::Deleted(_) => None,
            };
            self.saw(&key, object).await;
        }
    }

    async fn saw(&self, key: &Key, object: Option<Object>) {
        let users = {
            let mut followed = self.followed();
            let Some(entry) = followed.get_mut(key) else { return };
            let data = |o: Option<&Object>| o.map(|o| (o["data"].clone(), o["binaryData"].clone()));
            let before = entry.seen.as_ref().map(|seen| data(seen.as_ref()));
            let after = data(object.as_ref());
            entry.seen = Some(object.clone());
            match before {
                Some(before) if before == after => return,
                _ => entry.users.clone(),
            }
        };
        let (kind, name) = kind_of(&key.1);
        // A Secret that was deleted stays in the ledger for as long as a pod shows it.
        if object.is_some() {
            self.record(kind, &key.0, name, object.as_ref());
        }
        for uid in users {
            let _ = self.0.changed.send(uid).await;
        }
    }
}
