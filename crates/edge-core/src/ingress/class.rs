//! Whose an Ingress is: ours, or that of another controller in the cluster.

use std::collections::BTreeSet;

use edge_api::{Object, meta};
use serde_json::{Value, json};

/// The class that every cluster has.
pub const CLASS: &str = "edged";
/// What the classes say that we serve.
pub const CONTROLLER: &str = "edged.io/ingress";
/// Marks the class of Ingresses that name none.
pub const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The forerunner of `spec.ingressClassName`.
pub const ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The class that a cluster begins with.
pub fn built_in() -> Object {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
           "metadata": {"name": CLASS, "annotations": {DEFAULT: "true"}},
           "spec": {"controller": CONTROLLER}})
}

/// Whether a class is that of Ingresses that name none.
fn is_default(class: &Object) -> bool {
    meta::annotation(class, DEFAULT) == Some("true")
}

/// The class that an Ingress names, if any.
pub fn named(ingress: &Object) -> Option<&str> {
    ingress["spec"]["ingressClassName"].as_str().or_else(|| meta::annotation(ingress, ANNOTATION))
}

/// What the IngressClasses say of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    ours: BTreeSet<String>,
    /// Whether Ingresses without a class are ours.
    nameless: bool,
}

impl Default for Classes {
    fn default() -> Classes {
        Classes::gather([])
    }
}

impl Classes {
    /// Reads all IngressClasses. As long as there is none called `edged`, it is as if it stood
    /// there as a cluster begins with it.
    pub fn gather<'a>(classes: impl IntoIterator<Item = &'a Object>) -> Classes {
        let (mut ours, mut nameless) = (BTreeSet::from([CLASS.to_owned()]), true);
        for class in classes {
            let mine = class["spec"]["controller"] == CONTROLLER;
            let name = meta::name(class);
            if name == CLASS {
                nameless = mine && is_default(class);
            }
            if mine {
                ours.insert(name.to_owned());
            } else {
                ours.remove(name);
            }
        }
        Classes { ours, nameless }
    }

    /// Whether an Ingress is for us to serve.
    pub fn ours(&self, ingress: &Object) -> bool {
        match named(ingress) {
            Some(name) => self.ours.contains(name),
            None => self.nameless,
        }
    }
}

/// The class that a new Ingress gets which names none: the default one, of several the newest.
pub fn default_of(classes: &[Object]) -> Option<&str> {
    let defaults = classes.iter().filter(|class| is_default(class));
    let age = |class: &&Object| {
        (
            meta::creation_timestamp(class).to_owned(),
            std::cmp::Reverse(meta::name(class).to_owned()),
        )
    };
    defaults.max_by_key(age).map(meta::name)
}

/// The Secrets that an Ingress names in its `tls` section.
pub fn secrets(ingress: &Object) -> impl Iterator<Item = &str> {
    let entries = ingress["spec"]["tls"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["secretName"].as_str()).filter(|name| !name.is_empty())
}

/// Whether an annotation says a plain no.
pub(super) fn says_no(ingress: &Object, key: &str) -> bool {
    meta::annotation(ingress, key) == Some("false")
}

/// Text at a value; missing reads as empty.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list; missing reads as empty.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
