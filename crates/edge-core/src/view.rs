//! The cluster as one round of controllers sees it: the objects of the kinds they decide on,
//! at one moment. Cheap to copy (objects are shared) and sorted, so that decisions replay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edge_api::kinds::{self, Kind};
use edge_api::{Object, meta};

use crate::controllers::load_balancer::LanPool;
use crate::liveness::{Liveness, Standing};

/// (namespace, name); the namespace is empty for cluster-scoped kinds.
pub type Name = (String, String);

type Objects = BTreeMap<Name, Arc<Object>>;

/// What is known of the cluster. Fed by watches, read by controllers.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// By kind: group and plural.
    kinds: BTreeMap<(&'static str, &'static str), Objects>,
    /// How each board lives, by name: empty where no beats are heard, and then a Node is believed.
    pub liveness: BTreeMap<String, Liveness>,
    /// The servers of which the leader has not heard for a while, by name: all that is known of how
    /// those live that have no Node.
    pub away: BTreeSet<String>,
    /// The board that leads, by its Node's name.
    pub leader: Option<String>,
    /// The cluster's authority, in PEM; empty where nobody says.
    pub root_ca: Arc<str>,
    /// Since when this member leads, in Unix milliseconds: what is missing since before then has
    /// been missing for longer than anybody here can tell.
    pub since_ms: i64,
    /// When Nodes went that were there before, in Unix milliseconds, by name.
    pub departed: BTreeMap<String, i64>,
    /// Addresses of the LAN that Services may have.
    pub lan_pool: LanPool,
}

fn slot(kind: &Kind) -> (&'static str, &'static str) {
    (kind.group, kind.plural)
}

impl View {
    /// Puts an object in, unless a newer state of it is there already: answers to our own
    /// writes and the watch race each other. Says whether it was news.
    pub fn put(&mut self, kind: &'static Kind, object: Arc<Object>) -> bool {
        let name = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
        let objects = self.kinds.entry(slot(kind)).or_default();
        match objects.get(&name) {
            Some(known) if meta::revision(known) > meta::revision(&object) => false,
            _ => {
                objects.insert(name, object);
                true
            }
        }
    }

    /// Takes an object out, unless what is known is newer than its end (`revision`): a name may
    /// have been given again.
    pub fn remove(&mut self, kind: &Kind, namespace: &str, name: &str, revision: u64) {
        let Some(objects) = self.kinds.get_mut(&slot(kind)) else { return };
        let name = (namespace.to_owned(), name.to_owned());
        if objects.get(&name).is_some_and(|known| meta::revision(known) <= revision) {
            objects.remove(&name);
        }
    }

    /// One object.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.kinds.get(&slot(kind))?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All objects of a kind, by namespace and name.
    pub fn list(&self, kind: &Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.kinds.get(&slot(kind)).into_iter().flat_map(|objects| objects.values())
    }

    /// The objects of a kind in one namespace, by name.
    pub fn within(&self, kind: &Kind, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        let from = (namespace.to_owned(), String::new());
        let objects = self.kinds.get(&slot(kind)).into_iter();
        objects.flat_map(move |objects| {
            let namespace = from.0.clone();
            objects
                .range(from.clone()..)
                .take_while(move |(name, _)| name.0 == namespace)
                .map(|(_, object)| object)
        })
    }

    /// The objects of a kind in one namespace whose controller is the object with this uid.
    pub fn owned(&self, kind: &Kind, namespace: &str, uid: &str) -> Vec<&Arc<Object>> {
        self.within(kind, namespace)
            .filter(|object| meta::controller(object).is_some_and(|owner| owner.uid == uid))
            .collect()
    }

    /// What is thought of a board.
    pub fn standing(&self, node: &str) -> Standing {
        self.liveness.get(node).map_or(Standing::Unheard, |known| known.standing)
    }

    /// Every object of every kind, with its kind.
    pub fn all(&self) -> impl Iterator<Item = (&'static Kind, &Arc<Object>)> {
        self.kinds.iter().flat_map(|((group, plural), objects)| {
            let kind = kinds::by_resource(group, plural);
            objects.values().filter_map(move |object| kind.map(|kind| (kind, object)))
        })
    }
}

/// A moment and a chance, handed in from outside: decisions take neither by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Unix milliseconds of cluster time.
    pub now_ms: i64,
    /// Randomness for ties.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(namespace: &str, name: &str, revision: u64) -> Arc<Object> {
        Arc::new(json!({"metadata":
            {"namespace": namespace, "name": name, "resourceVersion": revision.to_string()}}))
    }

    #[test]
    fn an_older_state_never_replaces_a_newer_one() {
        let mut view = View::default();
        view.put(kinds::POD, pod("a", "x", 7));
        view.put(kinds::POD, pod("a", "x", 5));
        view.remove(kinds::POD, "a", "x", 6);
        let known = view.get(kinds::POD, "a", "x").expect("still there");
        assert_eq!(meta::revision(known), 7);
        view.remove(kinds::POD, "a", "x", 8);
        assert!(view.get(kinds::POD, "a", "x").is_none());
    }

    #[test]
    fn a_namespace_is_only_itself() {
        let mut view = View::default();
        for (namespace, name) in [("a", "x"), ("a", "y"), ("ab", "x"), ("b", "x")] {
            view.put(kinds::POD, pod(namespace, name, 1));
        }
        assert_eq!(view.within(kinds::POD, "a").count(), 2);
        assert_eq!(view.list(kinds::POD).count(), 4);
    }
}
