//! What controllers want done. A plan is data: it can be printed, checked and compared, and
//! whoever carries it out drops the actions whose preconditions no longer hold.

use edge_api::kinds::Kind;
use edge_api::{Object, meta};
use serde_json::Value;

/// Actions of one kind of controller in one round, at most; the rest comes in the next round.
pub const MOST_ACTIONS: usize = 500;

/// One change to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make an object; its metadata names the namespace, and a name or `generateName`.
    Create {
        /// What it is.
        kind: &'static Kind,
        /// The object.
        object: Object,
    },
    /// Replace an object; it holds the `resourceVersion` that was read.
    Update {
        /// What it is.
        kind: &'static Kind,
        /// The object.
        object: Object,
        /// A subresource (`status`, `finalize`); empty for the object itself.
        sub: &'static str,
    },
    /// Delete an object, if it is still the same one.
    Delete {
        /// What it is.
        kind: &'static Kind,
        /// Its namespace, empty if it has none.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// True keeps it until what it owns is gone.
        foreground: bool,
        /// True takes it off at once, though nobody says that it has ended (grace period 0).
        force: bool,
    },
    /// Delete all objects of a kind in a namespace that is on its way out.
    DeleteAll {
        /// What they are.
        kind: &'static Kind,
        /// Where they are.
        namespace: String,
    },
    /// Put a pod on a node, if it is still the same and unbound.
    Bind {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The pod's uid.
        uid: String,
        /// The node's name.
        node: String,
    },
    /// Tell people what happened. Carries no decision.
    Event {
        /// The object that it is about.
        about: Box<Object>,
        /// `Normal` or `Warning`.
        level: &'static str,
        /// One word, as `kubectl describe` shows it.
        reason: &'static str,
        /// A sentence.
        message: String,
        /// The component that says so.
        source: &'static str,
    },
}

impl Action {
    /// Deletes `object`.
    pub fn delete(kind: &'static Kind, object: &Object) -> Action {
        Action::Delete {
            kind,
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            foreground: false,
            force: false,
        }
    }

    /// Takes `object` off at once, without waiting for whoever runs it.
    pub fn force_delete(kind: &'static Kind, object: &Object) -> Action {
        let mut action = Action::delete(kind, object);
        if let Action::Delete { force, .. } = &mut action {
            *force = true;
        }
        action
    }

    /// Replaces the status of an object.
    pub fn status(kind: &'static Kind, object: Object) -> Action {
        Action::Update { kind, object, sub: "status" }
    }

    /// Replaces an object.
    pub fn update(kind: &'static Kind, object: Object) -> Action {
        Action::Update { kind, object, sub: "" }
    }

    /// A `Normal` event.
    pub fn event(
        source: &'static str,
        about: &Object,
        reason: &'static str,
        message: String,
    ) -> Action {
        Action::Event { about: Box::new(named(about)), level: "Normal", reason, message, source }
    }

    /// A `Warning` event.
    pub fn warning(
        source: &'static str,
        about: &Object,
        reason: &'static str,
        message: String,
    ) -> Action {
        Action::Event { about: Box::new(named(about)), level: "Warning", reason, message, source }
    }
}

/// Only what an event's `involvedObject` needs.
fn named(object: &Object) -> Object {
    let field = |name: &str| object["metadata"][name].clone();
    let mut metadata = serde_json::Map::new();
    for name in ["namespace", "name", "uid", "resourceVersion"] {
        let value = field(name);
        if !value.is_null() {
            metadata.insert(name.into(), value);
        }
    }
    serde_json::json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": Value::Object(metadata),
    })
}

/// The outcome of one round of one controller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// When to look again even if nothing changes, in Unix milliseconds.
    pub wake_at_ms: Option<i64>,
}

impl Plan {
    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Looks again at `at_ms`, or earlier.
    pub fn wake(&mut self, at_ms: i64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |known| known.min(at_ms)));
    }

    /// Takes over all of another plan.
    pub fn merge(&mut self, other: Plan) {
        self.actions.extend(other.actions);
        if let Some(at) = other.wake_at_ms {
            self.wake(at);
        }
    }

    /// True when there is nothing to do now.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}
